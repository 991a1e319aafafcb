"""`$(NAME)`: what is put in, what stays as written, and what is told about it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.expansion import DEEPEST, LONGEST_BYTES, Scope, compiled, escaped, filled, mentions_count

LITERALS = {"HOME": "/srv", "TRICKY": "$(HOME) $$", "EMPTY": "", "NAME.with-more_1": "odd"}


def expanded(text: str, **texts: str) -> str:
    return filled(scope(texts).expand("command[0]", text)[0], ordinal=7, replicas=12)


def warnings(text: str, **texts: str) -> list[str]:
    said: list[str] = []
    scope(texts, said).expand("command[0]", text)
    return said


def scope(texts: dict[str, str], said: list[str] | None = None, **options: Any) -> Scope:
    told: list[str] = [] if said is None else said
    return Scope(texts, LITERALS, program="web", warn=lambda at, what: told.append(f"{at}: {what}"), **options)


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(PROGRAM)", "web"),
        ("$(REPLICA)", "7"),
        ("$(REPLICA+3000)", "3007"),
        ("$(REPLICA+0)", "7"),
        ("$(REPLICA:02d)", "07"),
        ("$(REPLICA:1d)", "7"),
        ("$(REPLICA:3d)", "  7"),
        ("$(REPLICA+3000:05d)", "03007"),
        ("$(REPLICAS)", "12"),
        ("$(PROGRAM)-$(REPLICA) of $(REPLICAS)", "web-7 of 12"),
        ("--home=$(HOME)/x", "--home=/srv/x"),
        ("$(EMPTY)", ""),
        ("$(NAME.with-more_1)", "odd"),
        ("$(HOME)$(HOME)", "/srv/srv"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("$$(HOME)", "$(HOME)"),
        ("$$$(HOME)", "$/srv"),
        ("$$$$(HOME)", "$$(HOME)"),
        ("costs 5$", "costs 5$"),
        ("$HOME ${HOME}", "$HOME ${HOME}"),
        ("$( ", "$( "),
    ],
)
def test_what_is_put_in(written: str, becomes: str) -> None:
    assert expanded(written) == becomes


@pytest.mark.parametrize(
    "written",
    [
        "$(",
        "$()",
        "$(UNKNOWN)",
        "$(home)",
        "$(RECONCILER_SPAWN_ID)",
        "$(REPLICA+)",
        "$(REPLICA:)",
        "$(REPLICA:d)",
        "$(REPLICA:02x)",
        "$(REPLICA:0222d)",
        "$(REPLICA-1)",
        "$(REPLICA +1)",
        "$(REPLICA+3000",
        "$(REPLICA+12345678901234567890)",
        "$(REPLICAS+1)",
        "$(REPLICAS:02d)",
        "$(HOME",
        "$(1HOME)",
        "$(date +%s)",
        "$((1 + 2))",
        "$(REPLICÀ)",
        "$(REPLICA:٢d)",
    ],
)
def test_what_is_not_understood_stays_as_written_and_is_told(written: str) -> None:
    assert expanded(f"a{written}z") == f"a{written}z"
    assert len(warnings(f"a{written}z")) == 1


def test_a_warning_says_where_what_and_how_to_mean_it() -> None:
    assert warnings("x$(NOPE)") == [
        "command[0]: $(NOPE) is not a variable of the process's environment and stays as written"
        " (a dollar is written $$)"
    ]
    assert warnings("$(date +%s)") == [
        "command[0]: $(date +%s) is not a reference and stays as written (a dollar is written $$)"
    ]
    assert warnings("i=$((i+1)); sleep 0.05; done") == [
        "command[0]: $((i+1)); sleep 0.05… is not a reference and stays as written (a dollar is written $$)"
    ]


@pytest.mark.parametrize("written", ["plain", "$$(date)", "$HOME", "$(HOME)", "$(REPLICA)", "5$"])
def test_nothing_is_told_of_what_is_fine(written: str) -> None:
    assert warnings(written) == []


def test_references_within_a_shells_own_parentheses_are_put_in() -> None:
    assert expanded("echo $(printf %02d $(REPLICA))") == "echo $(printf %02d 7)"


def test_what_was_put_in_is_not_expanded_again() -> None:
    assert expanded("$(TRICKY)") == "$(HOME) $$"
    assert expanded("$(A)", A="$$(HOME)") == "$(HOME)"


def test_variables_may_name_others_in_any_order() -> None:
    assert expanded("$(URL)", URL="http://$(HOST):$(PORT)", PORT="$(REPLICA+3000)", HOST="::1") == "http://::1:3007"


def test_a_variable_that_names_itself_means_the_one_beneath() -> None:
    assert expanded("$(HOME)", HOME="/opt:$(HOME)") == "/opt:/srv"
    assert warnings("$(HOME)", HOME="/opt:$(HOME)") == []
    assert expanded("$(NEW)", NEW="a$(NEW)") == "a$(NEW)"


def test_a_circle_ends_and_is_told() -> None:
    assert expanded("$(A)", A="a$(B)", B="b$(A)") == "ab$(A)"
    assert warnings("$(A)", A="a$(B)", B="b$(A)") == [
        "env.B: $(A) names this variable in turn and stays as written (a dollar is written $$)"
    ]


def test_names_of_our_own_go_before_variables() -> None:
    assert expanded("$(PROGRAM) $(REPLICA) $(REPLICAS)", PROGRAM="x", REPLICA="y", REPLICAS="z") == "web 7 12"


def test_variables_that_double_each_other_do_not_fill_the_memory() -> None:
    texts = {f"V{n}": f"$(V{n - 1})$(V{n - 1})" for n in range(1, 31)} | {"V0": "0123456789"}
    assert len(expanded("$(V30)", **texts)) <= 2 * LONGEST_BYTES
    assert any("grows beyond 128 KiB" in warning for warning in warnings("$(V30)", **texts))


def test_variables_that_double_the_ordinal_do_not_either() -> None:
    texts = {f"V{n}": f"$(V{n - 1})$(V{n - 1})" for n in range(1, 31)} | {"V0": "$(REPLICA)"}
    assert len(expanded("$(V30)", **texts)) <= 2 * LONGEST_BYTES


def test_a_long_chain_of_variables_does_not_exhaust_the_stack() -> None:
    texts = {f"V{n}": f"$(V{n + 1})" for n in range(5000)} | {"V5000": "end"}
    assert expanded("$(V0)", **texts).startswith("$(V")
    assert expanded(f"$(V{5000 - DEEPEST + 2})", **texts) == "end"


def test_secrets_are_followed_through_variables() -> None:
    names = scope({"URL": "db://$(HOME)", "PLAIN": "x", "EMPTY": "written"}, secrets={"HOME", "EMPTY"})
    assert names.expand("", "$(URL)") == ("db:///srv", True)
    assert names.expand("", "$(PLAIN)")[1] is False
    assert names.expand("", "$(EMPTY)")[1] is False  # the written one lies above the secret
    beneath = scope({"HOME": "x$(HOME)"}, secrets={"HOME"})
    assert beneath.expand("", "$(HOME)") == ("x/srv", True)


def test_a_text_without_a_dollar_is_kept_as_it_is() -> None:
    text = "a text"
    assert compiled(text) is text
    assert scope({}).expand("", text)[0] is text
    assert filled(text, 1, 1) is text


def test_a_text_that_was_never_bound_keeps_its_references() -> None:
    assert filled(compiled("$(HOME) $(REPLICA)"), 7, 12) == "$(HOME) 7"


def test_a_text_that_no_ordinal_changes_becomes_one_string() -> None:
    assert scope({}).expand("", "$(HOME)/$(PROGRAM)/$$")[0] == "/srv/web/$"


@pytest.mark.parametrize(
    ("texts", "answer"),
    [(["$(REPLICAS)"], True), (["a", "b$(REPLICAS)"], True), (["$$(REPLICAS)", "$(REPLICA)"], False), ([], False)],
)
def test_whether_the_count_is_mentioned(texts: list[str], answer: bool) -> None:
    assert mentions_count(texts) is answer


@given(st.text())
def test_an_escaped_text_expands_to_itself(text: str) -> None:
    assert expanded(escaped(text)) == text


@given(st.text(alphabet="$()RELICAHOMPSG+:02d xé"))
def test_any_text_expands_to_something(text: str) -> None:
    assert isinstance(expanded(text), str)
