"""Lines are framed one by one, cut where they are too long, and nothing of them is lost; JSON is always JSON."""

import json
import random
from typing import Any

import pytest

from reconciler.pumping.framing import LINE_BYTES, Lines, cut, framed, time_text

NOON_MS = 1_782_993_600_123  # 2026-07-02T12:00:00.123Z


def prefixed(data: bytes, **options: Any) -> bytes:
    return framed(cut(data, **options), "prefix", "web", 3, "out", NOON_MS)


def objects(data: bytes) -> list[dict[str, Any]]:
    """What a strict reader makes of the JSON lines."""
    lines = framed(cut(data), "json", "web", 3, "out", NOON_MS).decode()
    return [json.loads(line) for line in lines.removesuffix("\n").split("\n")] if lines else []


def pieces(lines: Lines) -> list[tuple[bytes, bool]]:
    """Text and whether its line ends with it."""
    texts = lines.text.split(b"\n") if lines.taken else []
    return [(text, place not in lines.unended) for place, text in enumerate(texts)]


def taken_bytes(lines: Lines) -> bytes:
    return b"".join(text + (b"\n" if is_end else b"") for text, is_end in pieces(lines))


class TestPrefix:
    def test_says_when_who_and_where(self) -> None:
        assert prefixed(b"hello\n") == b"2026-07-02T12:00:00.123Z web/3 out | hello\n"

    def test_stands_before_each_line_also_an_empty_one(self) -> None:
        lines = prefixed(b"a\n\nb\n").splitlines()
        assert [line.partition(b" | ")[2] for line in lines] == [b"a", b"", b"b"]

    def test_leaves_bytes_as_they_are(self) -> None:
        assert prefixed(b"\0\xff\x1b[1m\r\n").endswith(b" | \0\xff\x1b[1m\r\n")

    def test_says_that_a_line_goes_on(self) -> None:
        first, second = prefixed(b"x" * (LINE_BYTES + 5) + b"\n").splitlines()
        assert first == b"2026-07-02T12:00:00.123Z web/3 out + " + b"x" * LINE_BYTES
        assert second == b"2026-07-02T12:00:00.123Z web/3 out | xxxxx"


class TestJson:
    def test_is_one_object_per_line(self) -> None:
        line = framed(cut(b"hello\n"), "json", "web", 3, "out", NOON_MS)
        assert line == (
            b'{"time":"2026-07-02T12:00:00.123Z","program":"web","replica":3,"stream":"out","message":"hello"}\n'
        )

    def test_holds_any_text(self) -> None:
        texts = [
            'a "quoted" \\ word',
            "tab\tbell\a",
            "nul\0",
            "\x1b[31mred\x1b[0m",
            "grün \u2028 \U0001f600",
            "\r",
            "\x7f",
            "",
        ]
        data = "".join(f"{text}\n" for text in texts).encode()
        assert [each["message"] for each in objects(data)] == texts

    def test_has_a_replacement_character_for_bytes_that_are_no_utf8(self) -> None:
        assert [each["message"] for each in objects(b"a\xffb\n\xed\xa0\x80\n\xe2\x82\n")] == ["a�b", "���", "�"]

    def test_says_that_a_line_goes_on(self) -> None:
        first, second = objects(b'"' * (LINE_BYTES + 1) + b"\n")
        assert (first["partial"], len(first["message"])) == (True, LINE_BYTES)
        assert "partial" not in second

    @pytest.mark.parametrize("seed", range(5))
    def test_of_whatever_bytes_can_be_read_and_has_each_line_once(self, seed: int) -> None:
        dice = random.Random(seed)
        alphabet = b'a"\\\n\x00\x1b\xff\xc3\xa4n'
        for _ in range(300):
            data = bytes(dice.choices(alphabet, k=dice.randrange(30)))
            whole = data[: data.rfind(b"\n") + 1]
            text = "".join(f"{each['message']}\n" for each in objects(data))
            assert text == whole.decode(errors="replace")


def test_raw_lines_of_a_shared_log_stay_what_they_are() -> None:
    assert framed(cut(b"a\n\nb\nrest"), "raw", "web", 3, "out", NOON_MS) == b"a\n\nb\n"


def test_no_line_makes_nothing() -> None:
    for form in ("raw", "prefix", "json"):
        assert framed(cut(b"no end yet"), form, "web", 3, "out", NOON_MS) == b""


class TestCutting:
    def test_leaves_a_line_without_end(self) -> None:
        lines = cut(b"a\nb\nrest")
        assert (lines.text, lines.taken) == (b"a\nb", 4)

    def test_tells_an_empty_line_from_none(self) -> None:
        assert (cut(b"\n").text, cut(b"\n").taken) == (b"", 1)
        assert (cut(b"").text, cut(b"").taken) == (b"", 0)

    @pytest.mark.parametrize("length", [LINE_BYTES - 1, LINE_BYTES])
    def test_a_line_that_is_just_not_too_long_stays_whole(self, length: int) -> None:
        assert pieces(cut(b"a\n" + b"x" * length + b"\nb\n")) == [(b"a", True), (b"x" * length, True), (b"b", True)]
        assert cut(b"x" * length).taken == 0

    def test_a_longer_one_becomes_pieces(self) -> None:
        found = pieces(cut(b"a\n" + b"x" * (2 * LINE_BYTES + 1) + b"\nb\nrest"))
        assert [(len(text), is_end) for text, is_end in found] == [
            (1, True), (LINE_BYTES, False), (LINE_BYTES, False), (1, True), (1, True),
        ]  # fmt: skip

    def test_one_without_end_is_taken_as_far_as_it_is_too_long(self) -> None:
        lines = cut(b"x" * (LINE_BYTES + 1))
        assert (pieces(lines), lines.taken) == ([(b"x" * LINE_BYTES, False)], LINE_BYTES)

    @pytest.mark.parametrize(("character", "shift"), [("ä", 1), ("€", 1), ("€", 2), ("😀", 1), ("😀", 2), ("😀", 3)])
    def test_no_character_is_cut_in_two(self, character: str, shift: int) -> None:
        data = b"x" * (LINE_BYTES - shift) + character.encode() * 10 + b"\n"
        first, second = pieces(cut(data))
        assert first == (b"x" * (LINE_BYTES - shift), False)
        assert second[0].decode() == character * 10

    def test_where_there_are_no_characters_it_is_cut_anywhere(self) -> None:
        assert len(cut(b"\x80" * (LINE_BYTES + 9)).text) == LINE_BYTES

    def test_the_first_of_some_lines(self) -> None:
        lines = cut(b"a\n\nccc\n")
        assert [(lines.first(n).text, lines.first(n).taken) for n in (1, 2, 3, 9)] == [
            (b"a", 2), (b"a\n", 3), (b"a\n\nccc", 7), (b"a\n\nccc", 7),
        ]  # fmt: skip

    @pytest.mark.parametrize("seed", range(3))
    def test_what_was_cut_is_cut_again_in_the_same_way(self, seed: int) -> None:
        """So that a portion that was being written can be written on."""
        dice = random.Random(seed)
        for _ in range(40):
            parts = [b"\xc3\xa4x"[i % 3 :] * dice.choice([0, 1, 40_000, LINE_BYTES // 3, 70_000]) for i in range(4)]
            data = dice.choice([b"", b"\n"]).join(parts) + dice.choice([b"", b"\n"])
            lines = cut(data)
            assert taken_bytes(lines) == data[: lines.taken]
            for count in range(1, len(pieces(lines)) + 1):
                first = lines.first(count)
                again = cut(data[: first.taken], whole=True)
                assert pieces(again) == pieces(first) == pieces(lines)[:count]
                assert again.taken == first.taken


def test_times_have_milliseconds() -> None:
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
    assert time_text(NOON_MS) == "2026-07-02T12:00:00.123Z"
