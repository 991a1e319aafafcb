"""What is to be said about a Program beside its replicas: sources, wishes, logs, host, fields not yet in force."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from reconciler.core.homes import Accept
from reconciler.engine.applying import Prepared
from reconciler.engine.controlled import Controlled
from reconciler.model.advice import root_warning
from reconciler.model.identity import Key
from reconciler.model.objects import Accepted
from reconciler.model.problems import Problem
from reconciler.model.state import Condition, ConditionStatus
from reconciler.model.support import not_yet_supported
from reconciler.ports import Journal

EXPLAINED: dict[str, str] = {
    "Invalid": "The file can no longer be read as a manifest; the last accepted spec stays in force.",
    "Conflict": "Another source declares the same name with another spec; the owner keeps it.",
    "SourceSuspect": "The source lost its manifests; nothing is stopped until it is back or the loss is confirmed.",
    "Overridden": "An operator's wish is in force instead of a part of the spec.",
    "Bound": "A QueueBinding sets the count; `replicas` is what the Program returns to without it.",
    "NotYetSupported": "Fields that are accepted and checked, and have no effect in this release.",
    "Doubtful": "Valid, and hardly meant: an unknown `$(NAME)`, a secret in the command line, a shell in between.",
    "RunsAsRoot": "The controller is root and the spec names no user.",
    "CannotStart": "The host lacks something that the spec names.",
    "WaitingToStart": "Replicas are due and wait: as many processes are starting as `maxStarting` (Config) allows.",
    "LogTrouble": "Output cannot be written to its file; it waits in the pipe.",
    "InternalError": "The controller failed over this Program; what runs is left alone, and it is tried again.",
    "SetAside": "A controller died over it, or cannot take it over: what runs is left alone, nothing of it is started.",
    "SafeMode": "The controller died three times within a minute: only accepted specs are in force.",
    "JournalUnwritable": "The state directory takes no more records; work that must not be repeated is not started.",
    "StateUnwritable": "The state directory does not take a change of this object, or its status.",
}
"""Every condition type that is given here, with what it means; the docs list them from here."""


class Finder(Protocol):
    """Where conditions about sources come from."""

    def conditions(self, accepted: Accepted) -> list[Condition]: ...


class Conditions:
    """Finds what holds of a Program now."""

    def __init__(
        self,
        sources: Finder,
        journal: Journal,
        trouble: Callable[[str], str | None],
        *,
        running_as_root: bool,
        safe_mode: bool,
        daemon: Callable[[], dict[str, Any]],
    ) -> None:
        self._sources, self._journal, self._trouble = sources, journal, trouble
        self._running_as_root, self._safe_mode, self._daemon = running_as_root, safe_mode, daemon

    def of(self, controlled: Controlled) -> list[Condition]:
        """All that holds, in a fixed order."""
        found = list(self._sources.conditions(controlled.accepted))
        overridden = controlled.overrides.texts()
        if overridden:
            found.append(_true("Overridden", "OperatorOverride", "; ".join(overridden)))
        if controlled.bound is not None:
            written = controlled.built.spec.replicas
            message = f"{controlled.bound.by} sets the count; without it, it would be the written {written}"
            found.append(_true("Bound", "QueueBinding", message))
        fields = not_yet_supported(controlled.built.spec)
        if fields:
            found.append(_true("NotYetSupported", "FieldsIgnored", f"no effect yet: {', '.join(fields)}"))
        if controlled.built.doubts:
            found.append(_true("Doubtful", "HardlyMeant", "; ".join(controlled.built.doubts)))
        if self._running_as_root and controlled.built.spec.user is None:
            found.append(_true("RunsAsRoot", "NoUserWritten", "spec.user is not set, processes run as root"))
        if controlled.aside:
            message = f"{controlled.aside}; change it, or `reconciler reset {controlled.name}` to try it again"
            found.append(_true("SetAside", "TakeoverFailed", message))
        if controlled.fault:
            found.append(_true("InternalError", "PassFailed", f"the controller's log has more: {controlled.fault}"))
        if controlled.built.problems:
            found.append(_true("CannotStart", "HostLacksSomething", "; ".join(controlled.built.problems)))
        if controlled.held and not controlled.blocked:
            count = len(controlled.held)
            which = "1 replica waits" if count == 1 else f"{count} replicas wait"
            found.append(_true("WaitingToStart", "MaxStarting", f"{which} until other processes have started"))
        found += self._log_trouble(controlled)
        if not self._journal.writable:
            found.append(_true("JournalUnwritable", "DiskRefuses", "the journal cannot be written"))
        if self._safe_mode:
            found.append(_true("SafeMode", "ControllerDied", "manifests are not read, accepted specs are in force"))
        return found

    def _log_trouble(self, controlled: Controlled) -> list[Condition]:
        messages = dict.fromkeys(
            message
            for streams in controlled.open_streams.values()
            for stream in streams
            if (message := self._trouble(stream.id))
        )
        return [_true("LogTrouble", "CannotWrite", "; ".join(messages))] if messages else []

    def warnings(self, prepared: Prepared, effective: Callable[[Mapping[str, Any]], dict[str, Any]]) -> list[Problem]:
        """What is doubtful in an input because it is this controller that would run it."""
        changed = {change.after.key for change in prepared.changes if isinstance(change, Accept)}
        return [
            root_warning(file, declared.line)
            for file, declared in prepared.request.declarations()
            if self._running_as_root
            and declared.kind == "Program"
            and Key(declared.kind, declared.name) in changed
            and "user" not in effective(declared.canonical)
        ]

    def daemon(self) -> dict[str, Any]:
        """The controller's own health."""
        return {"journalWritable": self._journal.writable, **self._daemon()}


def _true(kind: str, reason: str, message: str) -> Condition:
    return Condition(kind, ConditionStatus.TRUE, reason, message)
