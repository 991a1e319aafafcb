"""A manifest that has been read, the kinds there are, and how a stored spec becomes attributes again.

`canonical` is the user's half: only what was written, in one notation, so that an absent field stays absent over
releases and defaults. It is what gets stored, compared and hashed. `spec` is the same with defaults, for the rest of
the house to work with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from reconciler.model.binding import QueueBindingSpec
from reconciler.model.fields import FAULTS, Account, EndlessDuration, Filled, Kept, Path, Spec, Whole
from reconciler.model.node import Node
from reconciler.model.program import ProgramFields, ProgramSpec
from reconciler.model.state import NEVER

API_VERSION = "reconciler/v1"
LIST_KIND = "List"


class Access(Spec):
    """Who may use the socket beside its owner."""

    groups: tuple[Account, ...] = ()


class Defaults(Spec):
    """What manifests need not repeat."""

    program: Annotated[dict[str, Any], Kept(ProgramFields)] = Field(default_factory=dict)


class Config(Spec):
    """The settings of one controller."""

    manifests: tuple[Path, ...] = ()
    listen: Filled | None = None
    access: Access = Access()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    shutdown_timeout: EndlessDuration = NEVER
    max_starting: Whole | None = None  # None: 4 for each CPU; 0: no bound
    defaults: Defaults = Defaults()


AnySpec = ProgramSpec | QueueBindingSpec | Config

KINDS: dict[str, type[ProgramSpec] | type[QueueBindingSpec] | type[Config]] = {
    "Program": ProgramSpec,
    "QueueBinding": QueueBindingSpec,
    "Config": Config,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as its file declares it."""

    kind: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: AnySpec
    canonical: dict[str, Any]
    file: str
    line: int
    written: Node | None = None  # the spec as it stands in the file; None: there is none


def program_from_canonical(canonical: Mapping[str, Any]) -> ProgramSpec:
    """The spec with its defaults. Raises pydantic.ValidationError (a ValueError) when another release wrote it."""
    return ProgramSpec.model_validate(canonical)


def binding_from_canonical(canonical: Mapping[str, Any]) -> QueueBindingSpec:
    """The same for a QueueBinding."""
    return QueueBindingSpec.model_validate(canonical)


STAND_IN = ProgramSpec(command=("false",), working_dir="/")
"""Of a Program whose spec nothing can be made of. It is never started."""


def understood(canonical: Mapping[str, Any]) -> tuple[ProgramSpec, tuple[str, ...]]:
    """The spec as far as this release understands it, and the fields that it does not.

    What was accepted once was understood by the release that accepted it. Another one, older or stricter, has to look
    after what runs all the same; whoever leaves a field out must not start anything.
    """
    left = dict(canonical)
    strange: list[str] = []
    while left:
        try:
            return program_from_canonical(left), tuple(strange)
        except ValidationError as error:
            fields = _fields_of(error) & left.keys() or left.keys()
        strange += sorted(fields)
        left = {name: value for name, value in left.items() if name not in fields}
    return STAND_IN, tuple(strange)


def _fields_of(error: ValidationError) -> set[str]:
    """The fields at the top that an error is about."""
    found: set[str] = set()
    for detail in error.errors(include_url=False, include_input=False):
        if detail["loc"]:
            found.add(str(detail["loc"][0]))
        found |= {field.partition(".")[0] for field, _ in detail.get("ctx", {}).get(FAULTS, ())}
    return found


_MERGED = ("env", "limits", "logs", "resources", "restartBackoff", "strategy")
"""Maps whose keys are independent of each other. All else (a probe, a list) is one value and is replaced as a whole."""

_ROLLING_ONLY = ("maxSurge", "maxUnavailable")


def merged(canonical: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was written, above Config's `defaults.program`: the canonical spec that is in force."""
    result = {**defaults, **canonical}
    for field in _MERGED:
        if field in defaults and field in canonical:
            result[field] = {**defaults[field], **canonical[field]}
    strategy = result.get("strategy", {})
    if strategy.get("type") == "Recreate" and not strategy.keys().isdisjoint(_ROLLING_ONLY):
        # The two halves contradict each other: the Program means what it says, whatever the default is.
        written = canonical.get("strategy", {})
        dropped = _ROLLING_ONLY if "type" in written else ("type",)
        result["strategy"] = {key: value for key, value in strategy.items() if key not in dropped}
    return result


def effective(canonical: Mapping[str, Any], defaults: Mapping[str, Any]) -> ProgramSpec:
    """The spec as it is in force: written, then Config's defaults, then ours."""
    return program_from_canonical(merged(canonical, defaults))
