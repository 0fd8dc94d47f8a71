"""Rating: parts add up, order does not matter, nothing is negative or rounded twice."""

import itertools
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.models import InvoiceLine
from billing.periods import month_of
from billing.prices import ModelHasNoPrice, PriceVersion, image_tokens, price_at
from billing.rating import Line, Term, UnknownPrice, rate
from billing.sums import Used

NOVEMBER = month_of(datetime(2026, 11, 1, tzinfo=UTC))
AFTER = NOVEMBER.end_at + timedelta(hours=1)
RESOURCE = uuid.UUID(int=1)
Kind = InvoiceLine.Kind

STANDARD = PriceVersion(
    id=1,
    plan_name="s:standard",
    version=1,
    active_from=datetime(2026, 1, 1, tzinfo=UTC),
    currency="usd",
    monthly_microunits=5_000_000,
    worker_hour_microunits=0,
    token_prices={"*": 20_000, "small": 10_000},
    image_token_prices={"*": 470_000},
    included_tokens=1_000_000,
)
DEDICATED = replace(
    STANDARD,
    id=2,
    plan_name="s:dedicated",
    monthly_microunits=0,
    worker_hour_microunits=2_940_000,
    token_prices={"*": 0},
    image_token_prices={"*": 0},
    included_tokens=0,
)
PRICES = {1: STANDARD, 2: DEDICATED}
MONTH = Term(
    resource_id=RESOURCE,
    resource_name="shop-db",
    plan_name="s:standard",
    workers=0,
    prices=(STANDARD,),
    start_at=datetime(2026, 6, 1, tzinfo=UTC),
    end_at=None,
)
HOURS = replace(MONTH, plan_name="s:dedicated", workers=2, prices=(DEDICATED,))


def used(tokens: int, model_id: str = "large", *, images: int = 0, price_id: int = 1) -> Used:
    return Used(
        resource_id=RESOURCE,
        price_id=price_id,
        model_id=model_id,
        requests=1,
        inputs=1,
        text_tokens=tokens,
        image_tokens=images,
        cost_picounits=0,
    )


def amounts(lines: tuple[Line, ...], *kinds: Kind) -> list[int]:
    return [line.amount_microunits for line in lines if line.kind in kinds]


def test_a_month_on_a_plan_costs_its_price() -> None:
    lines = rate(NOVEMBER, [MONTH], [], PRICES, AFTER)
    (flat,) = lines
    assert (flat.kind, flat.amount_microunits) == (Kind.FLAT, 5_000_000)
    assert (flat.quantity, flat.unit) == (30 * 86_400, "second")
    assert (flat.start_at, flat.end_at) == (NOVEMBER.start_at, NOVEMBER.end_at)


def test_workers_cost_by_the_hour_each() -> None:
    ten_hours = replace(
        HOURS, start_at=NOVEMBER.start_at, end_at=NOVEMBER.start_at + timedelta(hours=10)
    )
    (line,) = rate(NOVEMBER, [ten_hours], [], PRICES, AFTER)
    assert (line.kind, line.quantity) == (Kind.WORKER_HOURS, 2 * 36_000)
    assert line.amount_microunits == 2 * 10 * 2_940_000


def test_tokens_cost_by_model_and_kind_and_are_rounded_once() -> None:
    usage = [used(75, "small"), used(1_000_000_123, images=3)]
    lines = rate(NOVEMBER, [], usage, PRICES, AFTER)
    # 75 × 0.01 = 0.75; 1,000,000,123 × 0.02 = 20,000,002.46; 3 × 0.47 = 1.41
    assert amounts(lines, Kind.TEXT_TOKENS) == [20_000_002, 1]
    assert amounts(lines, Kind.IMAGE_TOKENS) == [1]


def test_a_draft_says_what_would_be_owed_if_it_ended_now() -> None:
    half = NOVEMBER.start_at + timedelta(days=15)
    (flat,) = rate(NOVEMBER, [MONTH], [], PRICES, half)
    assert (flat.amount_microunits, flat.end_at) == (2_500_000, half)


def test_included_tokens_are_taken_off_the_dearest_first() -> None:
    usage = [used(800_000, "small"), used(900_000)]
    lines = rate(NOVEMBER, [MONTH], usage, PRICES, AFTER)
    (included,) = [line for line in lines if line.kind == Kind.INCLUDED]
    assert included.quantity == 1_000_000
    assert included.amount_microunits == -(900_000 * 20_000 + 100_000 * 10_000) // 10**6


def test_included_tokens_of_one_plan_are_not_those_of_another() -> None:
    lines = rate(NOVEMBER, [MONTH], [used(500, price_id=2)], PRICES, AFTER)
    assert not amounts(lines, Kind.INCLUDED)


def test_included_tokens_never_take_off_more_than_there_is() -> None:
    """Two lines of 0.4 micro-units are 0 each; what covers both would be 0.8, so 1."""
    usage = [used(40, "small"), used(20)]
    lines = rate(NOVEMBER, [MONTH], usage, PRICES, AFTER)
    assert sum(amounts(lines, Kind.TEXT_TOKENS, Kind.INCLUDED)) == 0


def test_a_correction_of_more_than_was_used_is_less_than_nothing() -> None:
    lines = rate(NOVEMBER, [MONTH], [used(-1_000_000)], PRICES, AFTER)
    assert amounts(lines, Kind.TEXT_TOKENS) == [-20_000]
    assert not amounts(lines, Kind.INCLUDED)


def test_what_corrections_brought_to_nothing_keeps_its_line() -> None:
    (line,) = rate(NOVEMBER, [], [used(0)], PRICES, AFTER)
    assert (line.quantity, line.amount_microunits) == (0, 0)


def test_both_halves_of_a_plan_change_are_rated() -> None:
    at = NOVEMBER.start_at + timedelta(days=10, microseconds=1)
    terms = [replace(MONTH, end_at=at), replace(HOURS, start_at=at)]
    lines = rate(NOVEMBER, terms, [used(10**9), used(10**9, price_id=2)], PRICES, AFTER)
    assert amounts(lines, Kind.FLAT) == [5_000_000 * 10 // 30 + 1]  # 1,666,666.67
    assert amounts(lines, Kind.WORKER_HOURS) == [2 * 20 * 24 * 2_940_000]
    assert amounts(lines, Kind.TEXT_TOKENS) == [0, 20_000_000]
    (included,) = [line for line in lines if line.kind == Kind.INCLUDED]
    assert included.quantity == 333_333


def test_a_price_that_changes_within_the_month_splits_it() -> None:
    at = NOVEMBER.start_at + timedelta(days=6)
    later = replace(
        STANDARD, id=3, version=2, active_from=at, monthly_microunits=9_000_000, included_tokens=0
    )
    term = replace(MONTH, prices=(STANDARD, later))
    lines = rate(
        NOVEMBER, [term], [used(10**9), used(10**9, price_id=3)], {**PRICES, 3: later}, AFTER
    )
    flats = [line for line in lines if line.kind == Kind.FLAT]
    assert [(line.price_id, line.amount_microunits) for line in flats] == [
        (1, 1_000_000),
        (3, 7_200_000),
    ]
    assert flats[0].end_at == flats[1].start_at == at
    # A row costs what its own price says, whichever was in force when it was stored.
    assert amounts(lines, Kind.TEXT_TOKENS) == [20_000_000, 20_000_000]
    assert [line.quantity for line in lines if line.kind == Kind.INCLUDED] == [200_000]


def test_a_price_to_come_changes_nothing_yet() -> None:
    later = replace(STANDARD, id=3, active_from=AFTER, monthly_microunits=9_000_000)
    term = replace(MONTH, prices=(STANDARD, later))
    assert rate(NOVEMBER, [term], [], PRICES, AFTER) == rate(NOVEMBER, [MONTH], [], PRICES, AFTER)


def test_usage_at_a_price_that_there_is_not_is_an_error() -> None:
    with pytest.raises(UnknownPrice, match="price 9"):
        rate(NOVEMBER, [MONTH], [used(1, price_id=9)], PRICES, AFTER)


MOMENTS = st.integers(-86_400, 32 * 86_400).map(lambda s: NOVEMBER.start_at + timedelta(seconds=s))
USAGE = st.lists(
    st.builds(
        used,
        st.integers(1, 10**12),
        st.sampled_from(["small", "large", "other"]),
        images=st.integers(0, 10**9),
        price_id=st.sampled_from([1, 2]),
    ),
    max_size=6,
    unique_by=lambda one: (one.price_id, one.model_id),
)


@given(cuts=st.lists(MOMENTS, min_size=2, max_size=6, unique=True), usage=USAGE, seed=st.integers())
def test_order_does_not_matter_and_nothing_is_negative(
    cuts: list[datetime], usage: list[Used], seed: int
) -> None:
    cuts = sorted(cuts)
    terms = [
        replace(MONTH if index % 2 else HOURS, start_at=start, end_at=end)
        for index, (start, end) in enumerate(itertools.pairwise(cuts))
    ]
    lines = rate(NOVEMBER, terms, usage, PRICES, AFTER)
    shuffle = random.Random(seed)  # noqa: S311 - an order, no secret
    assert lines == rate(
        NOVEMBER,
        shuffle.sample(terms, len(terms)),
        shuffle.sample(usage, len(usage)),
        PRICES,
        AFTER,
    )
    tokens = [line for line in lines if line.kind in (Kind.TEXT_TOKENS, Kind.IMAGE_TOKENS)]
    included = [line for line in lines if line.kind == Kind.INCLUDED]
    assert all(line.amount_microunits >= 0 for line in lines if line not in included)
    assert sum(line.amount_microunits for line in [*tokens, *included]) >= 0
    assert sum(line.quantity for line in included) <= sum(line.quantity for line in tokens)


@given(cuts=st.lists(MOMENTS, max_size=6, unique=True))
def test_however_a_month_is_divided_it_costs_the_same(cuts: list[datetime]) -> None:
    """One plan, by turns on resources of one name: its parts are those of one month."""
    ends = sorted([NOVEMBER.start_at - timedelta(days=2), *cuts, AFTER + timedelta(days=3)])
    for whole in (MONTH, HOURS):
        parts = [
            replace(whole, start_at=start, end_at=end) for start, end in itertools.pairwise(ends)
        ]
        usage = [used(10**12)]
        divided = rate(NOVEMBER, parts, usage, PRICES, AFTER)
        undivided = rate(NOVEMBER, [whole], usage, PRICES, AFTER)
        for kinds in ([Kind.FLAT, Kind.WORKER_HOURS], [Kind.INCLUDED]):
            assert sum(amounts(divided, *kinds)) == sum(amounts(undivided, *kinds))


@given(tokens=st.integers(0, 10**15), price=st.integers(0, 10**9))
def test_a_line_is_at_most_half_a_micro_unit_from_its_exact_cost(tokens: int, price: int) -> None:
    version = replace(STANDARD, token_prices={"*": price})
    (line,) = rate(NOVEMBER, [], [used(tokens)], {1: version}, AFTER)
    exact = Fraction(version.cost_picounits("large", text_tokens=tokens), 10**6)
    assert abs(line.amount_microunits - exact) <= Fraction(1, 2)


def test_the_price_in_force_is_the_last_that_began() -> None:
    later = replace(STANDARD, id=3, active_from=NOVEMBER.start_at)
    assert price_at((STANDARD, later), NOVEMBER.start_at) is later
    assert price_at((STANDARD, later), NOVEMBER.start_at - timedelta(microseconds=1)) is STANDARD


def test_a_model_without_a_price_is_an_error() -> None:
    only = replace(STANDARD, token_prices={"small": 1}, image_token_prices={})
    assert only.cost_picounits("small", text_tokens=3) == 3
    with pytest.raises(ModelHasNoPrice, match="s:standard has no price for texts of large"):
        only.cost_picounits("large", text_tokens=3)
    with pytest.raises(ModelHasNoPrice, match="images of small"):
        only.cost_picounits("small", text_tokens=0, image_tokens=1)


def test_an_image_is_a_token_for_each_784_pixels_begun() -> None:
    assert [image_tokens(28, 28), image_tokens(29, 28), image_tokens(1000, 1000)] == [1, 2, 1276]
