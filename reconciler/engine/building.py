"""From an accepted object to what can be started: spec, facts of the host, revision, template.

The only place of the engine that knows launches. What the host lacks (a user, a file) is no error here: it becomes the
reason why a start fails, and is looked at again at the next start.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from reconciler.core import launching, outputs
from reconciler.core.launching import Facts
from reconciler.engine.controlled import Built, Controlled
from reconciler.model.advice import doubtful
from reconciler.model.launch import NOBODY, Credentials, Launch
from reconciler.model.manifest import merged, understood
from reconciler.model.objects import Accepted
from reconciler.model.program import ProgramSpec
from reconciler.model.revision import revision as revision_of
from reconciler.ports import SpawnFailed, Stream

NOT_UNDERSTOOD = "another release accepted {} in a way that this one does not understand; hand in the manifest again"


class Surroundings(Protocol):
    """What the host says about what a spec names: users, links, contents of files."""

    def read(self, name: str, spec: ProgramSpec) -> Facts:
        """The facts now. Never raises for what a host can do to it: `problems` says."""
        ...

    def fingerprint(self, name: str) -> tuple[Any, ...]:
        """Cheap; other than `Facts.fingerprint` when something that was read has changed. Empty: nothing was."""
        ...

    def forget(self, name: str) -> None:
        """The Program is gone."""
        ...


class Builder:
    """Makes Built from Accepted, and Launches and Streams from Built."""

    def __init__(
        self,
        surroundings: Surroundings,
        state_dir: str,
        defaults: Mapping[str, Any],
        policy: outputs.Policy = outputs.AS_WRITTEN,
    ) -> None:
        self._surroundings = surroundings
        self._state_dir = state_dir
        self._defaults = defaults
        self._policy = policy

    def effective(self, canonical: Mapping[str, Any]) -> dict[str, Any]:
        """The spec as written, over the defaults of the configuration."""
        return merged(canonical, self._defaults)

    def spec(self, accepted: Accepted) -> ProgramSpec:
        """What it asks for, as far as this release understands it."""
        return understood(self.effective(accepted.canonical))[0]

    def build(self, accepted: Accepted, count: int | None = None) -> Built:
        """Read the surroundings and make what can be started. `count`: the one in force, where not the written one."""
        canonical = self.effective(accepted.canonical)
        spec, strange = understood(canonical)
        facts = self._surroundings.read(accepted.name, spec)
        if strange:
            # Without one of them it might run as somebody else: what runs is looked after, nothing is started.
            facts = replace(
                facts, problems=(*facts.problems, NOT_UNDERSTOOD.format(", ".join(strange))), startable=False
            )
        revision = revision_of(canonical, facts.digests, count)
        template = None
        if facts.startable:
            template = launching.template(
                spec,
                facts,
                name=accepted.name,
                uid=accepted.uid,
                revision=revision,
                state_dir=self._state_dir,
                policy=self._policy,
            )
        doubts = (*map(str, template.warnings if template else ()), *doubtful(spec))
        return Built(spec, revision, template, facts.problems, dict(facts.digests), facts.fingerprint, doubts)

    def fingerprint(self, name: str) -> tuple[Any, ...]:
        """What `built.fingerprint` would be now."""
        return self._surroundings.fingerprint(name)

    def forget(self, name: str) -> None:
        """The Program is gone."""
        self._surroundings.forget(name)

    def launch(self, controlled: Controlled, revision: str, ordinal: int) -> Launch:
        """How this ordinal is started at this revision. Raises SpawnFailed with what the host lacks."""
        template = controlled.templates.get(revision)
        if template is None:
            built = self.build(controlled.accepted, controlled.count)
            if built.template is None or built.revision != revision:
                raise SpawnFailed("; ".join(built.problems) or "its surroundings are changing")
            controlled.built = built
            template = controlled.templates[revision] = built.template
        return launching.launch(template, ordinal, controlled.desired.replicas)

    def run_once(self, controlled: Controlled, revision: str) -> bool:
        """Whether a process of this revision takes one piece of work."""
        template = controlled.templates.get(revision)
        return controlled.built.spec.run_once if template is None else template.run_once

    def streams(self, controlled: Controlled, revision: str, ordinal: int) -> tuple[Stream, ...]:
        """The log streams of this ordinal."""
        template = controlled.templates.get(revision) or controlled.built.template
        if template is None:
            return ()
        return tuple(Stream(*t) for t in launching.streams(template, ordinal, controlled.desired.replicas))

    def surroundings_of(self, controlled: Controlled) -> tuple[str, Mapping[str, str], Credentials | None]:
        """Directory, variables and ids of its processes, as far as no ordinal is needed to tell."""
        template, spec = controlled.built.template, controlled.built.spec
        if template is None:  # of whom the user is not known, nothing is read that not everybody may read
            return spec.working_dir, launching.written_values(spec), None if spec.user is None else NOBODY
        directory = template.directory if isinstance(template.directory, str) else spec.working_dir
        return directory, template.environment, template.settings.credentials

    def log_rows(self, controlled: Controlled, ordinal: int) -> list[dict[str, Any]]:
        """Where the output of this ordinal goes now, and how it looks there."""
        streams = self.streams(controlled, controlled.built.revision, ordinal)
        return [
            {"program": controlled.name, "ordinal": ordinal, "stream": s.stream, "path": s.path, "format": s.format}
            for s in streams
        ]

    def streams_follow_count(self, controlled: Controlled) -> bool:
        """Whether a change of the count changes the streams that stand already."""
        template = controlled.built.template
        return template is not None and outputs.follow_count(template.outputs)

    def process_name(self, controlled: Controlled, ordinal: int) -> str:
        """What the process is called for display."""
        template = controlled.built.template
        if template is None:
            return f"{controlled.name}-{ordinal}"
        return launching.process_name(template, ordinal, controlled.desired.replicas)


def keep_templates(controlled: Controlled) -> None:
    """Add the current revision's template; drop those of revisions that nothing runs or last ran."""
    ledger = controlled.ledger
    used = {p.revision for p in ledger.observed.processes.values()}
    used |= {h.last_exit.revision for h in ledger.memory.histories.values() if h.last_exit is not None}
    built = controlled.built
    kept = {revision: t for revision, t in controlled.templates.items() if revision in used}
    if built.template is not None:
        kept[built.revision] = built.template
    controlled.templates = kept
