"""Environment files: what a line means, and which lines mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.envfile import MOST_ERRORS, content_of, parsed

BEFORE = {"HOME": "/srv", "APP": "outer"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("A=   ", ""),
        ("A= # none", ""),
        ("  A=b", "b"),
        ("\tA=b\t", "b"),
        ("export A=b", "b"),
        ("export \t A=b", "b"),
        ("A=b # why", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", "#c"),
        ("A=b=c==", "b=c=="),
        ("A=http://h/?x=1&y=2;z|w<>()*", "http://h/?x=1&y=2;z|w<>()*"),
        ("A=ü", "ü"),
        ("A=''", ""),
        ('A=""', ""),
        ("A='a b'", "a b"),
        ("A='a b' # why", "a b"),
        (r"A='$HOME \n \" ${HOME} # `x`'", r"$HOME \n \" ${HOME} # `x`"),
        (r'A="a\nb"', "a\nb"),
        (r'A="\"\\\$"', '"\\$'),
        ('A="it\'s # here"', "it's # here"),
        ("A=${HOME}/x", "/srv/x"),
        ('A="${HOME}/x y"', "/srv/x y"),
        (r'A="\${HOME}"', "${HOME}"),
        ("A=b\r", "b"),
        ("A='b'\r", "b"),
        ("\ufeffA=b", "b"),
    ],
)
def test_what_a_line_sets(line: str, value: str) -> None:
    assert parsed(line.encode(), BEFORE) == ({"A": value}, ())


@pytest.mark.parametrize("text", ["", "\n\n", "# A=b", "   # A=b", "\t\r\n", "\ufeff", "\ufeff# x"])
def test_lines_that_say_nothing(text: str) -> None:
    assert parsed(text.encode(), BEFORE) == ({}, ())


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("A", "expected NAME=value"),
        ("=b", "expected NAME=value"),
        ("A =b", "expected NAME=value"),
        ("1A=b", "expected NAME=value"),
        ("A-B=b", "expected NAME=value"),
        ("É=b", "expected NAME=value"),
        ("export A", "expected NAME=value"),
        ("exportA", "expected NAME=value"),
        ("unset A", "expected NAME=value"),
        ("A: b", "expected NAME=value"),
        ("A= b", "a space in the value of A (put quotes around it)"),
        ("A=b c", "a space in the value of A (put quotes around it)"),
        ("A=b\u00a0c", "a space in the value of A (put quotes around it)"),
        ("A=b\rc", "a space in the value of A (put quotes around it)"),
        ("A=it's", "a quote within the value of A (put quotes around the whole of it)"),
        ('A={"x":1}', "a quote within the value of A (put quotes around the whole of it)"),
        ("A=C:\\x", "a backslash in the value of A (put single quotes around it)"),
        ("A='b'c", "something follows the closing quote of A"),
        ("A='b'#c", "something follows the closing quote of A"),
        ('A="b""c"', "something follows the closing quote of A"),
        ("A='b", "the single quote is not closed on this line"),
        ('A="b', "the double quote is not closed on this line"),
        ('A="b\\', "in double quotes a backslash stands before"),
        (r'A="\t"', "in double quotes a backslash stands before"),
        ("A=$HOME", "a dollar begins ${NAME}"),
        ("A=b$", "a dollar begins ${NAME}"),
        ('A="$$"', "a dollar begins ${NAME}"),
        ("A=${HOME", "a dollar begins ${NAME}"),
        ("A=${HOME:-x}", "a dollar begins ${NAME}"),
        ("A=$(id)", "a dollar begins ${NAME}"),
        ("A=${NOPE}", "${NOPE} is not set before this line"),
        ("A=${A}", "${A} is not set before this line"),
    ],
)
def test_anything_else_is_an_error_with_its_line(line: str, error: str) -> None:
    read = parsed(f"# one\nOK=1\n{line}\n".encode(), BEFORE)
    assert len(read.errors) == 1
    assert read.errors[0].startswith("line 3: ")
    assert error in read.errors[0]


def test_later_lines_win_and_see_earlier_ones() -> None:
    text = b"APP=inner\nA=${APP}\nA=${A}2\nAPP=last\n"
    assert parsed(text, BEFORE).variables == {"APP": "last", "A": "inner2"}


def test_values_are_not_expanded_twice() -> None:
    assert parsed(b"A='${HOME}'\nB=${A}\n", BEFORE).variables["B"] == "${HOME}"


def test_only_line_feeds_end_lines() -> None:
    assert parsed("A='\u2028\x0b\x0c\x85'\n".encode(), {}).variables == {"A": "\u2028\x0b\x0c\x85"}


def test_windows_line_ends_are_read() -> None:
    assert parsed(b"\xef\xbb\xbfA=b\r\nC='d'\r\n\r\n# e\r\n", {}) == ({"A": "b", "C": "d"}, ())


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"OK=1\nA=\0\n", "line 2: a NUL byte"),
        (b"OK=1\nA=\xff\n", "line 2: not UTF-8"),
        (b"OK=1\n# \xff\n", "line 2: not UTF-8"),
        (b"OK=1\nA=" + b"x" * 131072, "line 2: A is longer than the 128 KiB that Linux allows a variable"),
        (b"\xff\xfeA\0=\0b\0", "line 1: a NUL byte"),
    ],
)
def test_what_is_no_text_is_an_error_with_its_line(content: bytes, error: str) -> None:
    assert parsed(content, {}).errors == (error,)


def test_the_longest_value_that_linux_takes_is_taken() -> None:
    assert parsed(b"A=" + b"x" * (131072 - 3), {}).errors == ()


def test_all_errors_come_at_once_up_to_a_bound() -> None:
    assert [error.partition(":")[0] for error in parsed(b"x\nA=1\ny\n", {}).errors] == ["line 1", "line 3"]
    errors = parsed(b"x\n" * 1000, {}).errors
    assert len(errors) == MOST_ERRORS + 1
    assert errors[-1] == "and so on; no further errors are listed"


@pytest.mark.parametrize(
    "content",
    ["A='s3cret", 'A="s3cret', "A=s3cret x", "A=s3cret'", "s3cret", "A='b's3cret", 'A="\\s3cret"', "A=$s3cret"],
)
def test_no_error_and_no_repr_shows_a_value(content: str) -> None:
    read = parsed(f"OK=s3cret\n{content}\n".encode(), {})
    assert read.errors
    assert "s3cret" not in repr(read)


def test_a_comment_or_another_order_is_the_same_content() -> None:
    one, two = parsed(b"A=1\nB=2\n", {}).variables, parsed(b"# new\nB='2'\nexport A=1\n", {}).variables
    assert list(content_of(one)) == list(content_of(two))
    assert list(content_of(one)) != list(content_of({"A": "12", "B": ""}))


@given(st.text(st.characters(exclude_characters="\0\n'", exclude_categories=["Cs"])))
def test_single_quotes_keep_everything(value: str) -> None:
    assert parsed(f"A='{value}'\n".encode(), {}) == ({"A": value}, ())


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_double_quotes_with_escapes_keep_everything(value: str) -> None:
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n"})
    assert parsed(f'A="{value.translate(escapes)}"\n'.encode(), {}) == ({"A": value}, ())


@given(st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read = parsed(content, {})
    assert all(error.startswith("line ") for error in read.errors[:MOST_ERRORS])


@given(st.text(alphabet="A=b'\"\\$#{} \t\r\nexport"))
def test_any_text_is_read_or_refused(content: str) -> None:
    parsed(content.encode(), {})
