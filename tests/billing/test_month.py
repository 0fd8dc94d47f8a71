"""A quarter of synthetic traffic: the invoices are those of an independent calculation.

50 tenants change plans, rotate keys, fail, are corrected and are granted credits while prices
change. The calculation below knows nothing of billing/rating.py and billing/periods.py: it goes
over the events one by one, in fractions.
"""

import calendar
import random
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from billing.bulk import record_many
from billing.credits import grant_credit
from billing.invoices import close_due, expand
from billing.metering import Usage
from billing.models import CreditUse, Customer, Invoice, InvoiceLine, Price
from billing.plans import find_plan, sync_plans
from billing.subscriptions import change_plan, end_subscription, subscribe

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

TENANTS = 50
FIRST_DAY = datetime(2026, 9, 20, tzinfo=UTC)
DAYS = 80
MONTHS = [9, 10, 11]
MODELS = ["small", "large", "pictures"]


@dataclass(frozen=True, kw_only=True)
class Version:
    active_from: datetime
    monthly: int = 0
    worker_hour: int = 0
    tokens: dict[str, int]
    image_tokens: dict[str, int] = field(default_factory=dict)
    included: int = 0


JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
OCTOBER_17 = datetime(2026, 10, 17, 10, 30, 7, tzinfo=UTC)
NOVEMBER_5 = datetime(2026, 11, 5, tzinfo=UTC)
PLANS = {
    "standard": [
        Version(
            active_from=JANUARY,
            tokens={"*": 20_001, "small": 9_999},
            image_tokens={"*": 470_003},
            included=1_000_003,
        ),
        Version(
            active_from=OCTOBER_17,
            monthly=1_234_567,
            tokens={"*": 30_003},
            image_tokens={"*": 512_345},
            included=3_000_001,
        ),
        Version(active_from=NOVEMBER_5, tokens={"*": 7}, image_tokens={"*": 11}),
    ],
    "team": [Version(active_from=JANUARY, monthly=49_000_001, tokens={"*": 13}, included=10**7)],
    "dedicated": [
        Version(active_from=JANUARY, worker_hour=2_940_001, tokens={"*": 0}, image_tokens={"*": 0}),
        Version(
            active_from=OCTOBER_17, worker_hour=3_333_333, tokens={"*": 1}, image_tokens={"*": 1}
        ),
    ],
}
WORKERS = {"standard": 0, "team": 0, "dedicated": 3}


@dataclass(kw_only=True)
class Stay:
    """A resource on a plan."""

    resource_id: uuid.UUID
    plan: str
    start_at: datetime
    end_at: datetime | None


@dataclass(kw_only=True)
class Tenant:
    id: uuid.UUID
    stays: list[Stay] = field(default_factory=list)
    events: list[tuple[datetime, Usage]] = field(default_factory=list)
    credits: list[int] = field(default_factory=list)


class World:
    """What happened, drawn from a seed, and told to the system under test."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - not a secret
        self.prices = _sync(folder)
        self.versions = {id_: key for key, id_ in self.prices.items()}
        self.tenants = [Tenant(id=self.draw_id()) for _ in range(TENANTS)]
        for tenant in self.tenants:
            for _ in range(self.draw.randint(1, 3)):
                self.live(tenant)
            for _ in range(self.draw.choice([0, 0, 1, 2])):
                tenant.credits.append(self.draw.choice([5_000, 1_000_001, 20_000_000]))

    def draw_id(self) -> uuid.UUID:
        return uuid.UUID(int=self.draw.getrandbits(128), version=4)

    def moment(self, earliest: datetime, latest: datetime) -> datetime:
        return earliest + (latest - earliest) * self.draw.random()

    def live(self, tenant: Tenant) -> None:
        """A resource from its provisioning on, and what it is used for."""
        resource_id, end = self.draw_id(), FIRST_DAY + timedelta(days=DAYS)
        changes = self.draw.choice([0, 0, 1, 1, 2, 3])
        cuts = sorted(self.moment(FIRST_DAY, end) for _ in range(1 + changes))
        for index, start_at in enumerate(cuts):
            others = [plan for plan in PLANS if not index or plan != tenant.stays[-1].plan]
            is_last = index == changes
            end_at = None if is_last else cuts[index + 1]
            if is_last and self.draw.random() < 0.3:
                end_at = self.moment(start_at, end)
            tenant.stays.append(
                Stay(
                    resource_id=resource_id,
                    plan=self.draw.choice(others),
                    start_at=start_at,
                    end_at=end_at,
                )
            )
            self.use(tenant, tenant.stays[-1])

    def use(self, tenant: Tenant, stay: Stay) -> None:
        attachment_id, credential_id = self.draw_id(), self.draw_id()
        end_at = stay.end_at or FIRST_DAY + timedelta(days=DAYS)
        for _ in range(self.draw.randint(0, 40)):
            if self.draw.random() < 0.05:  # the key is rotated
                credential_id = self.draw_id()
            if self.draw.random() < 0.1:  # the request fails: nothing is recorded
                continue
            usage = self.request(tenant, stay, self.moment(stay.start_at, end_at))
            usage = replace(usage, attachment_id=attachment_id, credential_id=credential_id)
            stored_at = self.stored_at(usage.requested_at)
            tenant.events.append((stored_at, usage))
            if self.draw.random() < 0.08:
                later = self.stored_at(stored_at + timedelta(days=self.draw.choice([0, 3, 30])))
                tenant.events.append((later, self.correct(usage)))

    def request(self, tenant: Tenant, stay: Stay, at: datetime) -> Usage:
        in_force = [version for version in PLANS[stay.plan] if version.active_from <= at]
        version = in_force[-1]
        model = self.draw.choice(MODELS)
        texts = self.draw.choice([1, 17, 4_099, self.draw.randint(1, 9_000_000)])
        images = (
            self.draw.randint(1, 400_000) if model == "pictures" and version.image_tokens else 0
        )
        cost = texts * version.tokens.get(model, version.tokens["*"])
        cost += images * version.image_tokens.get("*", 0)
        return Usage(
            id=self.draw_event_id(at),
            customer_id=tenant.id,
            resource_id=stay.resource_id,
            attachment_id=stay.resource_id,
            credential_id=stay.resource_id,
            attachment_name="EMBEDDING",
            app_name=self.draw.choice(["shop", "blog"]),
            plan_name=f"s:{stay.plan}",
            price_id=self.prices[stay.plan, len(in_force)],
            model_id=model,
            inputs=1,
            text_tokens=texts,
            image_tokens=images,
            cost_picounits=cost,
            requested_at=at,
        )

    def correct(self, usage: Usage) -> Usage:
        """Half of the tokens of texts were not used."""
        plan, number = self.versions[usage.price_id]
        tokens = -(usage.text_tokens // 2)
        price = PLANS[plan][number - 1].tokens
        return replace(
            usage,
            id=self.draw_event_id(usage.requested_at),
            inputs=0,
            text_tokens=tokens,
            image_tokens=0,
            cost_picounits=tokens * price.get(usage.model_id, price["*"]),
            outcome="correction",
            corrects=usage.id,
            reason="half of it was padding",
        )

    def draw_event_id(self, at: datetime) -> uuid.UUID:
        drawn_ms, rest = int(at.timestamp() * 1000), self.draw.getrandbits(74)
        version, variant = 7 << 76, 0b10 << 62
        return uuid.UUID(
            int=drawn_ms << 80 | version | rest >> 62 << 64 | variant | rest & (1 << 62) - 1
        )

    def stored_at(self, at: datetime) -> datetime:
        """At the end of the day, or at the instant after it."""
        midnight = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - self.draw.choice([timedelta(microseconds=1), timedelta(0)])

    def record(self) -> None:
        """Tell the system under test."""
        by_time = defaultdict[datetime, list[Usage]](list)
        for tenant in self.tenants:
            for stay in tenant.stays:
                self.subscribe(tenant, stay)
            for stored_at, usage in tenant.events:
                by_time[stored_at].append(usage)
            for order, amount in enumerate(tenant.credits):
                at = FIRST_DAY + timedelta(seconds=order)
                grant_credit(tenant.id, amount, f"Credit {order}", at)
        for stored_at, usages in by_time.items():
            assert record_many(usages, stored_at=stored_at) == len(usages)
            assert record_many(usages, stored_at=stored_at + timedelta(days=40)) == 0

    def subscribe(self, tenant: Tenant, stay: Stay) -> None:
        plan = find_plan("s", stay.plan)
        assert plan is not None
        if any(other.end_at == stay.start_at for other in tenant.stays if other is not stay):
            change_plan(stay.resource_id, plan, stay.start_at)
        else:
            subscribe(
                resource_id=stay.resource_id,
                customer_id=tenant.id,
                email="",
                name="",
                resource_name="",
                plan=plan,
                now=stay.start_at,
            )
        continues = any(other.start_at == stay.end_at for other in tenant.stays)
        if stay.end_at is not None and not continues:
            end_subscription(stay.resource_id, stay.end_at)


def _sync(folder: Path) -> dict[tuple[str, int], int]:
    """Write the plans to a file, and read what they became: price ids by plan and version."""
    text = ""
    for slug, versions in PLANS.items():
        text += f'[[plan]]\nservice_name = "s"\nslug = "{slug}"\nhuman_name = "{slug}"\n'
        text += f"requests_per_minute = 1\ntokens_per_minute = 1\nworkers = {WORKERS[slug]}\n"
        for version in versions:
            text += f"[[plan.price]]\nactive_from = {version.active_from.isoformat()}\n"
            text += f"monthly = {version.monthly}\nincluded_tokens = {version.included}\n"
            text += f"worker_hour = {version.worker_hour}\n"
            for key, prices in (("tokens", version.tokens), ("image_tokens", version.image_tokens)):
                listed = ", ".join(f'"{model}" = {price}' for model, price in prices.items())
                text += f"{key} = {{ {listed} }}\n"
    file = folder / "plans.toml"
    file.write_text(text)
    sync_plans(file, now=datetime(2026, 12, 1, tzinfo=UTC))
    return {(price.plan.slug, price.version): price.id for price in Price.objects.all()}


# The independent calculation ---------------------------------------------------------------------


def half_even(value: Fraction) -> int:
    whole, rest = divmod(value, 1)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    return int(whole) + up


def bounds(month: int) -> tuple[datetime, datetime]:
    start = datetime(2026, month, 1, tzinfo=UTC)
    return start, start + timedelta(days=calendar.monthrange(2026, month)[1])


def slices(stay: Stay, month: int) -> Iterator[tuple[Version, int, int]]:
    """Each version of the plan's price, and the seconds of the month in which it holds for it."""
    start, end = bounds(month)
    versions = PLANS[stay.plan]
    for version, following in zip(versions, [*versions[1:], None], strict=True):
        first = max(stay.start_at, version.active_from, start)
        last = min(stay.end_at or end, following.active_from if following else end, end)
        if first < last:
            offsets = [Fraction((at - start) // timedelta(seconds=1)) for at in (first, last)]
            yield version, int(offsets[0]), int(offsets[1])


def share(amount: int, first: int, last: int, whole: int) -> int:
    return half_even(Fraction(amount * last, whole)) - half_even(Fraction(amount * first, whole))


Amounts = Counter[tuple[uuid.UUID, str, int]]  # how often a resource has a line of that amount


def charge(world: World, tenant: Tenant, month: int) -> Amounts:
    start, end = bounds(month)
    seconds = int((end - start).total_seconds())
    lines: Amounts = Counter()
    quotas: Counter[tuple[uuid.UUID, str]] = Counter()
    for stay in tenant.stays:
        for version, first, last in slices(stay, month):
            if first == last:
                continue
            if version.monthly:
                lines[stay.resource_id, "flat", share(version.monthly, first, last, seconds)] += 1
            if version.worker_hour:
                hourly = version.worker_hour * WORKERS[stay.plan]
                lines[stay.resource_id, "worker_hours", share(hourly, first, last, 3600)] += 1
            quotas[stay.resource_id, stay.plan] += share(version.included, first, last, seconds)
    used: Counter[tuple[uuid.UUID, str, int, str, str]] = Counter()
    for stored_at, usage in tenant.events:
        if start <= stored_at < end:
            plan, number = world.versions[usage.price_id]
            key = (usage.resource_id, plan, number, usage.model_id)
            used[*key, "text_tokens"] += usage.text_tokens
            used[*key, "image_tokens"] += usage.image_tokens
    tokens: defaultdict[tuple[uuid.UUID, str], list[tuple[int, int, int]]] = defaultdict(list)
    for (resource, plan, number, model, kind), count in used.items():
        version = PLANS[plan][number - 1]
        prices = version.tokens if kind == "text_tokens" else version.image_tokens
        price = prices.get(model, prices.get("*", 0))
        amount = half_even(Fraction(count * price, 10**6))
        texts_too = used[resource, plan, number, model, "image_tokens"] != 0
        if count or (kind == "text_tokens" and not texts_too):
            lines[resource, kind, amount] += 1
        if count > 0:
            tokens[resource, plan].append((price, count, amount))
    for whose, quota in quotas.items():
        left, free = quota, Fraction(0)
        for price, count, _ in sorted(tokens[whose], reverse=True):
            free += Fraction(min(left, count) * price, 10**6)
            left -= min(left, count)
        if left < quota:
            most = sum(amount for _, _, amount in tokens[whose])
            lines[whose[0], "included", -min(half_even(free), most)] += 1
    return lines


def expect(world: World, tenant: Tenant) -> dict[int, tuple[Amounts, int, int]]:
    """By month: the lines, the charges, and what is left to pay after credits."""
    expected, left = {}, list(tenant.credits)
    for month in MONTHS:
        start, end = bounds(month)
        is_there = any(
            stay.start_at < end and (stay.end_at is None or stay.end_at > start)
            for stay in tenant.stays
        ) or any(start <= stored_at < end for stored_at, _ in tenant.events)
        if not is_there:
            continue
        lines = charge(world, tenant, month)
        charges = sum(amount * count for (_, _, amount), count in lines.items())
        due = max(charges, 0)
        for index, credit in enumerate(left):
            taken = min(credit, due)
            left[index] -= taken
            due -= taken
        if charges < 0:
            left.append(-charges)
        expected[month] = (lines, charges, due)
    return expected


# The tests ---------------------------------------------------------------------------------------


def everything() -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.__name__: list(table._default_manager.order_by("pk").values_list())
        for table in (Invoice, InvoiceLine, CreditUse)
    }


def close_in_parallel(now: datetime, failures: list[object]) -> None:
    def run() -> None:
        try:
            failures.extend(close_due(now)[1].items())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("seed", [20_261_101])
def test_invoices_are_those_of_an_independent_calculation(seed: int, tmp_path: Path) -> None:
    world = World(seed, tmp_path)
    world.record()
    for month in MONTHS:
        closed, failures = close_due(bounds(month)[1] + timedelta(hours=1))
        assert (closed > 0, failures) == (True, {}), seed
    for tenant in world.tenants:
        invoices = {
            invoice.period_start.month: invoice
            for invoice in Invoice.objects.filter(customer_id=tenant.id, state="final")
        }
        expected = expect(world, tenant)
        assert invoices.keys() == expected.keys(), (seed, tenant.id)
        for month, (lines, charges, due) in expected.items():
            invoice = invoices[month]
            found = invoice.lines.exclude(kind="credit").values_list(
                "resource_id", "kind", "amount_microunits"
            )
            assert Counter(found) == lines, (seed, tenant.id, month)
            assert invoice.charges_microunits == charges
            assert invoice.total_microunits == due
            assert invoice.total_microunits == sum(
                line.amount_microunits for line in invoice.lines.all()
            )
    numbers = Invoice.objects.filter(state="final").order_by("number")
    assert list(numbers.values_list("number", flat=True)) == list(range(1, len(numbers) + 1))
    check_that_lines_expand(world)
    check_that_it_saw_everything(world)

    before, failed = everything(), list[object]()
    close_in_parallel(bounds(MONTHS[-1])[1] + timedelta(hours=2), failed)
    assert everything() == before
    assert not failed


def check_that_lines_expand(world: World) -> None:
    """Every row that was stored in these months is behind exactly one line of its kind."""
    rows = Counter(
        row.id
        for line in InvoiceLine.objects.filter(kind="text_tokens").select_related("invoice")
        for row in expand(line)
    )
    first, last = bounds(MONTHS[0])[0], bounds(MONTHS[-1])[1]
    stored = Counter(
        usage.id
        for tenant in world.tenants
        for stored_at, usage in tenant.events
        if first <= stored_at < last
    )
    assert rows == stored


def check_that_it_saw_everything(world: World) -> None:
    """The draw has what this test is for."""
    assert Customer.objects.count() == TENANTS
    kinds = set(InvoiceLine.objects.values_list("kind", flat=True))
    assert kinds == set(InvoiceLine.Kind.values)
    events = [usage for tenant in world.tenants for _, usage in tenant.events]
    assert len(events) > 1_500
    assert any(usage.outcome == "correction" for usage in events)
    assert len({usage.credential_id for usage in events}) > len(
        {usage.attachment_id for usage in events}
    )
    edges = {stored_at for tenant in world.tenants for stored_at, _ in tenant.events}
    start, _ = bounds(11)
    assert {start, start - timedelta(microseconds=1)} <= edges
    assert {usage.price_id for usage in events} == set(world.prices.values())
