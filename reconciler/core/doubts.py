"""What is doubtful in the texts of a spec as far as that is known without a host: before anybody accepts it.

The judge is the one of the real launch (`launching.template`), so what is said here and what holds later do not differ.
What only the host can say is taken to be well: each variable that may come from elsewhere is there, and is a path.
"""

from collections.abc import Iterator

from reconciler.core.expansion import Reference, compiled
from reconciler.core.launching import Account, Doubt, Environment, Facts, clean_environment, file_values, template
from reconciler.model.program import ProgramSpec

_SOMEBODY = Account("somebody", 1, "/", "/bin/sh")
_ANY = "/"
_USUAL_NAME = str(ProgramSpec.model_fields["process_name"].default)


def doubts(name: str, spec: ProgramSpec) -> tuple[Doubt, ...]:
    """Unknown names, secrets in the command line, log paths that are not absolute."""
    texts = [*_texts(spec)]
    if not any("$" in text and text != _USUAL_NAME for text in texts) and spec.logs.path is None:
        return ()  # ten thousand manifests may be read at once, and most hold no dollar
    outer = clean_environment(_SOMEBODY, spec.inherit_env, dict.fromkeys(spec.inherit_env, _ANY))
    if spec.env_from:
        for reference in (piece for text in texts for piece in compiled(text)):
            if isinstance(reference, Reference) and reference.name:
                outer.setdefault(reference.name, _ANY)
    secret = file_values(spec)
    facts = Facts(_SOMEBODY, outer=outer, values=Environment(dict.fromkeys(secret, _ANY)), secrets=frozenset(secret))
    return template(spec, facts, name=name, uid="", revision="", state_dir=_ANY).warnings


def _texts(spec: ProgramSpec) -> Iterator[str]:
    """All texts of a spec in which names are expanded when it is started."""
    yield from spec.command
    yield from (value for value in spec.env.values() if isinstance(value, str))
    yield spec.working_dir
    yield spec.process_name
    yield spec.logs.path or ""
    yield spec.logs.stderr
