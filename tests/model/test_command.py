"""A command written as one string."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.command import CommandError, split_command


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("php artisan queue:work --tries=3", ("php", "artisan", "queue:work", "--tries=3")),
        ("  a   b\t c  ", ("a", "b", "c")),
        ("a 'b c' \"d e\" f\\ g", ("a", "b c", "d e", "f g")),
        ("a ''", ("a", "")),
        ('a "" b', ("a", "", "b")),
        ("a'b'\"c\"d", ("abcd",)),
        ('a "\\"\\\\ \\n"', ("a", '"\\ \\n')),
        ("a '|&;<>()*?[~$HOME`'", ("a", "|&;<>()*?[~$HOME`")),
        ('a "|&;<>()*?[~"', ("a", "|&;<>()*?[~")),
        ("a \\| \\* \\~", ("a", "|", "*", "~")),
        ("a --name=b#c", ("a", "--name=b#c")),
        ("a b~ c=~", ("a", "b~", "c=~")),
        ("a \\\n  b", ("a", "b")),
        ('a "b \\\nc"', ("a", "b c")),
        ("a {x,y} !z ^ %", ("a", "{x,y}", "!z", "^", "%")),
        ("run --port=$(PORT) $(REPLICA+3000) \"$(REPLICA:02d)\" '$(REPLICAS)'", None),
        ("a $$ $", ("a", "$$", "$")),
        ("a $= $, b", ("a", "$=", "$,", "b")),
        ("a X=1", ("a", "X=1")),
        ("'X=1'", ("X=1",)),
        ("./x=1", ("./x=1",)),
        ("a \\$HOME", ("a", "$$HOME")),
        ('a "\\$HOME"', ("a", "$$HOME")),
        ("", ()),
        ("caf\u00e9 \u00a0", ("caf\u00e9", "\u00a0")),
    ],
)
def test_it_is_split_as_a_shell_would(text, words):
    if words is None:
        words = ("run", "--port=$(PORT)", "$(REPLICA+3000)", "$(REPLICA:02d)", "$(REPLICAS)")
    assert split_command(text) == words


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a | b", "has |,", '["sh", "-c", "a | b"]'),
        ("a && b", "has &,", '["sh", "-c", "a && b"]'),
        ("a > log", "has >,", '["sh", "-c", "exec a > log"]'),
        ("a; b", "has ;,", '["sh", "-c", "a; b"]'),
        ("(a)", "has (,", '["sh", "-c", "exec (a)"]'),
        ("a\nb", "has a line break,", "sh"),
        ("a `b`", "has `,", "sh"),
        ('a "`b`"', "has `,", "sh"),
        ("a # b", "has a # that begins a comment", "sh"),
        ("ls *.php", "has an unquoted *", '["ls", "*.php"]'),
        ("ls a?", "has an unquoted ?", '["ls", "a?"]'),
        ("ls [ab]", "has an unquoted [", '["ls", "[ab]"]'),
        ("~/bin/run", "has an unquoted ~", "write the home directory out"),
        ("A=1 run x", "begins with A=", 'write A under env, and command: ["run", "x"]'),
        ("A+=1 run", "begins with A=", "write A under env"),
        ("A=1", "begins with A=", '["..."]'),
        ("run $HOME", "has $HOME", "write $(HOME), or run a shell"),
        ('run "$HOME/x"', "has $HOME", "write $(HOME)"),
        ("run ${HOME:-x}", "has ${HOME:-x}", "write $(HOME)"),
        ("run $1 $@", "has $1", "sh"),
        ("run $(date +%s)", "has $(date +%s)", "sh"),
        ('run "$(date +%s)"', "has $(date +%s)", "sh"),
        ("a 'b", "has a ' that is never closed", ""),
        ('a "b', 'has a " that is never closed', ""),
        ("a 'b' \\", "ends with a backslash", ""),
    ],
)
def test_what_only_a_shell_understands_is_refused_with_the_form_to_write(text, message, hint):
    with pytest.raises(CommandError) as caught:
        split_command(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


PLAIN_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00$\\"), max_size=20)


@given(st.lists(PLAIN_TEXT, min_size=1, max_size=5))
def test_what_was_quoted_for_a_shell_comes_back(words):
    quoted = " ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words)
    assert split_command(quoted) == tuple(words) == tuple(shlex.split(quoted))


@given(st.text(st.sampled_from("ab \t\n'\"\\$(){}=|*~#1"), max_size=16))
def test_nothing_but_a_command_error_is_raised_and_accepted_text_means_what_a_shell_means(text):
    try:
        words = split_command(text)
    except CommandError:
        return
    if "$" not in text and "\\\n" not in text:  # shlex knows neither our references nor continued lines
        assert words == tuple(shlex.split(text))
