"""From what homes declare to what is in force: owns the accepted objects and changes them one settlement at a time.

A scan of a watched directory, an apply or a delete comes in; core/homes.py decides; what is accepted is on disk before
it is announced (a crash in between announces it again). It parses nothing itself, touches no process and knows no
kind's meaning. What an apply would do is asked of the same decision, with the input put in its place.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, TypeVar

from reconciler.core.homes import Accept, Change, Conflict, Remove, SourceSuspect, settle
from reconciler.engine.applying import (
    ParseMany,
    Prepared,
    Request,
    carried_over,
    hypothesis,
    judged,
    read_request,
    refuse_if_conflicting,
    set_scan,
)
from reconciler.engine.findings import News, conditions_by_key, holds, only_known_kinds
from reconciler.engine.tidying import BatchStore, Tidying
from reconciler.model.identity import Key
from reconciler.model.objects import (
    APPLYSET,
    DIRECTORY,
    Accepted,
    Declaration,
    Inventory,
    Scan,
    SetChange,
    StateWriteFailed,
)
from reconciler.model.problems import ApiError, Problem
from reconciler.model.state import Condition

KINDS = frozenset({"Program", "QueueBinding"})
RETRY_SECONDS = 5.0
PORTION = 10
MANY_STORED = 100  # of so many objects nobody waits for the files
OFF_LOOP = 2000  # from so many objects on a settlement is computed in a thread: 1 us each, and the loop has 50 ms

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Store(BatchStore, Protocol):
    """The part of the state directory that intake writes."""

    def load_accepted(self) -> tuple[dict[Key, Accepted], list[Problem]]: ...
    def load_applied(self) -> tuple[dict[str, Inventory], dict[str, dict[Key, Declaration]], list[Problem]]: ...
    def replay_incoming(self) -> list[Problem]: ...
    def commit_incoming(self, change: SetChange) -> None: ...
    def write_accepted(self, items: Sequence[Accepted]) -> None: ...
    def retire_accepted(self, keys: Collection[Key]) -> None: ...


class Directory(Protocol):
    """A watched home."""

    @property
    def home(self) -> str: ...
    async def start(self, deliver: Callable[[Scan], Awaitable[None]]) -> None: ...
    async def rescan(self, *, settled: bool = False) -> Scan: ...
    async def close(self) -> None: ...


class Intake:
    """Keeps `objects`, what is in force by key, and tells `announce` whenever that changes."""

    def __init__(
        self,
        store: Store,
        announce: Callable[[Sequence[Change]], None],
        directories: Sequence[Directory],
        parse_many: ParseMany,
        uid_factory: Callable[[Key], str] = lambda _: str(uuid.uuid4()),
        *,
        wall: Callable[[], float] = lambda: 0.0,
        read: bool = True,
        is_busy: Callable[[], bool] = lambda: False,
        sparing: Callable[[int], AbstractContextManager[object]] = lambda changes: nullcontext(),
    ) -> None:
        """`directories` in the order of `-f`. `read` False (safe mode): they are not, what is in force stays so.

        `wall` is the wall clock, for the date of a new object. What nobody waits for is left while others are busy, as
        `is_busy` says. `sparing` is entered around the announcement of so many changes.
        """
        self._store, self._parse_many, self._announce = store, parse_many, announce
        self._uid_factory, self._wall, self._sparing = uid_factory, wall, sparing
        self._directories = {directory.home: directory for directory in directories} if read else {}
        # Until its first scan a home says nothing about absence.
        self._scans = {each.home: Scan(each.home, present=False, tentative=True) for each in directories}
        self.objects: dict[Key, Accepted] = {}
        self.unsaved = ""  # why the last settlement could not be written down
        self._unsaved_keys: frozenset[Key] = frozenset()
        self._retry_timer: asyncio.TimerHandle | None = None
        self._inventories: dict[str, Inventory] = {}
        self._stored: dict[str, dict[Key, Declaration]] = {}
        self._load_problems: list[Problem] = []
        self._standing: tuple[Change, ...] = ()
        self._said: dict[Key, list[Condition]] = {}  # what `_standing` says about each object
        self._news = News()
        self._settling = asyncio.Lock()
        self.tidying = Tidying(store, self._settling, is_busy)
        self._begun: set[asyncio.Task[Any]] = set()

    # --- starting and ending ------------------------------------------------------------------------------------------

    def restore(self) -> list[Accepted]:
        """Read what is in force and what was applied; blocking, before anything runs."""
        self._load_problems = self._replay()
        self.objects, problems = self._store.load_accepted()
        self._inventories, self._stored, more = self._store.load_applied()
        self._load_problems += [*problems, *more]
        return list(self.objects.values())

    def _replay(self) -> list[Problem]:
        try:
            return self._store.replay_incoming()
        except StateWriteFailed as error:
            # It is committed, so it will happen: with the next apply, or at the next start.
            return [Problem(error.path, 0, 1, "", f"committed, but not yet in its place: {error}", severity="warning")]

    async def start(self) -> None:
        """Settle what was applied, read all directories and go on watching them."""
        self.tidying.begin()
        await self.settle_again()
        for directory in self._directories.values():
            await directory.start(self.take_scan)

    async def close(self) -> None:
        """Stop watching."""
        for directory in self._directories.values():
            await directory.close()
        await self.tidying.close()

    @property
    def is_settling(self) -> bool:
        """Whether it is at the middle of a change."""
        return self._settling.locked() and not self.tidying.holds_lock

    async def take_scan(self, scan: Scan) -> None:
        """A home looks different now."""
        async with self._settling:
            self._scans[scan.home] = only_known_kinds(scan, KINDS)
            await self._settle()

    # --- settling -----------------------------------------------------------------------------------------------------

    async def settle_again(self) -> None:
        """Look at everything once more: at the start, and when the disk may take again what it refused."""
        async with self._settling:
            await self._settle()

    async def _settle(
        self, confirmed: Collection[str] = frozenset(), preferred: Mapping[Key, str] | None = None
    ) -> None:
        scans = list(self._scans.values())
        await self._carry_out(await self._off_loop(self._decided, self.objects, scans, confirmed, preferred))
        advice = (said for scan in self._scans.values() for reading in scan.files.values() for said in reading.advice)
        self._news.tell([*self.problems(), *advice], self._standing)

    def _decided(
        self,
        objects: Mapping[Key, Accepted],
        scans: Sequence[Scan],
        confirmed: Collection[str],
        preferred: Mapping[Key, str] | None,
    ) -> tuple[Change, ...]:
        return settle(objects, scans, self._set_scans(), confirmed, preferred)

    async def _off_loop(self, decide: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Decide in a thread when there is much to look at. What it looks at is replaced, never changed in place."""
        files = sum(len(scan.files) for scan in self._scans.values())
        if len(self.objects) + files + sum(map(len, self._stored.values())) > OFF_LOOP:
            return await asyncio.to_thread(decide, *arguments, **options)
        return decide(*arguments, **options)

    async def _carry_out(self, changes: Sequence[Change]) -> None:
        """Write down, then announce. What cannot be written is not in force; it is tried again."""
        standing = tuple(change for change in changes if not isinstance(change, Accept | Remove))
        tried = [change for change in changes if isinstance(change, Accept | Remove)]
        done, failure = await asyncio.to_thread(self._write_down, tried) if tried else ([], None)
        news = self._note_failure(failure, tried) or self._standing != standing
        if self._standing != standing:
            self._standing, self._said = standing, conditions_by_key(standing)
        # Ten thousand are announced by portions: whoever listens shall not hold up the loop. And not before all are
        # written: a thread that writes while this one decides waits for the interpreter after each call of the kernel.
        with self._sparing(len(done)):
            for start in range(0, len(done), PORTION):
                self._tell(done[start : start + PORTION])
                await asyncio.sleep(0)
        if news:
            self._tell(standing)
        self.tidying.begin()

    def _tell(self, changes: Sequence[Change]) -> None:
        try:
            self._announce(changes)
        except Exception:
            # They are in force and on disk; one that trips a listener must not keep the others from being heard.
            log.exception("a change was accepted, but not everybody who was told of it coped")

    def _write_down(self, tried: Sequence[Accept | Remove]) -> tuple[list[Change], StateWriteFailed | None]:
        """Put changes on disk and then in `objects`. Runs in a thread, under the lock that the caller holds."""
        accepts = [self._named(change) for change in tried if isinstance(change, Accept)]
        removes = [change for change in tried if isinstance(change, Remove)]
        objects = dict(self.objects)
        done: list[Change] = []
        failure: StateWriteFailed | None = None
        try:
            if accepts:
                self._store.write_accepted([change.after for change in accepts])
                objects.update((change.after.key, change.after) for change in accepts)
                done += accepts
            if removes:
                self._store.retire_accepted([change.before.key for change in removes])
                for change in removes:
                    objects.pop(change.before.key, None)
                done += removes
        except StateWriteFailed as error:
            failure = error
        self.objects = objects
        return done, failure

    def _named(self, change: Accept) -> Accept:
        if change.after.uid:
            return change
        return change._replace(
            after=replace(change.after, uid=self._uid_factory(change.after.key), created_at=self._wall())
        )

    def _note_failure(self, failure: StateWriteFailed | None, tried: Sequence[Accept | Remove]) -> bool:
        before = self.unsaved
        self.unsaved = str(failure) if failure else ""
        keys = (change.after.key if isinstance(change, Accept) else change.before.key for change in tried)
        self._unsaved_keys = frozenset(keys) if failure else frozenset()
        if failure is not None:
            if self.unsaved != before:  # it is tried again and again; `problems` says so all the time
                log.error("not in force: %s", failure)
            if self._retry_timer is None:
                self._retry_timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)
        return before != self.unsaved

    def _retry(self) -> None:
        self._retry_timer = None
        if self.unsaved:
            self._begin(self.settle_again())

    def _set_scans(self) -> list[Scan]:
        names = sorted({*self._inventories, *self._stored})
        return [set_scan(name, self._inventories.get(name), self._stored.get(name, {})) for name in names]

    # --- what users ask -----------------------------------------------------------------------------------------------

    async def prepare_apply(self, body: Mapping[str, Any]) -> Prepared:
        """What applying this would do: the answer to a dry run and to `diff`. Raises ApiError for what is refused."""
        request = await read_request(body, self._parse_many, list(self._scans), KINDS)
        return await self._prepare(request)

    async def _prepare(self, request: Request) -> Prepared:
        if len(request.readings) + len(request.declared()) > OFF_LOOP:
            return await asyncio.to_thread(self._judge, request, dict(self._scans))
        return await self._off_loop(self._judge, request, dict(self._scans))

    def _judge(self, request: Request, watched: Mapping[str, Scan]) -> Prepared:
        scans, sets, change = hypothesis(request, self.objects, watched, self._inventories, self._stored)
        confirmed = request.confirmed(self._standing)
        changes = settle(self.objects, scans, sets, confirmed, request.takers())
        refuse_if_conflicting(request, changes)
        return judged(request, self.objects, changes, change, confirmed)

    async def commit(self, prepared: Prepared) -> Prepared:
        """Carry it out. One commit point: before it nothing, after it everything, whatever happens."""
        return await self._to_its_end(self._commit(prepared.request))

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """A client that hangs up cancels its request, but not what was begun: it would be on disk and not announced."""
        return await asyncio.shield(self._begin(work))

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    async def _commit(self, request: Request) -> Prepared:
        async with self._settling:
            # Something else may have been accepted since: what is committed is judged on what is in force now.
            prepared = await self._prepare(request)
            if prepared.change is not None:
                await self._commit_sets(prepared.change)
            await self._settle(preferred=request.takers())
        for home in request.homes:
            directory = self._directories.get(home)
            if directory is not None:
                await directory.rescan(settled=True)
        if request.homes or request.allow_empty:
            async with self._settling:
                await self._settle(request.confirmed(self._standing), request.takers())
        return prepared

    async def delete(self, key: Key, *, dry_run: bool = False) -> None:
        """Remove an applied object, or one whose source has lost it. Raises ApiError."""
        await self._to_its_end(self._delete(key, dry_run=dry_run))

    async def _delete(self, key: Key, *, dry_run: bool) -> None:
        async with self._settling:
            accepted = self.objects.get(key)
            if accepted is None:
                raise ApiError(404, 3, "NotFound", f"{key} is not known")
            if accepted.home.startswith(DIRECTORY) and self._is_declared(accepted):
                message = f"{key} comes from a watched directory; delete it from {accepted.place}"
                raise ApiError(409, 6, "OwnedByDirectory", message)
            if dry_run:
                return
            if accepted.home.startswith(APPLYSET):
                await self._commit_sets(self._without(accepted))
                await self._settle()
            if self.objects.get(key) is accepted:
                await self._carry_out([Remove(accepted), *self._standing])
            if self.unsaved and self.objects.get(key) is accepted:
                raise ApiError(507, 1, "StateWriteFailed", self.unsaved)

    def _is_declared(self, accepted: Accepted) -> bool:
        """Whether its file still stands for it, readable or not."""
        scan = self._scans.get(accepted.home)
        if scan is None:
            return False  # its directory is not watched any more
        if not scan.present and not scan.error and not scan.tentative:
            return False
        reading = scan.files.get(accepted.file)
        return not scan.trusted or (reading is not None and not accepted.suspect)

    def _without(self, accepted: Accepted) -> SetChange:
        name, key = accepted.home.removeprefix(APPLYSET), accepted.key
        inventory = self._inventories.get(name, Inventory(name, tuple(self._stored.get(name, {}))))
        members = tuple(member for member in inventory.members if member != key)
        return SetChange(name, (), (key,), (inventory._replace(members=members),))

    async def _commit_sets(self, change: SetChange) -> None:
        try:
            await asyncio.to_thread(self._store.commit_incoming, change)
        except StateWriteFailed as error:
            raise ApiError(507, 1, "StateWriteFailed", f"nothing was applied: {error}") from error
        self._stored = await asyncio.to_thread(carried_over, change, self._stored)
        self._inventories = {**self._inventories, **{each.applyset: each for each in change.inventories}}
        if len(change.stored) >= MANY_STORED:
            return  # it has happened; what it becomes on disk is left to `tidying`
        for problem in await asyncio.to_thread(self._replay):
            log.warning("%s", problem)

    async def rescan(self) -> dict[str, Any]:
        """Read all watched directories now."""
        scans = [await directory.rescan() for directory in self._directories.values()]
        problems = [problem.as_dict() for problem in self.problems()]
        return {"scanned": sum(len(scan.files) for scan in scans), "problems": problems}

    # --- what there is to say -----------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Everything wrong with what the homes declare, and with writing it down."""
        found = [problem for scan in self._scans.values() for problem in scan.all_problems()]
        found += self._load_problems
        found += [change.as_problem() for change in self._standing if isinstance(change, Conflict)]
        if self.unsaved:
            found.append(Problem("", 0, 1, "", self.unsaved, "nothing that changed meanwhile is in force"))
        return found

    def sources(self) -> list[dict[str, Any]]:
        """Each home: whether its losses are believed, and how many files it has."""
        suspects = {change.home: change for change in self._standing if isinstance(change, SourceSuspect)}
        known = {scan.home: scan for scan in (*self._scans.values(), *self._set_scans())}
        homes = dict.fromkeys([*known, *suspects])
        return [
            {
                "home": home if home.startswith(DIRECTORY) else f"applyset:{home.removeprefix(APPLYSET)}",
                "suspect": home in suspects,
                "message": suspects[home].message if home in suspects else "",
                "files": len(known[home].files) if home in known else 0,
            }
            for home in homes
        ]

    def conditions(self, accepted: Accepted) -> list[Condition]:
        """What is to be said about one object because of where it comes from."""
        found = list(self._said.get(accepted.key, ()))
        if accepted.key in self._unsaved_keys:
            found.append(holds("StateUnwritable", "CannotWrite", f"a change of it is not in force: {self.unsaved}"))
        return found
