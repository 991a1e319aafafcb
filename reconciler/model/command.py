"""A command written as one string, split the way a shell would, although no shell is run.

What only a shell could do (pipes, globs, variables) is refused with the list form that does it, rather than handed to
the program as strange arguments. `$(NAME)` is ours and stays in place.
"""

import json
import re

_OPERATORS = frozenset("|&;<>()\n`")
_GLOBS = frozenset("*?[")
_OURS = re.compile(r"\$\([A-Za-z_][A-Za-z0-9_.-]*(?:\+[0-9]{1,9})?(?::[0-9]{1,3}d)?\)|\$\$")
_SHELL_VARIABLE = re.compile(r"\$(?:[A-Za-z0-9_@*#?!-]|\{|\()")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_ESCAPED_IN_DOUBLE_QUOTES = frozenset('"\\$`')


class CommandError(ValueError):
    """What a shell would have done and we do not; `hint` shows what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def split_command(text: str) -> tuple[str, ...]:
    """The arguments of a command. Raises CommandError."""
    text = text.lstrip(" \t\n").rstrip("\n")  # a space at the end may be an escaped one
    words = _Splitter(text).words()
    if words and (match := _ASSIGNMENT.match(words[0])) and text.startswith(match[0]):
        name = match[0].rstrip("+=")
        rest = words[1:] or ("...",)
        raise CommandError(
            f"begins with {name}=, which only a shell understands",
            f"write {name} under env, and command: {list_form(rest)}",
        )
    return words


def list_form(words: tuple[str, ...]) -> str:
    """How the same command is written as a list."""
    return json.dumps(list(words), ensure_ascii=False)


class _Splitter:
    """One pass over the text; `word` is None between words, so that '' is a word too."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.word: list[str] | None = None
        self.done: list[str] = []
        self.glob = ""  # the first unquoted one; told at the end, when the list form is known

    def words(self) -> tuple[str, ...]:
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in " \t":
                self._end_word()
                self.at += 1
            elif letter == "'":
                self._single_quoted()
            elif letter == '"':
                self._double_quoted()
            else:
                self._unquoted(letter)
        self._end_word()
        words = tuple(self.done)
        if self.glob:
            hint = f"to pass it on as it is, write the list {list_form(words)}"
            if self.glob == "~":
                hint = "write the home directory out"
            raise CommandError(f"has an unquoted {self.glob}, which only a shell would expand", hint)
        return words

    def _put(self, letters: str) -> None:
        if self.word is None:
            self.word = []
        self.word.append(letters)

    def _put_escaped(self, letter: str) -> None:
        if letter == "$":
            self._put("$$")  # expansion comes after splitting, and this dollar shall survive it
        elif letter != "\n":  # a backslash at the end of a line continues it
            self._put(letter)

    def _end_word(self) -> None:
        if self.word is not None:
            self.done.append("".join(self.word))
            self.word = None

    def _unquoted(self, letter: str) -> None:
        if letter == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            if following == "":
                raise CommandError("ends with a backslash that escapes nothing")
            self._put_escaped(following)
            self.at += 2
            return
        if letter == "$":
            self._dollar()
            return
        if letter in _OPERATORS:
            raise self._needs_shell("a line break" if letter == "\n" else letter)
        begins_word = self.word is None
        if letter == "#" and begins_word:
            raise self._needs_shell("a # that begins a comment")
        if letter in _GLOBS or (letter == "~" and begins_word):
            self.glob = self.glob or letter
        self._put(letter)
        self.at += 1

    def _single_quoted(self) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise CommandError("has a ' that is never closed")
        self._put(self.text[self.at + 1 : end])
        self.at = end + 1

    def _double_quoted(self) -> None:
        self._put("")
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == '"':
                self.at += 1
                return
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] in _ESCAPED_IN_DOUBLE_QUOTES | {"\n"}:
                following = self.text[self.at + 1 : self.at + 2]
                self._put_escaped(following)
                self.at += 2
            elif letter == "$":
                self._dollar()
            elif letter == "`":
                raise self._needs_shell(letter)
            else:
                self._put(letter)
                self.at += 1
        raise CommandError('has a " that is never closed')

    def _dollar(self) -> None:
        """Ours (`$(NAME)`, `$$`), a shell's (an error), or only a dollar."""
        if ours := _OURS.match(self.text, self.at):
            self._put(ours[0])
            self.at = ours.end()
            return
        if variable := _SHELL_VARIABLE.match(self.text, self.at):
            raise self._needs_shell(_whole_variable(self.text[variable.start() :]))
        self._put("$")
        self.at += 1

    def _needs_shell(self, what: str) -> CommandError:
        script = self.text if self.text.startswith("exec ") else f"exec {self.text}"
        simple = not any(operator in self.text for operator in "|&;\n")
        argv = ("sh", "-c", script if simple else self.text)
        name = re.match(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", what)
        ours = f"write $({name[1]}), or " if name else ""
        return CommandError(
            f"has {what}, which only a shell understands and none is run",
            f"{ours}run a shell by the list {list_form(argv)}",
        )


def _whole_variable(text: str) -> str:
    match = re.match(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}]{0,40}\}?|\([^)]{0,40}\)?|.)", text)
    return match[0] if match else "$"
