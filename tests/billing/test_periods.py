"""Periods are calendar months in UTC, and the parts of one always add up to it."""

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.periods import month_of, parse_month, prorate, round_ratio

MOMENTS = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the time zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(MOMENTS)
def test_a_moment_lies_in_its_month_and_months_follow_each_other(at: datetime) -> None:
    month = month_of(at)
    assert month.start_at <= at < month.end_at
    assert (month.start_at.day, month.start_at.hour, month.end_at.day) == (1, 0, 1)
    assert month_of(month.end_at).previous == month
    assert parse_month(str(month)) == month
    assert month.seconds == (month.end_at - month.start_at).total_seconds()


def test_months_are_those_of_utc() -> None:
    at = datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert str(month_of(at)) == "2027-01"


@pytest.mark.parametrize("text", ["2026", "2026-13", "november", "2026-11-01", "", "9999-12"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_month(text)


@given(
    amount=st.integers(0, 10**13),
    whole=st.integers(1, 3_000_000),
    cuts=st.lists(st.integers(0, 3_000_000), max_size=8),
)
def test_parts_are_never_negative_and_add_up_to_the_whole(
    amount: int, whole: int, cuts: list[int]
) -> None:
    ends = sorted({0, whole, *(cut for cut in cuts if cut < whole)})
    parts = [prorate(amount, start, end, whole) for start, end in itertools.pairwise(ends)]
    assert sum(parts) == amount
    assert min(parts) >= 0


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (-1, 2, 0),
        (-3, 2, -2),
        (2, 3, 1),
        (10**30 + 1, 10**15, 10**15),
    ],
)
def test_halves_are_rounded_to_the_even_one(numerator: int, denominator: int, rounded: int) -> None:
    assert round_ratio(numerator, denominator) == rounded


def test_offsets_end_with_the_period() -> None:
    month = parse_month("2026-02")
    assert month.offset_s(month.start_at - timedelta(days=1)) == 0
    assert month.offset_s(month.start_at + timedelta(seconds=61, microseconds=999_999)) == 61
    assert month.offset_s(month.end_at + timedelta(days=1)) == month.seconds == 28 * 86_400
