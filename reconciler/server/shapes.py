"""What a request may look like, as JSON Schemas, and the check against them.

One dictionary serves twice: it is what `checked` holds a body against, and what the OpenAPI document shows. Only the
handful of keywords that occur in the route table is understood. All that is wrong is reported at once, with the
nearest known name for an unknown one. Pure: values in, values out.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

Schema = Mapping[str, Any]


class Fault(NamedTuple):
    """One thing wrong: the dotted path to it, what it is, and what would be right."""

    field: str
    message: str
    hint: str = ""


def checked(value: Any, schema: Schema) -> tuple[Any, list[Fault]]:
    """The value with the schema's defaults filled in, and everything that is wrong with it."""
    faults = list(_faults(value, schema, ""))
    return (None if faults else _completed(value, schema)), faults


def nearest(name: str, known: list[str]) -> str:
    """A hint that names what was probably meant."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}" if known else ""


def parameter(text: str, schema: Schema) -> Any:
    """The value that a query parameter spells. Raises ValueError saying what would be right."""
    kind = schema["type"]
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ValueError("1 or 0, true or false")
        return _BOOLEANS[text.lower()]
    value: Any = text
    if kind in ("integer", "number"):
        try:
            value = int(text) if kind == "integer" else float(text)
        except ValueError:
            raise ValueError(_NAMES[kind]) from None
    fault = next(_faults(value, schema, ""), None)
    if fault:
        raise ValueError(fault.message.removeprefix("must be "))
    return value


_BOOLEANS = {"1": True, "true": True, "yes": True, "": True, "0": False, "false": False, "no": False}
_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def _faults(value: Any, schema: Schema, path: str) -> Iterator[Fault]:
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is(value, kind) for kind in kinds):
        yield Fault(path, f"must be {' or '.join(_NAMES[kind] for kind in kinds)}, not {_kind_of(value)}")
    elif "enum" in schema and value not in schema["enum"]:
        yield Fault(path, f"must be one of {', '.join(schema['enum'])}, not {value!r}")
    elif _is(value, "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield Fault(path, f"must be {_range(schema)}, not {value}")
    elif _is(value, "string") and len(value) < schema.get("minLength", 0):
        yield Fault(path, "must not be empty")
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _faults(element, schema["items"], f"{path}[{index}]")
    elif isinstance(value, dict):
        yield from _object_faults(value, schema, f"{path}." if path else "")


def _object_faults(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[Fault]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Fault(path + name, "is missing")
    for name, element in value.items():
        if name in properties:
            yield from _faults(element, properties[name], path + name)
        else:
            yield Fault(path + name, "is not known here", nearest(name, list(properties)))


def _completed(value: Any, schema: Schema) -> Any:
    if isinstance(value, list):
        return [_completed(element, schema["items"]) for element in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    defaults = {name: part["default"] for name, part in properties.items() if "default" in part}
    return defaults | {name: _completed(element, properties[name]) for name, element in value.items()}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # which Python takes for a number
        return kind == "boolean"
    return kind == _KINDS[type(value)] or (kind == "number" and isinstance(value, int))


_KINDS: dict[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _kind_of(value: Any) -> str:
    return _NAMES[_KINDS[type(value)]]


def _range(schema: Schema) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if highest is None:
        return f"{lowest} or more"
    return f"between {lowest} and {highest}"
