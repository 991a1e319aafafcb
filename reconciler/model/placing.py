"""Where a field stands in its manifest: for what is said of it when it has long been read."""

from reconciler.model.node import Mapping, Node, Scalar, Sequence


def place_of(written: Node, field: str) -> Node:
    """The node of `command[2]`, `env.PATH`, `logs.path`; where that is not written, the nearest one around it."""
    node, rest = written, field
    while rest:
        if isinstance(node, Mapping):
            # Names of variables may hold dots and brackets, so the longest key that fits is the one.
            fitting = [key for key in node.entries if _begins_with(rest, key)]
            if not fitting:
                return node
            key = max(fitting, key=len)
            node, rest = node.entries[key].value, rest[len(key) :].removeprefix(".")
        elif isinstance(node, Sequence) and rest.startswith("["):
            number, _, after = rest[1:].partition("]")
            if not number.isdigit() or int(number) >= len(node.items):
                return node
            node, rest = node.items[int(number)], after.removeprefix(".")
        elif isinstance(node, Sequence):
            return _named(node, rest)
        else:
            return node  # `command` may be one string, which has no words with places of their own
    return node


def _begins_with(rest: str, key: str) -> bool:
    return rest.startswith(key) and rest[len(key) : len(key) + 1] in {"", ".", "["}


def _named(node: Sequence, name: str) -> Node:
    """`env` may be a list of name and value."""
    for item in node.items:
        written = item.get("name") if isinstance(item, Mapping) else None
        if isinstance(written, Scalar) and written.text == name:
            return item
    return node
