"""Where a field stands, also when it is written in another form, or not at all."""

import pytest

from reconciler.model.placing import place_of
from support.reading import read_documents

TEXT = b"""\
command: [run, --port=$(PORT)]
env:
  PATH: /bin
  a.b[0]: dotted
logs: {path: x.log}
sockets:
- name: web
"""

LIST = b"""\
command: run --port=$(PORT)
env:
- {name: A, value: x}
- name: B
  value: y
- oops
"""


def place(text: bytes, field: str) -> str:
    (document,), problems = read_documents(text, "F")
    assert not problems
    node = place_of(document.root, field)
    return f"{node.line}:{node.column}"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("command", "1:10"),
        ("command[1]", "1:16"),
        ("command[7]", "1:10"),
        ("env.PATH", "3:9"),
        ("env.a.b[0]", "4:11"),
        ("env.NONE", "3:3"),
        ("logs.path", "5:14"),
        ("logs.path.deeper", "5:14"),
        ("sockets[0].name", "7:9"),
        ("user", "1:1"),
    ],
)
def test_a_field_is_found_or_else_what_stands_around_it(field, expected):
    assert place(TEXT, field) == expected


@pytest.mark.parametrize(
    ("field", "expected"), [("command[1]", "1:10"), ("env.A", "3:3"), ("env.B", "4:3"), ("env.C", "3:1")]
)
def test_lists_of_names_and_command_lines_in_one_string_have_places_too(field, expected):
    assert place(LIST, field) == expected
