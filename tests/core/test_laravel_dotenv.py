"""A `.env` as Laravel reads it. That both agree on any file is shown with PHP itself in tests/e2e."""

import pytest

from reconciler.core.laravel import dotenv


def loaded(text: str, **environment: str) -> dict[str, str]:
    return dotenv.variables(text.encode(), environment)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain", "plain"),
        ("  A  =  trimmed  ", "trimmed"),
        ("A=", ""),
        ("'A'=quoted", "quoted"),
        ("A=value # a comment", "value"),
        ("A=val#ue", "val"),
        ("A=#nothing", ""),
        ("A='single $LITERAL \\n \\' # a comment", "single $LITERAL \\n \\"),
        ('A="double \\"quoted\\" \\\\ \\$x\\n\\t"', 'double "quoted" \\ $x\n\t'),
        ('A="with # inside" # and outside', "with # inside"),
        ('A=mid"dle', 'mid"dle'),
        ("A=back\\slash", "back\\slash"),
        ("A=a=b", "a=b"),
        ("A=$x", "$x"),
    ],
)
def test_one_line(line, value):
    assert loaded(f"# first\n{line}\n") == {"A": value}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("A=two words", "a space within a value"),
        ('A="x" y', "something behind its closing quote"),
        ("A='open", "the single quote is not closed"),
        ('A="open', "a double quote is never closed"),
        ('A = "open', "the double quote is not closed"),
        ('A="\\q"', "a backslash stands before"),
        ('A = "\\', "a backslash stands before"),
        ("=value", "no name before the ="),
        ("A B=value", "expected NAME=value"),
        ("A-B=value", "expected NAME=value"),
        ("some words", "expected NAME=value"),
    ],
)
def test_what_laravel_refuses_or_would_drop(line, told):
    with pytest.raises(dotenv.Invalid, match=f"line 2: .*{told}"):
        loaded(f"# first\n{line}\n")


def test_export_may_stand_before_names_of_two_letters_or_more():
    assert loaded("export AB=1\nexport\t CD=2") == {"AB": "1", "CD": "2"}
    with pytest.raises(dotenv.Invalid):
        loaded("export A=1")


def test_a_value_in_double_quotes_may_span_lines_and_errors_name_the_first():
    assert loaded('A="one\n  two # no comment\nthree"\nB=4') == {"A": "one\n  two # no comment\nthree", "B": "4"}
    assert loaded('A="one\n"\nB=4') == {"A": "one\n", "B": "4"}
    assert loaded('A="one\\\\"\nB=4') == {"A": "one\\", "B": "4"}
    with pytest.raises(dotenv.Invalid, match=r"line 2: .*behind its closing quote"):
        loaded('X=1\nA="one\ntwo" three\n')
    with pytest.raises(dotenv.Invalid, match=r"line 3: a double quote is never closed \(Laravel would drop"):
        loaded('X=1\n\nA="one\nB=2\n')


def test_line_ends_and_marks_of_every_system():
    assert dotenv.variables(b"\xef\xbb\xbfA=1\r\nB=2\rC=3\n\n  \n", {}) == {"A": "1", "B": "2", "C": "3"}
    assert dotenv.variables(b"A=\xff1", {}) == {"A": "?1"}
    with pytest.raises(dotenv.Invalid, match="NUL"):
        loaded("A=1\0")


def test_the_process_s_own_environment_wins_and_the_last_line_of_a_name():
    assert loaded("A=1\nA=2\nB=3", B="mine") == {"A": "2", "B": "mine"}


def test_a_name_alone_unsets():
    assert loaded("A=1\nA\nB=2", B="mine") == {"B": "mine"}
    assert loaded("A\nB=1") == {"B": "1"}


def test_references_are_replaced_where_they_are_known():
    assert loaded("A=1\nB=${A}2\nC=\"${B} ${NOBODY} \\${A}\"\nD='${A}'", X="x")["C"] == "12 ${NOBODY} ${A}"
    assert loaded("A=${X}-${X}\nB=$A ", X="1") == {"X": "1", "A": "1-1", "B": "$A"}
    assert loaded("A=${X}\nX=2", X="${Y}", Y="no")["A"] == "${Y}", "what is put in is not looked at again"
    assert loaded("B=A\nA=1\nC=${${B}}")["C"] == "1", "from the last to the first"


def test_no_error_tells_a_value():
    for text in ("A=secret word", "A='secret", 'A="secret', 'A="secret" x', 'A="\\secret"', "secret word"):
        with pytest.raises(dotenv.Invalid) as told:
            loaded(text)
        assert "secret" not in str(told.value)
