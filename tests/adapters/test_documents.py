"""Files and text to document trees: hostile files, bounds, and everything that YAML can be made to do."""

import json
import os
import socket
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.documents import MOST_BYTES, parse, read_documents, read_manifest_file
from reconciler.adapters.documents import yamltree as documents
from reconciler.model.manifest import KINDS
from reconciler.model.node import Mapping, Node, Scalar, Sequence
from reconciler.model.problems import Problem
from support.reading import manifest, program_text, read

LOADERS = [yaml.CSafeLoader, yaml.SafeLoader]


@pytest.fixture(params=LOADERS, ids=["C", "Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers: the C library may be missing where PyYAML was built from source."""
    monkeypatch.setattr(documents, "_Loader", request.param)


def plain(node: Node) -> object:
    """A tree as lists, dicts and texts; nothing is interpreted."""
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if isinstance(node, Mapping):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    return node.text


def trees(text: str | bytes) -> list[object]:
    """The documents of a text that has nothing wrong with it."""
    found, problems = read_documents(text if isinstance(text, bytes) else text.encode(), "F")
    assert problems == []
    return [plain(document.root) for document in found]


def told(text: str | bytes) -> list[str]:
    """What is wrong with a text."""
    return [str(p) for p in read_documents(text if isinstance(text, bytes) else text.encode(), "F")[1]]


def refused(path: Path) -> str:
    """What is said about a file that is not read."""
    found = read_manifest_file(str(path))
    assert isinstance(found, Problem)
    assert found.file == str(path)
    return str(found).removeprefix(str(path))


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_regular_file_is_its_bytes(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\n")
    data = read_manifest_file(str(path))
    assert data == path.read_bytes()
    assert trees(data) == [{"a": "ä"}]


def test_an_empty_file_declares_nothing(tmp_path):
    path = tmp_path / "a.yaml"
    path.touch()
    assert read_manifest_file(str(path)) == b""
    assert trees(b"") == []


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "a").write_bytes(b"a: b")
    (tmp_path / "b.yaml").symlink_to("a")
    assert read_manifest_file(str(tmp_path / "b.yaml")) == b"a: b"


def test_a_named_pipe_without_a_writer_does_not_make_us_wait(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    assert refused(tmp_path / "a.yaml") == ": is a named pipe, not a regular file"


def test_what_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "dir.yaml").mkdir()
    assert refused(tmp_path / "dir.yaml") == ": is a directory, not a regular file"
    for device in ("zero", "null", "random"):
        (tmp_path / device).symlink_to(f"/dev/{device}")
        assert refused(tmp_path / device) == ": is a device, not a regular file"


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # socket paths end at 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.yaml")
        assert refused(tmp_path / "s.yaml") == ": is a socket, not a regular file"


def test_what_cannot_be_opened_is_said_in_words(tmp_path):
    assert refused(tmp_path / "none.yaml") == ": does not exist"
    (tmp_path / "loop").symlink_to("loop")
    assert refused(tmp_path / "loop") == ": is a symbolic link that leads in a circle"
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file" / "a.yaml") == ": lies below something that is not a directory"
    assert refused(tmp_path / ("x" * 300)) == ": has a name that is too long"
    assert isinstance(read_manifest_file("a\0b"), Problem)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_is_refused(tmp_path):
    (tmp_path / "a.yaml").touch(mode=0)
    assert refused(tmp_path / "a.yaml") == ": cannot be read: permission denied"


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.yaml"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    assert refused(path) == ": is too large for a manifest: 104857600 bytes, 1048576 (1 MiB) at most"


def test_a_mebibyte_is_the_limit(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * MOST_BYTES)
    data = read_manifest_file(str(path))
    assert isinstance(data, bytes)
    assert trees(data) == []
    assert told(b"#" * (MOST_BYTES + 1)) == ["F: is too large for a manifest: 1048577 bytes, 1048576 (1 MiB) at most"]


def test_text_in_another_encoding_is_refused_with_the_place(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("a: b\nc: dä\n".encode("latin-1"))
    assert refused(path) == ":2:5: is not UTF-8: byte 9 (0xe4) does not belong there"
    assert told("a: b".encode("utf-16")) == ["F:1:1: is not UTF-8: byte 0 (0xff) does not belong there"]
    assert told(b"\xed\xa0\x80") == ["F:1:1: is not UTF-8: byte 0 (0xed) does not belong there"]


# ---- trees ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loader")
def test_nothing_is_interpreted():
    assert trees("a: [1, no, 1e3, 012, null, ~, 2024-01-01, '']") == [
        {"a": ["1", "no", "1e3", "012", "null", "~", "2024-01-01", ""]}
    ]


@pytest.mark.usefixtures("loader")
def test_every_node_knows_its_place_and_whether_it_was_quoted():
    (document,), _ = read_documents(b"a:\n  - b\n  - 'c'\n  - !!str d\n  - |\n    e\n", "F")
    assert isinstance(document.root, Mapping)
    value = document.root.entries["a"].value
    assert document.root.entries["a"].key == Scalar("a", True, 1, 1)
    assert isinstance(value, Sequence)
    assert (value.line, value.column) == (2, 3)
    assert value.items == (
        Scalar("b", True, 2, 5),
        Scalar("c", False, 3, 5),
        Scalar("d", False, 4, 5),
        Scalar("e\n", False, 5, 5),
    )


@pytest.mark.usefixtures("loader")
def test_merge_keys_give_way_to_what_is_written_and_to_what_came_before():
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nm: {<<: [*b, *o], x: 9}\nn: {<<: *b}\nq: {'<<': *b}"
    (found,) = trees(text)
    assert found["m"] == {"x": "9", "y": "2", "z": "4"}
    assert found["n"] == {"x": "1", "y": "2"}
    assert found["q"] == {"<<": {"x": "1", "y": "2"}}


@pytest.mark.usefixtures("loader")
def test_aliases_share_and_end_with_their_document():
    assert trees("a: &x k\nb: *x\n*x : c") == [{"a": "k", "b": "k", "k": "c"}]
    assert told("a: &x 1\n---\nb: *x") == ['F:3:4: alias "x" stands for nothing that came before']


@pytest.mark.usefixtures("loader")
def test_standard_tags_are_understood_and_all_others_refused():
    assert trees("a: !!str 1\nb: !!int 2\nc: !!seq [x]\nd: !!map {x: y}\ne: ! z") == [
        {"a": "1", "b": "2", "c": ["x"], "d": {"x": "y"}, "e": "z"}
    ]
    for tag in ("!!python/name:os.system", "!x", "!!set", "!!binary", "!!timestamp", "!<tag:x,2000:y>"):
        assert "is not allowed in a manifest" in told(f"a: {tag} {{}}" if tag == "!!set" else f"a: {tag} x")[0]


@pytest.mark.usefixtures("loader")
def test_depth_is_bounded_with_and_without_aliases():
    assert trees("[" * 64 + "]" * 64)
    assert told("[" * 65 + "]" * 65) == ["F:1:65: is nested deeper than 64 levels"]
    assert "deeper than 64 levels" in told("{a: " * 500 + "b" + "}" * 500)[0]
    assert "deeper than 64 levels" in told("\n".join(" " * i + "a:" for i in range(500)))[0]
    half = "[" * 32 + "]" * 32
    assert trees(f"a: &a {half}\nb: [[*a]]")
    inner = "[" * 32 + "*a" + "]" * 32
    assert told(f"a: &a {half}\nb: {inner}")[0].endswith("is nested deeper than 64 levels, following its aliases")


@pytest.mark.usefixtures("loader")
def test_aliases_are_counted():
    assert trees("a: &a 1\nb: [" + ", ".join(["*a"] * 1000) + "]")
    assert told("a: &a 1\nb: [" + ", ".join(["*a"] * 1001) + "]")[0].endswith("has more than 1000 aliases")


def test_values_are_counted_as_if_aliases_were_written_out():
    assert len(trees("- a\n" * 99_999)[0]) == 99_999
    assert "has more than 100000 values" in told("- a\n" * 100_000)[0]
    shared = "a: &a [" + ", ".join(["x"] * 98) + "]\n"
    assert trees(shared + "b: [" + ", ".join(["*a"] * 990) + "]")
    assert (
        "has more than 100000 values" in told(shared + "b: [" + ", ".join(["*a"] * 999) + ", " + "y, " * 3000 + "]")[0]
    )


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 500_000,
        "{" * 500_000,
        "{a: " * 200_000,
        "- " * 500_000,
        "? " * 500_000,
        "a: &a " * 1000,
        "&a " * 1000,
        "[" + "'" * 900_000,
        "a" * 1_000_000 + ": b",
        "'" + "\n" * 1_000_000,
        "a: |\n" + " \n" * 500_000,
        "!" * 1_000_000,
        "%" * 1_000_000,
        "---\n" * 250_000,
        "a: 1\n" * 200_000,
        "#\n" * 500_000,
        "\t" * 1_000_000,
        "a: " * 300_000,
        '"' + "\\u0041" * 170_000 + '"',
    ],
    ids=range(19),
)
def test_no_text_of_a_mebibyte_takes_long_or_breaks_the_stack(bomb):
    started = time.process_time()
    documents_found, problems = read_documents(bomb.encode()[:MOST_BYTES], "F")
    assert documents_found or problems or bomb.startswith("#")
    assert time.process_time() - started < 5


def test_the_corpus_of_bombs_is_refused_at_once():
    for path in (Path(__file__).parent.parent / "hostile").glob("*-bomb.yaml"):
        started = time.process_time()
        assert "counting what its aliases stand for" in told(path.read_bytes())[0]
        assert time.process_time() - started < 1


# ---- syntax ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a:\n\tb: c", "F:2:1:", "a tab cannot indent, write spaces"),
        ("a: @x", "F:1:4:", '"@" cannot begin a value (put the value in quotes)'),
        ("a: [b\nc: d", "F:2:", "while parsing a flow sequence"),
        ("a: 'b", "F:1:6:", "while scanning a quoted scalar"),
        ("a: b: c", "F:1:5:", "mapping values are not allowed"),
        ("a: \0", "F:1:4:", "character U+0000 is not allowed"),
        ("x: y\na: \x1b[2J", "F:2:4:", "character U+001B is not allowed"),
        ("a: b\n c: d", "F:2:3:", "mapping values are not allowed"),
        ("%YAML 9.9\n---\na", "F:1:", "incompatible"),
    ],
)
def test_a_syntax_error_is_one_line_with_its_place(text, place, words):
    (problem,) = told(text)
    assert problem.startswith(place)
    assert words in problem
    assert "\n" not in problem
    assert problem.isprintable()


def test_what_stands_before_a_syntax_error_is_read():
    found, problems = read_documents(b"a: b\n---\nc: [", "F")
    assert [plain(document.root) for document in found] == [{"a": "b"}]
    assert len(problems) == 1


def test_json_is_read_with_all_its_escapes():
    value = {"a": "\U0001f600 \\ud83d\\ude00 / \n", "b": ["é", "\t"], "c" * 500: "x" * 5000}
    for text in (json.dumps(value), json.dumps(value, indent="\t"), json.dumps(value, ensure_ascii=False)):
        assert trees(text) == [value]
    assert trees('{"a": "\\/"}') == [{"a": "/"}]


def test_half_a_character_is_refused():
    assert told('{"a": "\\ud83d"}')


# ---- whatever comes -------------------------------------------------------------------------------------------------

PIECES = [
    *"[]{}:,-?|>&*!%@`'\"#~ \n\t\\",
    *(
        "\n  ",
        "\n- ",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "---\n",
        "...\n",
        "!!str ",
        "null",
        "\x00",
        "é",
        "\U0001f600",
        "\ud800",
    ),
    *(
        "apiVersion: reconciler/v1\n",
        "kind: Program\n",
        "kind: List\nitems:\n",
        "metadata: ",
        "{name: web}\n",
        "spec:\n  ",
    ),
    *("command: [a]\n  ", "env: ", "replicas: ", "-1", "4", "infinity"),
]
WORDS = st.sampled_from(PIECES)


def check(data: bytes) -> None:
    """Nothing is raised, and nothing is silently lost: an input gives manifests or says why not."""
    reading = read(data)
    assert all(problem.message and problem.line >= 0 and "\n" not in str(problem) for problem in reading.problems)
    for found in reading.manifests:
        assert found.kind in KINDS
        json.dumps(found.canonical)


@given(st.lists(WORDS, max_size=40))
def test_no_yaml_breaks_the_reader(words):
    check("".join(words).encode(errors="surrogatepass"))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    check(data)


QUANTITIES = st.sampled_from(["5s", "25%", "1Mi", "infinity", "TERM"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | QUANTITIES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {kind: sorted({field.alias or name for name, field in KINDS[kind].model_fields.items()}) for kind in KINDS}


@pytest.mark.parametrize("kind", FIELDS)
@given(data=st.data())
def test_no_value_of_any_field_breaks_the_decoder_and_what_is_accepted_is_read_again(kind, data):
    spec = data.draw(st.dictionaries(st.sampled_from(FIELDS[kind]) | st.text(max_size=8), VALUES, max_size=6))
    document = {"apiVersion": "reconciler/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}
    for text in (yaml.safe_dump(document, allow_unicode=True), json.dumps(document)):
        reading = read(text.encode(errors="replace"))
        assert bool(reading.manifests) is not bool(reading.errors)
        for found in reading.manifests:
            assert KINDS[kind].model_validate(json.loads(json.dumps(found.canonical))) == found.spec


@given(st.dictionaries(st.text("ABC_", min_size=1), st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_texts_come_through_whatever_they_contain(env):
    spec = {"command": ["a", *env.values()], "env": env}
    document = {"apiVersion": "reconciler/v1", "kind": "Program", "metadata": {"name": "web"}, "spec": spec}
    (found,) = read(json.dumps(document).encode()).manifests
    assert found.canonical.get("env", {}) == env
    assert found.canonical["command"][1:] == list(env.values())


def test_a_file_is_read_the_same_whichever_parser_there_is(monkeypatch):
    readings = []
    for parser in LOADERS:
        monkeypatch.setattr(documents, "_Loader", parser)
        readings.append(manifest("env: {A: 'x', B: \"y\\n\"}\nreplicas: 3\nlogs: {maxSize: 1Mi}"))
    assert readings[0] == readings[1]


def test_what_is_valid_and_hardly_meant_is_told_with_its_place_and_apart_from_what_is_wrong():
    text = program_text("""
        command: [sh, -c, run]
        replicas: 2
        env:
        - {name: A, value: $(NOPE)}
        strategy: {onFailure: Rollback}
    """)
    reading = parse(text.encode(), "/etc/m/web.yaml", "/etc/m")
    assert not reading.problems
    assert [str(warning).partition(" is not a")[0] for warning in reading.advice] == [
        "/etc/m/web.yaml:5:12: spec.command: runs a shell that may stay in between: then the stop signal reaches the"
        " shell, not the program (begin the last command of the script with exec, or use stopScope: group)",
        "/etc/m/web.yaml:8:5: spec.env.A: $(NOPE)",
        "/etc/m/web.yaml:9:25: spec.strategy.onFailure: has no effect in this release: a rollout that fails pauses, it"
        " is not rolled back",
    ]
    assert all(warning.severity == "warning" for warning in reading.advice)
