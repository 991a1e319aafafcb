"""What is done to a fleet in a chaos run, and when: drawn from a seed, so that a schedule can be repeated.

A step is a few edits or verbs at random moments, and then deaths. What a step meets when it comes depends on the
machine; whom it looks for, and when it comes, does not.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from support.chaos_fleet import PASSING, Fleet, Wish
from support.chaos_house import House, one_of
from support.chaos_ledger import Ledger, boot_time

# Who dies together, and how often. "again": the one that is started next, while it starts.
DEATHS: dict[tuple[str, ...], int] = {
    ("controller",): 40,
    ("pump",): 18,
    ("keeper",): 12,
    ("controller", "pump"): 8,
    ("controller", "again"): 10,
    ("controller", "again", "again"): 4,
    ("pump", "controller", "again"): 3,
    ("keeper", "controller"): 3,
    ("keeper", "controller", "pump"): 4,
    ("pump", "keeper"): 2,
    # "some": processes of Programs, so that their ends are under way when the next one dies.
    ("some", "controller"): 8,
    ("some", "controller", "again"): 3,
    ("some", "keeper"): 2,
    # Orderly ones, alone and in the middle of a death.
    ("reexec",): 6,
    ("reexec --keeper",): 5,
    ("reexec", "controller"): 2,
    ("reexec --keeper", "controller"): 2,
    ("reexec --keeper", "pump"): 1,
    ("reexec --keeper", "keeper"): 1,
    ("keep",): 4,
    ("keep", "keeper"): 1,
}
DYING = ("controller", "pump", "keeper")
LONG_RUNNING = ("web", "talk", "chat", "deaf")  # of run-once work the ledger's order says whether two overlap
LOAD_SECONDS = 0.5
REVIVAL_SECONDS = 0.4


@dataclass
class Step:
    """One step: its number, its own luck, and what it came to (for the report of a fault)."""

    number: int
    random: Random
    told: list[str] = field(default_factory=list)


class Acts:
    """Carries out steps. `found` gets what goes wrong at once."""

    def __init__(self, house: House, fleet: Fleet, ledger: Ledger, found: Callable[[str], None]) -> None:
        self.house, self.fleet, self.ledger, self.found = house, fleet, ledger, found
        self._asking: list[threading.Thread] = []

    def carry_out(self, step: Step) -> None:
        """Edits, verbs and other mishaps; then deaths; then, mostly, the time to come back."""
        random = step.random
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            time.sleep(random.uniform(0, LOAD_SECONDS / 3))
            act = random.choices(list(ACTS), list(ACTS.values()))[0]
            began = boot_time()
            step.told.append(f"{began:.2f} {getattr(self, act)(of_its_own(random))}")
        time.sleep(random.uniform(0, LOAD_SECONDS))
        self.deaths(step)
        self.ledger.read()
        if random.random() < 0.7 and not self.house.until_up():
            self.found("the daemon did not come back")

    def deaths(self, step: Step) -> None:
        random = step.random
        names = random.choices(list(DEATHS), list(DEATHS.values()))[0]
        for name in names:
            step.told.append(f"{boot_time():.2f} {name} dies" if name in DYING else f"{boot_time():.2f} {name}")
            if name == "again":
                self._kill_again(of_its_own(random))
            elif name == "some":
                self._kill_some(of_its_own(random))
            elif name == "keep":
                self.house.shut_down_and_keep(wait=names[-1] == "keep")
            elif name.startswith("reexec"):
                self.house.reexec(keeper=name.endswith("keeper"))
            else:
                self.house.kill(name)
            time.sleep(random.choice((0, 0, random.uniform(0, 0.05))))
        if self.house.keeper_left_by_itself:
            self.found("the keeper left by itself")
        if not self.house.keeper_lives:
            time.sleep(random.uniform(0, REVIVAL_SECONDS))
            step.told.append(f"{boot_time():.2f} run again")
            self.house.launch()

    def _kill_again(self, random: Random) -> None:
        """The next controller, somewhere between its first instruction and its first pass."""
        before = self.house.started().get("controller")
        deadline = time.monotonic() + 1.0
        while self.house.started().get("controller") == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.7))
        self.house.kill("controller")

    def _kill_some(self, random: Random) -> None:
        self.ledger.read()
        for life in [life for name in LONG_RUNNING for life in self.ledger.alive(name)]:
            if random.random() < 0.5:
                self.house.kill_life(life)

    # ---- what else happens ----

    def edit(self, random: Random) -> str:
        return self.fleet.edit(random)

    def edit_twice(self, random: Random) -> str:
        """Faster than anybody reads."""
        return f"{self.fleet.edit(random)}, {self.fleet.edit(random)}"

    def kill_one(self, random: Random) -> str:
        """A process of a Program dies."""
        self.ledger.read()
        life = one_of([x for name in LONG_RUNNING for x in self.ledger.alive(name)], random)
        if life is None:
            return "kill nobody"
        self.house.kill_life(life)
        return f"kill {life.program}/{life.ordinal}"

    def stranger(self, random: Random) -> str:
        """While no controller lives a process dies, and its number goes to a stranger."""
        self.ledger.read()
        life = one_of([x for name in ("web", "talk") for x in self.ledger.alive(name)], random)
        if life is None:
            return "no stranger"
        self.house.kill("controller")
        return f"stranger for {life.program}/{life.ordinal}: {self.house.replace_by_stranger(life)}"

    def operate(self, random: Random) -> str:
        verb, name, body = random.choice(
            (
                ("restart", "web", {}),
                ("restart", "talk", {"now": True}),
                ("restart", "chat", {"ordinals": [0]}),
                ("stop", "web", {"ordinals": [0], "for": 0.5}),
                ("stop", "mail", {"for": 0.3}),
                ("stop", "deaf", {"now": True, "for": 0.3}),
                ("scale", "talk", {"replicas": 2, "for": 0.5}),
                ("scale", "web", {"replicas": 3, "for": 0.5}),
                ("reset", "web", {}),
            )
        )
        self._ask(lambda: self.house.ask(verb, name, **body))
        return f"{verb} {name} {body}"

    def apply(self, random: Random) -> str:
        """Hand in, or delete, while somebody dies: the answer may not come, and then it may be done or not."""
        name = random.choice(PASSING)
        if any(thread.name == name and thread.is_alive() for thread in self._asking):
            return f"{name} is being asked for"
        wish = self.fleet.next_wish(name, random)
        self._ask(lambda: self.wish(name, wish), name)
        return f"apply {name} {wish}"

    def wish(self, name: str, wish: Wish | None) -> None:
        """Apply or delete one of the passing Programs, whoever answers."""

        def call() -> None:
            if wish is None:
                self.house.client.delete(name)
            else:
                document = {"file": "-", "text": self.fleet.manifest_of(name, wish), "baseDir": str(self.house.folder)}
                self.house.client.apply({"documents": [document]})

        self.fleet.ask(name, wish, call)

    def stall(self, random: Random) -> str:
        name, seconds = random.choice(("keeper", "pump", "controller")), random.choice((0.02, 0.1, 0.1, 0.5))
        self.house.stall(name, seconds)
        return f"stall {name} {seconds}"

    def _ask(self, call: Callable[[], object], name: str = "") -> None:
        thread = threading.Thread(target=call, name=name, daemon=True)
        thread.start()
        self._asking = [each for each in self._asking if each.is_alive()] + [thread]

    def settle(self) -> None:
        """Everybody who asked has had an answer, or none; then it is asked again, until there is one."""
        for thread in self._asking:
            thread.join()
        self._asking.clear()
        for name, wishes in self.fleet.passing.items():
            if len(wishes) > 1:
                self.wish(name, wishes[-1])


def of_its_own(luck: Random) -> Random:
    """Luck for who draws from it as often as what it meets takes: those who draw after it shall not notice."""
    return Random(luck.random())


ACTS = {"edit": 8, "edit_twice": 2, "kill_one": 4, "stranger": 1, "operate": 4, "apply": 6, "stall": 2}
