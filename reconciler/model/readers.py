"""How each type of field is read: from a node of the file to its canonical value, JSON that means one thing only.

A reader returns MISSING when there is nothing or when it has said what is wrong; it never raises. Which field has which
reader is derived from the models, in shapes.py.
"""

import posixpath
import re
from collections.abc import Callable
from typing import Any

from reconciler.model import fields, quantities
from reconciler.model.command import CommandError, split_command
from reconciler.model.node import NULLS, Mapping, Node, Scalar, Sequence, kind_of, shown
from reconciler.model.parts import LIMITS, LIMITS_IN_BYTES
from reconciler.model.reading import MISSING, Context, Reader, Trail, nearest

_UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")


# ---- single values --------------------------------------------------------------------------------------------------


def read_text(node: Node, trail: Trail, context: Context) -> Any:
    """A string, exactly as typed."""
    if type(node) is not Scalar or (node.plain and node.text in NULLS):
        hint = 'write "" for an empty text' if isinstance(node, Scalar) else ""
        return context.refuse(node, trail, f"must be text, not {kind_of(node)}", hint)
    if not node.text.isprintable() and _UNSTORABLE.search(node.text):
        return context.refuse(node, trail, "contains a NUL or half a character, which no process can be given")
    return node.text


def _bare(wanted: str, parse: Callable[[str], Any]) -> Reader:
    """A number or a boolean: in quotes it would be a text."""

    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Scalar or (node.plain and node.text in NULLS):
            return context.refuse(node, trail, f"must be {wanted}, not {kind_of(node)}")
        if not node.plain:
            return context.refuse(node, trail, f"must be {wanted}, not a text", "leave the quotes out")
        try:
            return parse(node.text)
        except ValueError:
            hint = f"write {_OTHER_BOOLEANS[node.text.lower()]}" if node.text.lower() in _OTHER_BOOLEANS else ""
            return context.refuse(node, trail, f"must be {wanted}, not {shown(node.text)}", hint)

    return read


def _written(wanted: str, parse: Callable[[str], Any]) -> Reader:
    """A quantity with a notation of its own, in quotes or not. `parse` raises what stands after the quoted text."""

    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Scalar or (node.plain and node.text in NULLS):
            return context.refuse(node, trail, f"must be {wanted}, not {kind_of(node)}")
        try:
            return parse(node.text)
        except ValueError as error:
            return context.refuse(node, trail, f"{shown(node.text)} {error}")

    return read


_OTHER_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def _boolean(text: str) -> bool:
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    raise ValueError


def _number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", text):
        raise ValueError
    return float(text)


def _endless(finite: Callable[[str], float]) -> Callable[[str], float | str]:
    return lambda text: quantities.INFINITY if text == quantities.INFINITY else finite(text)


def _exit_status(text: str) -> int | str:
    if text.isascii() and text.isdigit():
        if len(text) > 3 or int(text) > 255:
            raise ValueError("is not an exit code, 0 to 255")
        return int(text)
    return quantities.signal_name(quantities.signal_number(text))


def _port(text: str) -> int | str:
    try:
        return fields.port(text)
    except ValueError:
        raise ValueError("is not a port, 1 to 65535") from None


def choice(values: tuple[str, ...]) -> Reader:
    def read(node: Node, trail: Trail, context: Context) -> Any:
        text = read_text(node, trail, context)
        if text is MISSING or text in values:
            return text
        return context.refuse(
            node, trail, f"{shown(text)} is not one of {', '.join(values)}", nearest(text, values, listed=True)
        )

    return read


def _amount(text: str) -> int | str:
    amount = quantities.Amount.parse(text)
    return str(amount) if amount.percent else amount.number


def _path(*words: str) -> Reader:
    """A path, made absolute by its letters alone: no link is followed. `words` stand for themselves."""

    def read(node: Node, trail: Trail, context: Context) -> Any:
        text = read_text(node, trail, context)
        if text is MISSING or text in words or _may_be_absolute(text):
            return text
        if not text:
            return context.refuse(node, trail, "must not be empty")
        if text == "~" or text.startswith("~/"):
            return context.refuse(node, trail, "is not expanded by us", "write the home directory out")
        if context.base_dir is None:
            hint = "write it absolute, or give --base-dir"
            return context.refuse(node, trail, f"{shown(text)} is relative, and this input has no folder", hint)
        return posixpath.normpath(posixpath.join(context.base_dir, text))

    return read


def _may_be_absolute(path: str) -> bool:
    """What begins with a variable may be one of a path from the root; a name or a number is none."""
    return path.startswith(("/", "$(")) and not path.startswith(("$(PROGRAM)", "$(REPLICA"))


# ---- lists and maps -------------------------------------------------------------------------------------------------


def is_null(node: Node) -> bool:
    """An empty list or map, as when all below a key is commented out: the same as not written."""
    return type(node) is Scalar and node.plain and node.text in NULLS


def list_of(read_item: Reader) -> Reader:
    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Sequence:
            return MISSING if is_null(node) else context.refuse(node, trail, f"must be a list, not {kind_of(node)}")
        values = [
            context.refuse(item, (trail, index), "must not be null")
            if is_null(item)
            else read_item(item, (trail, index), context)
            for index, item in enumerate(node.items)
        ]
        return MISSING if MISSING in values else values

    return read


_read_texts = list_of(read_text)


def map_of(read_value: Reader) -> Reader:
    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Mapping:
            return MISSING if is_null(node) else context.refuse(node, trail, f"must be a map, not {kind_of(node)}")
        values = {}
        for key, entry in node.entries.items():
            if key.isprintable() or not _UNSTORABLE.search(key):
                values[key] = read_value(entry.value, (trail, key), context)
            else:
                context.refuse(entry.key, (trail, key), "has a NUL or half a character in its name")
        return {key: value for key, value in values.items() if value is not MISSING}

    return read


def _pairs(read_value: Reader, ways: dict[str, Reader]) -> Reader:
    """A map, also read as Kubernetes writes it: a list of {name, value}. `ways` are the keys beside `name`."""
    read_map = map_of(read_value)

    def read_item(node: Node, trail: Trail, context: Context, found: dict[str, Any]) -> None:
        if type(node) is not Mapping:
            context.refuse(node, trail, f"must be a map of name and value, not {kind_of(node)}")
            return
        for key, entry in node.entries.items():
            if key != "name" and key not in ways:
                context.unknown(entry.key, (trail, key), ["name", *ways])
        name_node = node.get("name")
        if name_node is None:
            context.refuse(node, trail, "needs a name")
            return
        name = read_text(name_node, (trail, "name"), context)
        given = [way for way in ways if way in node.entries]
        if len(given) != 1:
            context.refuse(node, trail, f"needs {' or '.join(ways)}" if not given else f"has {' and '.join(given)}")
        elif name in found:
            context.refuse(name_node, (trail, "name"), f"{shown(name)} stands in the list twice")
        elif name is not MISSING:
            found[name] = ways[given[0]](node.entries[given[0]].value, (trail, given[0]), context)

    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Sequence:
            return read_map(node, trail, context)
        found: dict[str, Any] = {}
        for index, item in enumerate(node.items):
            read_item(item, (trail, index), context, found)
        return {name: value for name, value in found.items() if value is not MISSING}

    return read


def _read_from_file(node: Node, trail: Trail, context: Context) -> Any:
    path = _path()(node, trail, context)
    return path if path is MISSING else {"fromFile": path}


def _read_env_value(node: Node, trail: Trail, context: Context) -> Any:
    if type(node) is not Mapping:
        return read_text(node, trail, context)
    for key, entry in node.entries.items():
        if key != "fromFile":
            context.unknown(entry.key, (trail, key), ["fromFile"])
    entry_node = node.get("fromFile")
    if entry_node is None:
        return context.refuse(node, trail, "must be text or {fromFile: PATH}")
    return _read_from_file(entry_node, (trail, "fromFile"), context)


_read_env_pairs = _pairs(_read_env_value, {"value": read_text, "fromFile": _read_from_file})


def _read_env(node: Node, trail: Trail, context: Context) -> Any:
    values = _read_env_pairs(node, trail, context)
    for name in values if values is not MISSING else ():
        try:
            fields.env_name(name)
        except ValueError as error:
            entry = node.entries.get(name) if isinstance(node, Mapping) else None
            context.refuse(entry.key if entry else node, (trail, name), str(error))
    return values


def _read_command(node: Node, trail: Trail, context: Context) -> Any:
    if type(node) is Sequence:
        return _read_texts(node, trail, context)
    if type(node) is Mapping or is_null(node):
        return context.refuse(node, trail, f"must be a list of arguments or a text, not {kind_of(node)}")
    text = read_text(node, trail, context)
    if text is MISSING:
        return MISSING
    try:
        return list(split_command(text))
    except CommandError as error:
        return context.refuse(node, trail, str(error), error.hint)


def _limit_value(name: str) -> Callable[[str], int | str]:
    finite: Callable[[str], int] = quantities.size if name in LIMITS_IN_BYTES else quantities.whole

    def parse(text: str) -> int | str:
        if text in {"unlimited", quantities.INFINITY, "-1"}:
            return "unlimited"
        value = finite(text)
        if value < 0:
            raise ValueError("is below zero")
        return value

    return parse


def _read_limits(node: Node, trail: Trail, context: Context) -> Any:
    if type(node) is not Mapping:
        return MISSING if is_null(node) else context.refuse(node, trail, f"must be a map, not {kind_of(node)}")
    limits = {}
    for name, entry in node.entries.items():
        here = (trail, name)
        if name not in LIMITS:
            context.unknown(entry.key, here, sorted(LIMITS))
            continue
        value = _read_limit(entry.value, here, context, _limit_value(name))
        if value is not MISSING:
            limits[name] = value
    return limits


def _read_limit(node: Node, trail: Trail, context: Context, parse: Callable[[str], int | str]) -> Any:
    read_end = _written("a limit", parse)
    if type(node) is not Mapping:
        return read_end(node, trail, context)
    ends = {}
    for key, entry in node.entries.items():
        if key not in {"soft", "hard"}:
            context.unknown(entry.key, (trail, key), ["soft", "hard"])
        else:
            ends[key] = read_end(entry.value, (trail, key), context)
    if MISSING in ends.values():
        return MISSING
    if len(ends) != 2:
        return context.refuse(node, trail, "needs both soft and hard")
    return ends


_POLICIES = ("Percent", "Replicas")
_OTHER_POLICIES = {"Pods": "Replicas", "Workers": "Replicas"}  # the HPA's word, and what people call them
_read_policy = choice((*_POLICIES, *_OTHER_POLICIES))


def _read_policy_type(node: Node, trail: Trail, context: Context) -> Any:
    text = _read_policy(node, trail, context)
    return text if text is MISSING else _OTHER_POLICIES.get(text, text)


def _target(text: str) -> float | str:
    """A number stays one; a unit says that seconds are meant, which a depth has not."""
    try:
        return _number(text)
    except ValueError:
        try:
            return f"{quantities.seconds(text):.12g}s"
        except ValueError:
            raise ValueError("is neither a number nor a duration such as 30s") from None


def _read_setting(node: Node, trail: Trail, context: Context) -> Any:
    """Text, exactly as typed, or lists and maps of it: what it means is told by who asks the queue."""
    if type(node) is Mapping:
        return _read_settings(node, trail, context)
    return (_read_setting_list if type(node) is Sequence else read_text)(node, trail, context)


_read_settings = map_of(_read_setting)
_read_setting_list = list_of(_read_setting)


def _read_metadata(node: Node, trail: Trail, context: Context) -> Any:
    """Settings of a trigger. `<key>FromFile` names a file, so it is a path like any other."""
    values = _read_settings(node, trail, context)
    if values is MISSING or not isinstance(node, Mapping):
        return values
    paths = {
        key: SPECIAL["path"](node.entries[key].value, (trail, key), context)
        for key in values
        if key.endswith("FromFile")
    }
    return {key: value for key, value in {**values, **paths}.items() if value is not MISSING}


# ---- by name --------------------------------------------------------------------------------------------------------

_read_seconds = _written("a number of seconds", quantities.plain_seconds)
_read_endless_seconds = _written("a number of seconds", _endless(quantities.plain_seconds))

SPECIAL: dict[str, Reader] = {
    "duration": _written("a duration", quantities.seconds),
    "endless": _written("a duration or infinity", _endless(quantities.seconds)),
    "size": _written("a size", quantities.size),
    "cores": _written("an amount of CPU", quantities.cores),
    "octal": _written("an octal file mode", lambda text: quantities.octal_text(quantities.octal(text))),
    "signal": _written("a signal", lambda text: quantities.signal_name(quantities.signal_number(text))),
    "exit": _written("an exit code or a signal", _exit_status),
    "port": _written("a port", _port),
    "amount": _written("a number or a percentage", _amount),
    "path": _path(),
    "log_path": _path("none", "inherit"),
    "stderr_path": _path("none", "merged", "inherit"),
    "command": _read_command,
    "pairs": _pairs(read_text, {"value": read_text}),
    "env": _read_env,
    "limits": _read_limits,
    "policy": _read_policy_type,
    "target": _written("a number or a duration", _target),
    "metadata": _read_metadata,
}
PLAIN: dict[Any, Reader] = {
    str: read_text,
    bool: _bare("true or false", _boolean),
    int: _bare("a whole number", quantities.whole),
    float: _bare("a number", _number),
}
SECONDS_READERS = {"duration": _read_seconds, "endless": _read_endless_seconds}
