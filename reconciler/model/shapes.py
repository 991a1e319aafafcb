"""Which field is read how: derived from the models, so that there is no second list of fields."""

import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from reconciler.model.fields import Kept, Reads, Spec
from reconciler.model.node import Mapping, Node, kind_of
from reconciler.model.readers import PLAIN, SECONDS_READERS, SPECIAL, choice, is_null, list_of
from reconciler.model.reading import MISSING, Context, Reader, Trail


def _mark(hint: Any) -> Reads | Kept | None:
    """What an annotation asks for, also inside `X | None`."""
    inner: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        for mark in marks:
            if isinstance(mark, Reads | Kept):
                return mark
        inner = (base,)
    elif get_origin(hint) in (Union, types.UnionType):
        inner = get_args(hint)
    return next((mark for arm in inner if (mark := _mark(arm))), None)


def reader_of(hint: Any) -> Reader:
    """The reader for an annotation of a model."""
    mark = _mark(hint)
    if mark is not None:
        return SPECIAL[mark.reader] if isinstance(mark, Reads) else struct_reader(mark.model)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return reader_of(arguments[0])
    if origin in (Union, types.UnionType):
        (arm,) = (arm for arm in arguments if arm is not type(None))
        return reader_of(arm)
    if origin is Literal:
        return choice(arguments)
    if origin is tuple:
        return list_of(reader_of(arguments[0]))
    return struct_reader(hint) if isinstance(hint, type) and issubclass(hint, Spec) else PLAIN[hint]


@cache
def struct_reader(model: type[Spec]) -> Reader:
    """The reader of a map with the fields of a model. Durations are also known as `<field>Seconds`."""
    known: dict[str, tuple[str, Reader]] = {}
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        hint, alias = hints[name], field.alias or name
        known[alias] = (alias, reader_of(hint))
        mark = _mark(hint)
        if isinstance(mark, Reads) and mark.reader in SECONDS_READERS:
            known[f"{alias}Seconds"] = (alias, SECONDS_READERS[mark.reader])
    names = [name for name, (alias, _) in known.items() if name == alias]

    def read(node: Node, trail: Trail, context: Context) -> Any:
        if type(node) is not Mapping:
            return MISSING if is_null(node) else context.refuse(node, trail, f"must be a map, not {kind_of(node)}")
        values: dict[str, Any] = {}
        for key, entry in node.entries.items():
            found = known.get(key)
            if found is None:
                context.unknown(entry.key, (trail, key), names)
                continue
            name, read_field = found
            value = read_field(entry.value, (trail, key), context)
            if value is MISSING:
                continue
            if name in values:
                context.refuse(entry.key, (trail, key), f"is given twice, as {name} and {name}Seconds")
            values[name] = value
        return values

    return read
