"""The keeper's decisions: when to start, ping, kill and let go of the controller and the pump, and whom to tell what.

Events come in with the time, effects go out through `World`; there is no clock, no file and no process in here, so the
tests walk every cell of the table. keeper.py is the loop around it. The story of each of the two is one row of TABLE
after the other; what waits until a controller can take it is in letters.py.
"""

from __future__ import annotations

from reconciler import __version__, wire
from reconciler.keeping import handover
from reconciler.keeping.letters import Letters
from reconciler.keeping.services import FOREVER, Event, Limits, Service, State, how_it_ended, restart_delay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    # fmt: off
    class World(Protocol):
        """The effects. None of them blocks or raises."""

        def start(self, name: str, safe_mode: bool) -> int | None: ...  # its pid; None: it could not be started
        def signal(self, pid: int, name: str) -> None: ...  # to one of our two, not yet reaped: the pid is still its
        def hang_up(self) -> None: ...  # close the connection to the controller, if there is one
        def hold(self, path: str) -> None: ...
        def release(self, path: str) -> None: ...
        def notify(self, state: str) -> None: ...  # to the service manager, in sd_notify's words
        def log(self, text: str) -> None: ...
    # fmt: on


# fmt: off
TABLE: dict[State, tuple[str, ...]] = {  # the columns are the events, in their order
    #                DUE        HELLO     ENDED     LOST      REPLACE    LEAVE
    State.DOWN:     ("start",   "ignore", "ignore", "ignore", "start",   "rest"),
    State.STARTING: ("kill",    "greet",  "bury",   "mute",   "replace", "dismiss"),
    State.UP:       ("pulse",   "greet",  "bury",   "mute",   "retire",  "dismiss"),
    State.RETIRING: ("kill",    "ignore", "bury",   "ignore", "ignore",  "dismiss"),
    State.MUTE:     ("kill",    "ignore", "bury",   "ignore", "replace", "dismiss"),
    State.KILLED:   ("ignore",  "ignore", "bury",   "ignore", "ignore",  "doom"),
    State.LEAVING:  ("doom",    "ignore", "rest",   "ignore", "ignore",  "ignore"),
    State.DOOMED:   ("give_up", "ignore", "rest",   "ignore", "ignore",  "ignore"),
    State.GONE:     ("ignore",  "ignore", "ignore", "ignore", "ignore",  "ignore"),
}
# fmt: on
_COLUMN = {event: column for column, event in enumerate(Event)}

WHY_KILLED = {
    State.STARTING: "has not said hello in time",
    State.UP: "has answered none of the last pings",
    State.RETIRING: "did not make room in time",
    State.MUTE: "lost its connection and did not leave",
}


class Keeping:
    """The keeper's memory and its rules. Call the event methods, then `next_message` until it has no more.

    `former`: the document of the keeper whose place this one takes.
    """

    def __init__(self, world: World, limits: Limits, keeper_pid: int, former: dict[str, Any] | None = None) -> None:
        self._world = world
        self._limits = limits
        self._keeper_pid = keeper_pid
        self.controller = Service("controller")
        self.pump = Service("pump")
        self.exit_code: int | None = None  # set: we are leaving
        self.handing_over = False  # set: other code shall take our place as soon as no controller is there
        self.safe_mode = False
        self._handovers = 0
        self._deaths = 0  # of controllers, since the keeper started
        self._recent_deaths: list[float] = []
        self._greeted = False  # some controller was up once
        self._pings = self._unanswered = 0
        self._letters = Letters(limits.kept_exits, world.log)
        self._stop_asked = ""  # the first TERM or INT: every later controller hears of it too
        self._stop_waits_since = FOREVER
        if former is not None:
            self._restore(former)

    # ---- events ----

    def ended(self, pid: int, start_ticks: int, status: int, now: float, mark: int = 0) -> None:
        """A process was reaped: one of our two, or an orphan of some controller."""
        for service in (self.controller, self.pump):
            if pid == service.pid:
                self._world.log(f"{service} {how_it_ended(status)} after {now - service.started_at:.1f} s")
                service.pid = 0
                self._step(service, Event.ENDED, now)
                return
        self._letters.exit(pid, start_ticks, status, mark, now)

    def reaps(self, now: float) -> None:
        """From now on every process of ours whose parent is gone ends before our eyes."""
        if self._letters.reaps_since is None:
            self._letters.reaps_since = now

    def signalled(self, name: str, now: float) -> None:
        """A signal came to us."""
        if name == "USR1":
            self._replace_both(now)
        elif name == "USR2":
            if self.pump.state is State.UP:
                self._world.signal(self.pump.pid, "USR2")
        elif self.exit_code is None:
            self._pass_on("TERM" if name == "QUIT" else name, now)

    def received(self, message: wire.Message, now: float) -> None:
        """The controller said something. What breaks the contract costs it its connection."""
        self._unanswered = 0
        take = getattr(self, "_take_" + message["type"], None)
        if take is None:
            self._world.log(
                f"{self.controller} sent {message['type'][:40]!r}, which this keeper does not know; ignored"
            )
            return
        try:
            take(message, now)
        except (KeyError, TypeError, ValueError) as error:
            self.lost(f"broken {message['type']} message: {error!r}", now)

    def lost(self, why: str, now: float) -> None:
        """The connection to the controller ended (`why` is empty) or carried rubbish."""
        if why:
            self._world.log(f"{self.controller}: {why}; hanging up")
        self._world.hang_up()
        self._step(self.controller, Event.LOST, now)

    def pass_time(self, now: float) -> None:
        """Do what is due. The pump comes first: a controller is told its pid."""
        for service in (self.pump, self.controller):
            if now >= service.due:
                self._step(service, Event.DUE, now)
        if now >= self._stop_deadline():
            self._world.log("asked to stop, and no controller is there to drain: leaving; processes are left alone")
            self._leave(1, now, keep=True)

    # ---- questions ----

    @property
    def wake_at(self) -> float:
        """When `pass_time` has something to do, if nothing happens before."""
        return min(self.pump.due, self.controller.due, self._stop_deadline())

    @property
    def may_hand_over(self) -> bool:
        """Now is the time to let other code take our place: nobody talks with us."""
        return self.handing_over and self.controller.state is State.DOWN

    @property
    def finished(self) -> bool:
        """Nothing is left to keep; `exit_code` is what to leave with."""
        return self.controller.state is State.GONE and self.pump.state is State.GONE

    def next_message(self) -> wire.Message | None:
        """What to tell the controller next. Call it only when it can be sent: what it returned is not kept."""
        return self._letters.next() if self.controller.state in (State.UP, State.RETIRING) else None

    # ---- messages from the controller ----

    def _take_hello(self, message: wire.Message, now: float) -> None:
        if message["wire"] != wire.VERSION:
            self._world.log(
                f"{self.controller} speaks wire {message['wire']!r}, this keeper {wire.VERSION}: restart me"
            )
        self._step(self.controller, Event.HELLO, now)

    def _take_pong(self, message: wire.Message, now: float) -> None:
        """Any message is a sign of life; this one is nothing else."""

    def _take_ready(self, message: wire.Message, now: float) -> None:
        """Said once all is taken over, and again after a HUP, when all is read again."""
        self._world.log(f"{self.controller} is ready after {now - self.controller.started_at:.1f} s")
        self._world.notify("READY=1")

    def _take_ack(self, message: wire.Message, now: float) -> None:
        self._letters.acknowledge(message["exits"])

    def _take_hold(self, message: wire.Message, now: float) -> None:
        self._world.hold(message["fifo"])

    def _take_release(self, message: wire.Message, now: float) -> None:
        self._world.release(message["fifo"])

    def _take_sync(self, message: wire.Message, now: float) -> None:
        """It wants to know when all that it said before is done: now."""
        self._tell({"type": "synced", "n": message["n"]})

    def _take_replace(self, message: wire.Message, now: float) -> None:
        """An operator wants the code that is installed now: in place of our two, and of us (`keeper`)."""
        self.handing_over |= message["keeper"] is True and self.exit_code is None
        self._replace_both(now)

    def _take_stop(self, message: wire.Message, now: float) -> None:
        """Asked over the API; the controller drains already."""
        self._stop_asked = self._stop_asked or "TERM"
        self._world.notify("STOPPING=1")

    def _take_refuse(self, message: wire.Message, now: float) -> None:
        """It cannot work with its arguments. That ends a first start; later they are mended under what runs."""
        if self._greeted:
            self._world.log(f"{self.controller} cannot work with its arguments; processes are left alone")
        else:
            self._leave(int(message["code"]) & 0xFF, now, keep=True)  # those that a killed keeper left run on

    def _take_quit(self, message: wire.Message, now: float) -> None:
        self._leave(int(message["code"]) & 0xFF, now, keep=message.get("keep") is True)

    # ---- actions of the table ----

    def _step(self, service: Service, event: Event, now: float) -> None:
        getattr(self, "_" + TABLE[service.state][_COLUMN[event]])(service, now)

    def _ignore(self, service: Service, now: float) -> None:
        """Nothing to do, or something that cannot happen in this state: no reason to fall over."""

    def _start(self, service: Service, now: float) -> None:
        service.started_at, service.excused = now, False
        safe_mode = service is self.controller and self.safe_mode
        pid = self._world.start(service.name, safe_mode)
        if pid is None:
            self._bury(service, now)
            return
        service.pid = pid
        self._world.log(f"{service} started{' in safe mode' if safe_mode else ''}")
        if service is self.controller:
            service.state, service.due = State.STARTING, now + self._limits.hello_seconds
        else:
            service.state, service.due = State.UP, FOREVER
            self._tell({"type": "pump", "pid": pid})

    def _greet(self, service: Service, now: float) -> None:
        """It may take letters now. Said twice (it replaced itself by exec), all is told from the start."""
        service.state, service.due = State.UP, now + self._limits.ping_seconds
        self._greeted = True
        self._unanswered = 0
        welcome: wire.Message = {"type": "welcome", "wire": wire.VERSION, "keeper": self._keeper_pid}
        welcome |= {"pump": self.pump.pid, "safe_mode": self.safe_mode, "deaths": self._deaths}
        welcome |= {"version": __version__, "handover": handover.VERSION, "handovers": self._handovers}
        self._letters.begin(welcome, self._stop_asked)

    def _pulse(self, service: Service, now: float) -> None:
        if self._unanswered >= self._limits.unanswered_pings:
            self._kill(service, now)
            return
        service.due = now + self._limits.ping_seconds
        self._unanswered += 1
        if self._letters.idle:  # a controller that takes nothing shall not make us grow
            self._pings += 1
            self._tell({"type": "ping", "n": self._pings})

    def _mute(self, service: Service, now: float) -> None:
        """Without its keeper a controller leaves by itself; it gets the time to."""
        service.state, service.due = State.MUTE, now + self._limits.mute_seconds

    def _kill(self, service: Service, now: float) -> None:
        self._world.log(f"{service} {WHY_KILLED[service.state]}: killing it")
        self._world.signal(service.pid, "KILL")
        service.state, service.due = State.KILLED, FOREVER

    def _retire(self, service: Service, now: float) -> None:
        """Let it write what it has to; the next one is started when it is gone. A pump has nothing to write."""
        if service is self.pump:
            self._replace(service, now)  # while it drained nobody would hold the pipes but us
            return
        self._world.log(f"{service} is asked to make room")
        self._tell({"type": "leave"})
        service.state, service.due, service.excused = State.RETIRING, now + self._limits.drain_seconds, True

    def _replace(self, service: Service, now: float) -> None:
        """It has nothing to write yet, or cannot be asked any more."""
        self._world.log(f"{service} is replaced on request")
        self._world.signal(service.pid, "KILL")
        service.state, service.due, service.excused = State.KILLED, FOREVER, True

    def _bury(self, service: Service, now: float) -> None:
        """It is no more: work out when to start the next one, and how."""
        lived_seconds = now - service.started_at
        if lived_seconds >= self._limits.steady_seconds:
            service.score = 0
        delay_seconds = 0.0
        if not service.excused:
            delay_seconds = restart_delay(service.score, self._limits)
            service.score += 1
        service.state, service.due = State.DOWN, now + delay_seconds
        if service is self.controller:
            self._world.hang_up()
            self._judge(lived_seconds, now)

    def _dismiss(self, service: Service, now: float) -> None:
        """Let it end in good order: TERM makes the pump drain; the controller leaves when we hang up, see `_rest`."""
        service.state, service.due = State.LEAVING, now + self._limits.drain_seconds
        if service is self.pump:
            self._world.signal(service.pid, "TERM")

    def _doom(self, service: Service, now: float) -> None:
        self._world.log(f"{service} is killed, it did not leave in time")
        self._world.signal(service.pid, "KILL")
        service.state, service.due = State.DOOMED, now + self._limits.kill_seconds

    def _give_up(self, service: Service, now: float) -> None:
        self._world.log(f"{service} does not even end by SIGKILL; leaving it behind")
        self._rest(service, now)

    def _rest(self, service: Service, now: float) -> None:
        service.state, service.due = State.GONE, FOREVER
        if service is self.pump:
            self._world.hang_up()

    # ---- the rest ----

    def _judge(self, lived_seconds: float, now: float) -> None:
        """After a controller's end: is the next one to be careful, and does a wish to stop wait for it?"""
        window_seconds = self._limits.safe_mode_seconds
        if lived_seconds >= window_seconds:
            self.safe_mode = False
        if not self.controller.excused:
            self._deaths += 1
            self._recent_deaths = [at for at in self._recent_deaths if now - at < window_seconds] + [now]
            self.safe_mode |= len(self._recent_deaths) >= self._limits.safe_mode_deaths
        if self._stop_asked and (lived_seconds >= self._limits.steady_seconds or self._stop_waits_since == FOREVER):
            self._stop_waits_since = now

    def _replace_both(self, now: float) -> None:
        """Whoever asks for this has mended what there was to mend: the next ones start without a past."""
        self.safe_mode = False
        self._recent_deaths.clear()
        if self.exit_code is None:
            self._world.notify("RELOADING=1")
        for service in (self.pump, self.controller):
            service.score = 0
            self._step(service, Event.REPLACE, now)

    def _pass_on(self, name: str, now: float) -> None:
        is_up = self.controller.state is State.UP
        self._world.notify("RELOADING=1" if name == "HUP" else "STOPPING=1")
        if name in ("TERM", "INT"):
            self._stop_asked = self._stop_asked or name
            if not is_up and self._stop_waits_since == FOREVER:
                self._stop_waits_since = now
        if is_up:
            self._tell({"type": "signal", "name": name})
        else:
            self._letters.signal_later(name)

    def _stop_deadline(self) -> float:
        """When to leave without a controller that could drain. One that is up takes the time it needs."""
        if self.exit_code is not None or self.controller.state is State.UP:
            return FOREVER
        limits = self._limits
        return self._stop_waits_since + (limits.stop_seconds if self._greeted else limits.first_stop_seconds)

    def _leave(self, code: int, now: float, *, keep: bool = False) -> None:
        """`keep`: processes run on, and the pump stays with them, since nobody else holds what they write."""
        if self.exit_code is None:
            self.exit_code = code
            self._world.notify("STOPPING=1")
            self._step(self.controller, Event.LEAVE, now)
            if keep:
                self._rest(self.pump, now)
            else:
                self._step(self.pump, Event.LEAVE, now)

    def _tell(self, message: dict[str, Any]) -> None:
        if self.controller.state is State.UP:
            self._letters.post(message)

    # ---- through a replacement of the keeper ----

    def document(self) -> dict[str, Any]:
        """What the next keeper has to know; `Keeping(..., former=...)` goes on from it."""
        return {
            "controller": self.controller.document(),
            "pump": self.pump.document(),
            "letters": self._letters.document(),
            "handovers": self._handovers + 1,
            "deaths": self._deaths,
            "greeted": self._greeted,
            "stop_asked": self._stop_asked,
            "stop_waits_since": self._stop_waits_since,
        }

    def _restore(self, former: dict[str, Any]) -> None:
        self.controller.restore(former["controller"])
        self.pump.restore(former["pump"])
        self._letters.restore(former["letters"])
        self._handovers, self._deaths, self._greeted = former["handovers"], former["deaths"], former["greeted"]
        self._stop_asked, self._stop_waits_since = former["stop_asked"], former["stop_waits_since"]
