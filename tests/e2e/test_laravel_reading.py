"""What we read of an application's files without PHP is what PHP itself, phpdotenv and the framework make of them."""

import base64
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconciler.core.laravel import dotenv, phpfile
from reconciler.core.laravel.phpvalues import Unknown
from support.laravel import PACKAGES

ORACLE = Path(__file__).parent / "laravel_oracle.php"
CASES = 4000

pytestmark = [pytest.mark.debian(*PACKAGES), pytest.mark.timeout(120)]


def php_says(kind: str, contents: Sequence[str], environment: Mapping[str, str]) -> list[Any]:
    """PHP's answers. A question that ends PHP itself is an error, and the next ones are asked anew."""
    answers: list[Any] = []
    while len(answers) < len(contents):
        questions = "".join(_question(kind, content, environment) for content in contents[len(answers) :])
        done = subprocess.run(
            ["php", "-d", "display_errors=0", "-d", "error_reporting=0", str(ORACLE)],
            input=questions, capture_output=True, text=True, check=False, env={**os.environ, **environment},
        )  # fmt: skip
        answers += map(json.loads, done.stdout.splitlines())
        if len(answers) < len(contents):
            answers.append({"error": "PHP itself ended"})
    return answers


def _question(kind: str, content: str, environment: Mapping[str, str]) -> str:
    asked = {"kind": kind, "content": base64.b64encode(content.encode()).decode(), "environment": environment}
    return json.dumps(asked) + "\n"


class TestDotenv:
    ENVIRONMENT: ClassVar = {"B": "the process's", "X": "1"}
    PIECES = (
        "A", "B", "FOO", "a.b", "=", '="', '"', "'", "\\", "$", "${A}", "${B}", "${NOBODY}", "#", " #", " ", "  ", "\t",
        "\n", "\n", "\n", "\r\n", "export ", "x", "y z", "\\n", '\\"', "\\\\", "\\$", "\\q", "é", "A=1\n",
        'B="two ${A}"\n', "C='lit ${A}'\n", "D=a#b\n", "E=a #b\n", "FOO\n", '"quoted"=1\n', "{", "}", "\v",
        'A="m\nn"\n',
    )  # fmt: skip

    def files(self) -> list[str]:
        chance = random.Random(4)
        return ["".join(chance.choices(self.PIECES, k=chance.randint(1, 14))) for _ in range(CASES)]

    def test_any_file(self) -> None:
        agreed = 0
        files = self.files()
        for file, says in zip(files, php_says("dotenv", files, self.ENVIRONMENT), strict=True):
            try:
                ours: Any = dotenv.variables(file.encode(), self.ENVIRONMENT)
            except dotenv.Invalid as error:
                ours = error
            # The one thing in which we are stricter: half a file is not taken for a whole one.
            if "ok" in says and "never closed" not in str(ours):
                assert says["ok"] == ours, file
                agreed += 1
            else:
                assert isinstance(ours, dotenv.Invalid), (file, ours)
        assert agreed > CASES / 20


class Expressions:
    """Random configuration in PHP."""

    ENVIRONMENT: ClassVar = {
        "A": "1", "B": "two words", "T": "true", "F": "(false)", "N": "null", "E": "empty", "Q": "'quoted'",
        "S": "My Shop", "P": "6379",
        "L": "a,b,,c", "U": "Müller & Söhne @ Øre", "Z": "0", "NEGATIVE": "-5x", "BLANK": "",
    }  # fmt: skip
    NAMES = (*ENVIRONMENT, "NOBODY")
    TEXTS = (
        "'x'", "''", r"'it\'s a'", r"'c:\path\\'", '"dq"', r'"a\nb\t\$x\"\\"', r'"\x41\101\u{e9}"', '"$var"', '"{$x}"',
        r'"10 \q"', "'0'", "'12'", "'012'", "'-7'", "'1.5'", "'ü'",
    )  # fmt: skip
    NUMBERS = ("0", "-3", "7", "30", "true", "FALSE", "null", "0x1F", "1.5", "1_000", ".5", "2.0", "017")

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def file(self) -> str:
        before = "<?php\n\nuse Illuminate\\Support\\Str; // x\n/* ; */\n"
        return f"{before}return {self.expression(self._chance.randint(1, 4))};"

    def expression(self, depth: int) -> str:
        pick = self._chance.choice
        if depth <= 0:
            return pick((pick(self.TEXTS), pick(self.NUMBERS), f"env('{pick(self.NAMES)}')"))

        def e() -> str:
            return self.expression(depth - 1)

        return pick(self._kinds(e, pick))()

    def _kinds(self, e: Callable[[], str], pick: Callable[[Sequence[str]], str]) -> tuple[Callable[[], str], ...]:
        def element() -> str:
            return pick((e(), f"{pick((pick(self.TEXTS), '3', 'null', e()))} => {e()}"))

        return (
            lambda: f"env('{pick(self.NAMES)}', {e()})",
            lambda: f"[{', '.join(element() for _ in range(self._chance.randint(0, 4)))}]",
            lambda: f"array({element()}, {element()},)",
            lambda: f"({e()})",
            lambda: f"{e()} . {e()}",
            lambda: f"{e()} ?: ({e()})",
            lambda: f"({e()} ? {e()} : {e()})",
            lambda: f"{e()} ?? {e()}",
            lambda: f"{e()} && {e()}",
            lambda: f"{e()} || {e()}",
            lambda: f"({e()} {pick(('===', '!==', '==', '!='))} {e()})",
            lambda: f"({pick(('int', 'string', 'bool', 'array'))}) {e()}",
            lambda: f"!{e()}",
            lambda: f"({self._chance.randint(0, 9)} {pick('+-*')} {pick(('4', chr(39) + '5' + chr(39)))})",
            lambda: f"Str::slug({e()}{pick(('', ', ' + chr(39) + '_' + chr(39)))})",
            lambda: f"{pick(('storage_path', 'database_path', 'base_path'))}({pick(('', chr(39) + 'x' + chr(39)))})",
            lambda: f"explode(',', {e()})",
            lambda: f"array_filter({e()})",
            lambda: f"array_merge([{element()}], {e()})",
            lambda: f"[...[{e()}], {e()}]",
            lambda: f"([{element()}] + {e()})",
            lambda: f"({self._chance.randint(0, 9)} {pick(('<', '<=', '>', '>='))} {pick(self.NUMBERS)})",
            lambda: f"(PHP_VERSION_ID >= 70000 ? {(same := pick(self.TEXTS))} : {pick((same, same, e()))})",
            lambda: f"array_filter([PDO::MYSQL_ATTR_SSL_{pick(('CA', 'KEY'))} => {e()}])",
            lambda: f"(extension_loaded('pdo_mysql') ? {e()} : {e()})",
            lambda: (
                f"[{e()}, 'f' => fn () => [1, 2], 'r' => strrev('x'), 'o' => new ArrayObject([]), PDO::ATTR_CASE => 1]"
            ),
        )


def unpaired(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:  # else an object
        return {key: unpaired(each) for key, each in value["array"]}
    return value


def unknowns(value: Any) -> Iterator[Unknown]:
    if isinstance(value, Unknown):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from unknowns(each)


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether all that we claim to know is so."""
    if isinstance(ours, Unknown):
        return True
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(key in theirs and agrees(ours[key], theirs[key]) for key in ours)
    return type(ours) is type(theirs) and ours == theirs


class TestConfiguration:
    def test_any_expression(self) -> None:
        make = Expressions(seed=4)
        files = [make.file() for _ in range(CASES)]
        known = 0
        for file, says in zip(files, php_says("php", files, make.ENVIRONMENT), strict=True):
            ours = phpfile.returned(file.encode(), "/srv/shop", make.ENVIRONMENT)
            if "ok" in says:
                assert agrees(ours, unpaired(says["ok"])), (file, says, ours)
                known += not any(unknowns(ours))
        assert known > CASES / 2
