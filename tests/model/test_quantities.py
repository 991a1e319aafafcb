"""Quantities as people write them."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import quantities
from reconciler.model.quantities import Amount


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1.5h", 5400.0),
        ("1h2m3s4ms", 3723.004),
        ("0", 0.0),
        ("0s", 0.0),
        ("30", 30.0),
        ("0.25", 0.25),
        ("007", 7.0),
        ("0.1", 0.1),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_units(text, seconds):
    assert quantities.seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1",
        "+1",
        "1 s",
        "1S",
        "5min",
        "1m1h",
        "1m1m",
        "1e3",
        "1_000",
        "infinity",
        "nan",
        ".5",
        "1.",
        "٣s",
        "9" * 40,
        "1h30",
        "32y",
        "99999999999",
        "1s\n",
        "9" * 17 + "h",
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        quantities.seconds(text)


def test_a_field_in_seconds_takes_no_unit():
    assert quantities.plain_seconds("2.5") == 2.5
    with pytest.raises(ValueError, match="is not a number of seconds"):
        quantities.plain_seconds("2s")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("64Ki", 65536),
        ("50Mi", 52428800),
        ("50MiB", 52428800),
        ("1Gi", 1 << 30),
        ("10MB", 10_000_000),
        ("10M", 10_000_000),
        ("10k", 10_000),
        ("1.5Gi", 3 << 29),
        ("7B", 7),
        ("4Pi", 4 << 50),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text, size):
    assert quantities.size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1 MB", "1mi", "1Zi", "Ki", "1e3", "1m", "0x10", "9" * 30, "9999999Pi"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        quantities.size(text)


@pytest.mark.parametrize(("text", "cores"), [("1", 1.0), ("0.5", 0.5), ("500m", 0.5), ("1500m", 1.5)])
def test_cpu_is_written_as_in_kubernetes(text, cores):
    assert quantities.cores(text) == cores


@pytest.mark.parametrize("text", ["012", "1.0", "1e3", "0x1f", "1_000", "", "-", " 1", "\uff11", "9" * 5000])
def test_what_other_readers_would_take_for_another_number_is_no_whole_number(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        quantities.whole(text)


@pytest.mark.parametrize(
    ("text", "mode"), [("022", 0o22), ("0640", 0o640), ("0", 0), ("7777", 0o7777), ("0o640", 0o640)]
)
def test_modes_are_octal(text, mode):
    assert quantities.octal(text) == mode
    assert quantities.octal(quantities.octal_text(mode)) == mode


@pytest.mark.parametrize("text", ["", "8", "0888", "rw", "-1", "07777777"])
def test_what_is_not_octal_is_refused(text):
    with pytest.raises(ValueError, match="octal"):
        quantities.octal(text)


def test_the_signal_table_is_that_of_the_kernel():
    ours = {f"SIG{name}": number for name, number in quantities.SIGNALS.items()}
    theirs = {s.name: int(s) for s in signal.Signals if not s.name.startswith("SIGRT")}
    assert {name: ours.get(name, quantities.signal_number(name)) for name in theirs} == theirs


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("TERM", 15, "TERM"),
        ("SIGTERM", 15, "TERM"),
        ("sigusr2", 12, "USR2"),
        ("15", 15, "TERM"),
        ("RTMIN", 34, "RTMIN"),
        ("SIGRTMIN+3", 37, "RTMIN+3"),
        ("RTMAX-1", 63, "RTMIN+29"),
        ("IOT", 6, "ABRT"),
        ("64", 64, "RTMIN+30"),
    ],
)
def test_signals_have_names_and_numbers(text, number, name):
    assert quantities.signal_number(text) == number
    assert quantities.signal_name(number) == name


@pytest.mark.parametrize(
    "text", ["", "0", "32", "33", "65", "-9", "SIG", "KILLL", "RTMIN+31", "RTMIN-1", "RTMAX+1", "٩"]
)
def test_what_is_no_signal_is_refused(text):
    with pytest.raises(ValueError, match="is not a signal"):
        quantities.signal_number(text)


@pytest.mark.parametrize(
    ("text", "replicas", "down", "up"),
    [
        ("25%", 10, 2, 3),
        ("25%", 4, 1, 1),
        ("25%", 1, 0, 1),
        ("0%", 9, 0, 0),
        ("100%", 7, 7, 7),
        ("3", 1, 3, 3),
        (2, 9, 2, 2),
    ],
)
def test_a_percentage_is_of_the_replicas(text, replicas, down, up):
    assert Amount.parse(text).resolve(replicas) == down
    assert Amount.parse(text).resolve(replicas, round_up=True) == up


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "25 %", "%25", "٣", "9999999", True])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="neither a number nor a percentage"):
        Amount.parse(text)


@given(st.text(max_size=12))
def test_no_text_breaks_a_parser(text):
    for parse in (
        quantities.seconds,
        quantities.plain_seconds,
        quantities.size,
        quantities.cores,
        quantities.whole,
        quantities.octal,
        quantities.signal_number,
        Amount.parse,
    ):
        try:
            parse(text)
        except ValueError as error:
            assert "invalid literal" not in str(error)  # noqa: PT017  ours, not Python's
