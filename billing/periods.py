"""Billing periods, calendar months in UTC, and what a part of one costs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """[start_at, end_at), both in UTC."""

    start_at: datetime
    end_at: datetime

    def __str__(self) -> str:
        return f"{self.start_at:%Y-%m}"

    @property
    def seconds(self) -> int:
        return self.offset_s(self.end_at)

    def offset_s(self, at: datetime) -> int:
        """Whole seconds from the start until `at`, which counts as the nearest end if outside."""
        inside = min(max(at, self.start_at), self.end_at)
        return int((inside - self.start_at).total_seconds())

    @property
    def previous(self) -> "Period":
        return month_of(self.start_at - timedelta(days=1))


def month_of(at: datetime) -> Period:
    """The calendar month, in UTC, that `at` lies in."""
    start_at = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end_at = (start_at + timedelta(days=31)).replace(day=1)
    return Period(start_at=start_at, end_at=end_at)


def parse_month(text: str) -> Period:
    """The month written `2026-11`. Raises ValueError."""
    start_at = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    try:
        return month_of(start_at)
    except OverflowError as error:
        raise ValueError(f"{text} has no end") from error


def prorate(amount: int, start: int, end: int, whole: int) -> int:
    """What [start, end) costs where `whole` costs `amount`, all offsets from one origin.

    Each end is rounded, half to even, on its own: the parts of a division add up to the whole,
    however it is divided.
    """
    return round_ratio(amount * end, whole) - round_ratio(amount * start, whole)


def round_ratio(numerator: int, denominator: int) -> int:
    """The nearest integer; half to even."""
    return round(Fraction(numerator, denominator))
