"""Cron expressions: what is read, what is refused, and when it comes next, also when clocks change."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.model.cron import Schedule

BERLIN = ZoneInfo("Europe/Berlin")  # 2026: an hour is skipped on 29 March at 2:00, one repeated on 25 October at 3:00


def coming(text: str, after: str, count: int = 1, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next times, as local time with its offset."""
    moment = datetime.fromisoformat(after).replace(tzinfo=zone)
    found = []
    for _ in range(count):
        moment = Schedule.parse(text).next_after(moment)
        found.append(moment.strftime("%a %Y-%m-%d %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("text", "after", "comes"),
    [
        ("* * * * *", "2026-01-01 00:00:30", "Thu 2026-01-01 00:01 +0100"),
        ("0 8 * * *", "2026-01-01 08:00", "Fri 2026-01-02 08:00 +0100"),
        ("0 8 * * *", "2026-01-01 07:59:59", "Thu 2026-01-01 08:00 +0100"),
        ("0 8 * * 1-5", "2026-01-02 09:00", "Mon 2026-01-05 08:00 +0100"),
        ("0 8 * * MON-fri", "2026-01-02 09:00", "Mon 2026-01-05 08:00 +0100"),
        ("0 8 * * 7", "2026-01-01 09:00", "Sun 2026-01-04 08:00 +0100"),
        ("0 8 * * 0", "2026-01-01 09:00", "Sun 2026-01-04 08:00 +0100"),
        ("*/15 * * * *", "2026-01-01 00:31", "Thu 2026-01-01 00:45 +0100"),
        ("10-50/20 * * * *", "2026-01-01 00:31", "Thu 2026-01-01 00:50 +0100"),
        ("5/20 * * * *", "2026-01-01 00:06", "Thu 2026-01-01 00:25 +0100"),
        ("0,30 9,17 * * *", "2026-01-01 09:30", "Thu 2026-01-01 17:00 +0100"),
        ("0 0 31 * *", "2026-02-01 00:00", "Tue 2026-03-31 00:00 +0200"),
        ("0 0 29 2 *", "2026-02-01 00:00", "Tue 2028-02-29 00:00 +0100"),
        ("0 0 29 FEB *", "2097-01-01 00:00", "Fri 2104-02-29 00:00 +0100"),  # 2100 is no leap year
        ("0 0 13 * 5", "2026-01-01 00:00", "Fri 2026-01-02 00:00 +0100"),  # the 13th, and every Friday
        ("0 0 13 * *", "2026-01-01 00:00", "Tue 2026-01-13 00:00 +0100"),
        ("0 0 ? * 5", "2026-01-01 00:00", "Fri 2026-01-02 00:00 +0100"),
        ("0 0 30 2 1", "2026-02-03 00:00", "Mon 2026-02-09 00:00 +0100"),  # never the 30th, but Mondays there are
        ("@daily", "2026-01-01 00:00", "Fri 2026-01-02 00:00 +0100"),
        ("@Hourly", "2026-01-01 00:00", "Thu 2026-01-01 01:00 +0100"),
        ("@weekly", "2026-01-01 00:00", "Sun 2026-01-04 00:00 +0100"),
        ("59 23 31 12 *", "2026-12-31 23:59", "Fri 2027-12-31 23:59 +0100"),
    ],
)
def test_it_comes_when_all_fields_agree(text, after, comes):
    assert coming(text, after) == [comes]


def test_what_a_clock_skips_comes_when_the_gap_is_over():
    assert coming("30 2 * * *", "2026-03-28 12:00", 2) == ["Sun 2026-03-29 03:00 +0200", "Mon 2026-03-30 02:30 +0200"]


def test_within_a_skipped_hour_all_of_it_is_one_moment():
    assert coming("*/20 2,3 * * *", "2026-03-29 01:00", 3) == [
        "Sun 2026-03-29 03:00 +0200",
        "Sun 2026-03-29 03:20 +0200",
        "Sun 2026-03-29 03:40 +0200",
    ]


def test_what_a_clock_repeats_comes_twice():
    assert coming("30 2 * * *", "2026-10-25 00:00", 3) == [
        "Sun 2026-10-25 02:30 +0200",
        "Sun 2026-10-25 02:30 +0100",
        "Mon 2026-10-26 02:30 +0100",
    ]


def test_a_gap_of_a_whole_day_is_a_gap():
    """Samoa went over the date line and had no 30 December 2011."""
    assert coming("0 12 30 12 *", "2011-12-29 13:00", zone=ZoneInfo("Pacific/Apia")) == ["Sat 2011-12-31 00:00 +1400"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields; write five"),
        ("0 * * * * *", "has 6 fields"),
        ("@fortnightly", "one of @yearly"),
        ("60 * * * *", "'60' is not a minute, 0 to 59"),
        ("* 24 * * *", "'24' is not a hour"),
        ("* * 0 * *", "'0' is not a day of month"),
        ("* * * 13 *", "'13' is not a month"),
        ("* * * * 8", "'8' is not a day of week"),
        ("* * * * MOON", "'MOON' is not a day of week"),
        ("MON * * * *", "'MON' is not a minute"),
        ("5-1 * * * *", "'5-1' counts backwards"),
        ("* * * * FRI-MON", "counts backwards; write two ranges"),
        ("*/0 * * * *", "steps by 0"),
        ("*-5 * * * *", "is not a minute"),
        ("1,,2 * * * *", "'' is not a minute"),
        ("1- * * * *", "'1-' is not a minute"),
        ("-1 * * * *", "'-1' is not a minute"),
        ("1.5 * * * *", "is not a minute"),
        ("٣ * * * *", "is not a minute"),
        ("0 0 30 2 *", "never comes: none of these months has 30 days"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("L * * * *", "'L' is not a minute"),
    ],
)
def test_what_means_nothing_is_refused(text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Schedule.parse(text)


FIELDS = [
    st.sampled_from(["*", "0", "30", "*/7", "1-9", "5,6"]),
    st.sampled_from(["*", "0", "2", "3", "*/5", "22-23"]),
    st.sampled_from(["*", "1", "15", "29", "31", "*/10"]),
    st.sampled_from(["*", "2", "3", "10", "JAN-MAR"]),
    st.sampled_from(["*", "0", "5", "MON-FRI"]),
]
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@given(st.tuples(*FIELDS), st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), ZONES)  # noqa: DTZ001
def test_what_comes_next_is_later_and_is_what_was_written(fields, moment, zone):
    text = " ".join(fields)
    try:
        schedule = Schedule.parse(text)
    except ValueError:
        assume(False)
        raise
    after = moment.replace(tzinfo=ZoneInfo(zone))
    found = schedule.next_after(after)
    assert found.astimezone(UTC) > after.astimezone(UTC)
    earlier = found.astimezone(UTC) - timedelta(minutes=1)
    skipped = found.utcoffset() != earlier.astimezone(found.tzinfo).utcoffset()
    if not skipped:
        assert found.minute in schedule.minutes
        assert found.hour in schedule.hours
        assert found.month in schedule.months
    # Nothing is left out: from just before it, it is the next one.
    if earlier > after.astimezone(UTC):
        assert schedule.next_after(earlier.astimezone(found.tzinfo)) == found
