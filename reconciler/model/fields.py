"""The vocabulary of the models: the base they share, and the types of fields that people write in their own way.

A `Reads` in an annotation names how decode.py turns text from a file into the canonical value (JSON: seconds, bytes,
lists); the rest of the annotation is how Pydantic turns the canonical value into the attribute. So a field is
declared once, in the model.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_wrap_validator_function

from reconciler.model import quantities


class Reads(NamedTuple):
    """The name of a reader in readers.py."""

    reader: str


class Spec(BaseModel):
    """A part of a spec: frozen, camelCase outside, snake_case inside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Kept(NamedTuple):
    """Validated as this model, but kept as it was written (canonical), to be merged into something else later."""

    model: type[Spec]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What Pydantic asks for."""

        def validate(value: Any, validator: ValidatorFunctionWrapHandler) -> Any:
            validator(value)
            return value

        return no_info_wrap_validator_function(validate, handler.generate_schema(self.model))


FAULTS = "faults"
"""The type of the error that carries what `CheckedSpec.faults` found, as (field, message) pairs."""


class CheckedSpec(Spec):
    """A part whose fields have to fit each other."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """What does not fit, as (dotted field below this part or empty, message)."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check(self) -> Self:
        if found := list(self.faults()):
            summary = "; ".join(f"{field}: {message}" if field else message for field, message in found)
            raise PydanticCustomError(FAULTS, "{summary}", {"summary": summary, FAULTS: found})
        return self


_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENV_NAME = re.compile(r"[ -<>-~]+")  # printable ASCII without `=`, as in Kubernetes
_ACCOUNT = re.compile(r"[^\s:/]+")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_MAX = 65535


def dns_label(text: str) -> str:
    """A name that may also be part of a host name, a path and a URL."""
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError("must be at most 63 of a-z, 0-9 and -, and begin and end with a letter or digit")
    return text


def env_name(text: str) -> str:
    """The name of an environment variable."""
    if not _ENV_NAME.fullmatch(text):
        raise ValueError("must be the name of an environment variable: printable ASCII without =")
    return text


def account(text: str) -> str:
    """A user or a group, by name or number. Whether it exists is the host's business, not the manifest's."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("must be the name or the number of one user or group")
    return text


def not_empty(text: str) -> str:
    """Some text."""
    if not text:
        raise ValueError("must not be empty")
    return text


def at_least_one(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list that is not empty."""
    if not items:
        raise ValueError("must not be empty")
    return items


def has_program(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command that names what to run."""
    if not command or not command[0]:
        raise ValueError("must name a program to run")
    return command


def port(value: int | str) -> int | str:
    """A port, or a text that becomes one when `$(NAME)` is expanded."""
    if isinstance(value, str):
        if "$(" in value:
            return value
        if not _PORT.fullmatch(value):
            raise ValueError("must be a port, 1 to 65535")
        value = int(value)
    if not 1 <= value <= _PORT_MAX:
        raise ValueError("must be a port, 1 to 65535")
    return value


def _octal(value: Any) -> Any:
    return quantities.octal(value) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(dns_label)]
EnvName = Annotated[str, AfterValidator(env_name)]
Account = Annotated[str, AfterValidator(account)]
Filled = Annotated[str, AfterValidator(not_empty)]
Duration = Annotated[float, Reads("duration"), Field(ge=0, allow_inf_nan=False)]
SomeDuration = Annotated[float, Reads("duration"), Field(gt=0, allow_inf_nan=False)]
EndlessDuration = Annotated[float, Reads("endless"), Field(ge=0)]
Size = Annotated[int, Reads("size"), Field(ge=0)]
SomeSize = Annotated[int, Reads("size"), Field(gt=0)]
Cores = Annotated[float, Reads("cores"), Field(gt=0, allow_inf_nan=False)]
Octal = Annotated[int, Reads("octal"), BeforeValidator(_octal), Field(ge=0, le=0o7777)]
Path = Annotated[str, Reads("path"), AfterValidator(not_empty)]
Signal = Annotated[str, Reads("signal")]
ExitStatus = Annotated[int | str, Reads("exit")]
Command = Annotated[tuple[str, ...], Reads("command"), AfterValidator(has_program)]
Pairs = Annotated[dict[str, str], Reads("pairs")]
Port = Annotated[int | str, Reads("port"), AfterValidator(port)]
Share = Annotated[quantities.Amount, Reads("amount"), PlainValidator(quantities.Amount.parse)]
Whole = Annotated[int, Field(ge=0)]
