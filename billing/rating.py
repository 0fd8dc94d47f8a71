"""Rating: what a customer owes for a period, from subscriptions, prices and what was used. Pure.

Each line is rounded once, half to even, to micro-units. Flat prices and worker-hours are prorated
by the second (periods.prorate), in one line for each stretch of a subscription at one price. Tokens
cost what the version of the price says that their rows name, whenever they were stored.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.models import InvoiceLine
from billing.periods import Period, prorate, round_ratio
from billing.prices import PICOUNITS_PER_MICROUNIT, PriceVersion
from billing.sums import Used

SECONDS_PER_HOUR = 3_600
TOKEN = "token"  # noqa: S105 - a unit
SECOND = "second"


class UnknownPrice(Exception):
    """Usage names a version of a price that there is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A resource on a plan during [start_at, end_at), and the versions of that plan's price, by
    `active_from`."""

    resource_id: UUID
    resource_name: str
    plan_name: str
    workers: int
    prices: tuple[PriceVersion, ...]
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """An item of an invoice; the fields are those of InvoiceLine."""

    kind: InvoiceLine.Kind
    description: str
    resource_id: UUID | None = None
    resource_name: str = ""
    plan_name: str = ""
    price_id: int | None = None
    model_id: str = ""
    quantity: int
    unit: str
    unit_price_microunits: int = 0
    amount_microunits: int
    start_at: datetime
    end_at: datetime
    events_count: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """A part of a term at one price; offsets are seconds from the period's start."""

    term: Term
    price: PriceVersion
    start_at: datetime
    end_at: datetime
    start: int
    end: int


def rate(
    period: Period,
    terms: Iterable[Term],
    usage: Iterable[Used],
    prices: Mapping[int, PriceVersion],
    now: datetime,
) -> tuple[Line, ...]:
    """The lines of the period so far, as if every subscription ended `now`; in a fixed order.

    `prices` are the versions that `usage` names, by id. Raises UnknownPrice, ModelHasNoPrice.
    """
    until = min(now, period.end_at)
    terms = list(terms)
    names = {term.resource_id: term.resource_name for term in sorted(terms, key=_start)}
    stretches = [stretch for term in terms for stretch in _stretches(period, term, until)]
    metered = [line for used in usage for line in _rate_tokens(period, used, prices, names)]
    lines = [*_rate_time(period, stretches), *metered, *_include(period, stretches, metered)]
    return tuple(sorted(lines, key=_order))


def _start(term: Term) -> datetime:
    return term.start_at


def _order(line: Line) -> tuple[object, ...]:
    kinds = list(InvoiceLine.Kind)
    return (
        line.resource_name,
        str(line.resource_id),
        kinds.index(line.kind),
        line.start_at,
        line.plan_name,
        line.model_id,
        line.price_id or 0,
    )


def _stretches(period: Period, term: Term, until: datetime) -> Iterator[_Stretch]:
    """The parts of the term in the period, a second or longer, each at the price then in force."""
    term_end_at = min(term.end_at or until, until)
    for index, price in enumerate(term.prices):
        ends_at = [later.active_from for later in term.prices[index + 1 : index + 2]]
        start_at = max(term.start_at, price.active_from, period.start_at)
        end_at = min([term_end_at, *ends_at])
        start, end = period.offset_s(start_at), period.offset_s(end_at)
        if start < end:
            yield _Stretch(
                term=term, price=price, start_at=start_at, end_at=end_at, start=start, end=end
            )


def _rate_time(period: Period, stretches: Iterable[_Stretch]) -> Iterator[Line]:
    """What is owed for having the plan: by the month, and by the hour of its workers."""
    for stretch in stretches:
        price, workers = stretch.price, stretch.term.workers
        if price.monthly_microunits:
            yield _time_line(
                stretch, InvoiceLine.Kind.FLAT, price.monthly_microunits, 1, period.seconds
            )
        if workers and price.worker_hour_microunits:
            hourly = price.worker_hour_microunits
            yield _time_line(
                stretch, InvoiceLine.Kind.WORKER_HOURS, hourly, workers, SECONDS_PER_HOUR
            )


def _time_line(
    stretch: _Stretch, kind: InvoiceLine.Kind, unit_price: int, count: int, whole_s: int
) -> Line:
    what = "monthly price" if kind == InvoiceLine.Kind.FLAT else "worker-hours"
    return Line(
        kind=kind,
        description=f"{stretch.term.plan_name}: {what}",
        resource_id=stretch.term.resource_id,
        resource_name=stretch.term.resource_name,
        plan_name=stretch.term.plan_name,
        price_id=stretch.price.id,
        quantity=(stretch.end - stretch.start) * count,
        unit=SECOND,
        unit_price_microunits=unit_price,
        amount_microunits=prorate(unit_price * count, stretch.start, stretch.end, whole_s),
        start_at=stretch.start_at,
        end_at=stretch.end_at,
    )


def _rate_tokens(
    period: Period, used: Used, prices: Mapping[int, PriceVersion], names: Mapping[UUID, str]
) -> Iterator[Line]:
    """A line for texts, one for images; what came to nothing has its line all the same."""
    price = prices.get(used.price_id)
    if price is None:
        raise UnknownPrice(f"resource {used.resource_id} used tokens at price {used.price_id}")
    kinds = []
    if used.text_tokens or not used.image_tokens:
        unit_price = price.token_price(used.model_id)
        kinds.append((InvoiceLine.Kind.TEXT_TOKENS, "texts", used.text_tokens, unit_price))
    if used.image_tokens:
        unit_price = price.image_token_price(used.model_id)
        kinds.append((InvoiceLine.Kind.IMAGE_TOKENS, "images", used.image_tokens, unit_price))
    for kind, what, tokens, unit_price in kinds:
        yield Line(
            kind=kind,
            description=f"{used.model_id}: tokens of {what}",
            resource_id=used.resource_id,
            resource_name=names.get(used.resource_id, ""),
            plan_name=price.plan_name,
            price_id=price.id,
            model_id=used.model_id,
            quantity=tokens,
            unit=TOKEN,
            unit_price_microunits=unit_price,
            amount_microunits=round_ratio(tokens * unit_price, PICOUNITS_PER_MICROUNIT),
            start_at=period.start_at,
            end_at=period.end_at,
            events_count=used.requests,
        )


def _include(
    period: Period, stretches: Iterable[_Stretch], metered: Iterable[Line]
) -> Iterator[Line]:
    """What a plan includes is taken off the tokens of the same resource and plan."""
    quotas: defaultdict[tuple[UUID, str], int] = defaultdict(int)
    names: dict[UUID, str] = {}
    for stretch in stretches:
        term, included = stretch.term, stretch.price.included_tokens
        names[term.resource_id] = term.resource_name
        quotas[term.resource_id, term.plan_name] += prorate(
            included, stretch.start, stretch.end, period.seconds
        )
    lines: defaultdict[tuple[UUID | None, str], list[Line]] = defaultdict(list)
    for line in metered:
        if line.quantity > 0:
            lines[line.resource_id, line.plan_name].append(line)
    for (resource_id, plan_name), quota in quotas.items():
        tokens, amount = _cover(quota, lines[resource_id, plan_name])
        if tokens:
            yield Line(
                kind=InvoiceLine.Kind.INCLUDED,
                description=f"{plan_name}: included tokens",
                resource_id=resource_id,
                resource_name=names[resource_id],
                plan_name=plan_name,
                quantity=tokens,
                unit=TOKEN,
                amount_microunits=-amount,
                start_at=period.start_at,
                end_at=period.end_at,
            )


def _cover(quota: int, lines: Sequence[Line]) -> tuple[int, int]:
    """How many tokens the quota covers, the dearest first, and what they cost: rounded once, and
    never more than the lines come to."""
    left, cost = quota, 0
    for line in sorted(lines, key=lambda line: -line.unit_price_microunits):
        tokens = min(left, line.quantity)
        left -= tokens
        cost += tokens * line.unit_price_microunits
    amount = round_ratio(cost, PICOUNITS_PER_MICROUNIT)
    return quota - left, min(amount, sum(line.amount_microunits for line in lines))
