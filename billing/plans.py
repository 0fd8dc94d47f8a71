"""Plans: copied from plans.toml into the database, and found there by both sides of an add-on."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing.compiled_queries import CompiledQuery
from billing.models import Plan, Price
from billing.plans_file import PlanEntry, PriceEntry, read_plans

# The pool of workers that plans share unless they name another.
SHARED_POOL = "shared"
# As a plan's pool: each resource has workers of its own, in a pool named by its id.
POOL_PER_RESOURCE = "resource"
PLANS_FILE = Path(__file__).with_name("plans.toml")
PLAN_FIELDS = (
    "human_name",
    "description",
    "is_default",
    "is_visible",
    "is_metered",
    "is_contract",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests",
    "model_id",
    "serves_all_models",
    "worker_pool",
    "workers",
    "async_operations",
)
# A price's keys in plans.toml, and its columns.
PRICE_FIELDS = {
    "active_from": "active_from",
    "currency": "currency",
    "monthly": "monthly_microunits",
    "worker_hour": "worker_hour_microunits",
    "tokens": "token_prices",
    "image_tokens": "image_token_prices",
    "included_tokens": "included_tokens",
}


class PriceChanged(Exception):
    """A version of a price, or what it is paid for, differs from what was sold."""


class PriceTooLate(Exception):
    """A version would begin at a time that is already rated at another price, or priceless."""


class SecondCurrency(Exception):
    """A deployment has one currency."""


def sync_plans(path: Path = PLANS_FILE, *, now: datetime | None = None) -> list[Plan]:
    """Make the database say what `path` says; all of it or nothing, and idempotent.

    Plans no longer named are hidden. Versions of prices are only ever added. Raises InvalidPlans,
    PriceChanged, PriceTooLate, SecondCurrency.
    """
    entries = read_plans(path)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('billing.plans'))")
        _check_currency(entries)
        # No default while rewriting: the default may move from one plan to another.
        Plan.objects.filter(service_name__in={entry.service_name for entry in entries}).update(
            is_default=False, is_visible=False
        )
        return [_sync(entry, now or timezone.now()) for entry in entries]


def _sync(entry: PlanEntry, now: datetime) -> Plan:
    before = find_plan(entry.service_name, entry.slug)
    if before and before.prices.exists() and before.workers != entry.workers:
        raise PriceChanged(
            f"plan {entry.name}: workers was {before.workers} when it was sold, and is "
            f"{entry.workers} now; they are part of what it costs: make another plan"
        )
    plan, _ = Plan.objects.update_or_create(
        service_name=entry.service_name,
        slug=entry.slug,
        defaults={name: getattr(entry, name) for name in PLAN_FIELDS} | _options_schema(entry),
    )
    _sync_prices(plan, entry.price, now)
    return plan


def _options_schema(entry: PlanEntry) -> dict[str, object]:
    """An entry without one leaves that of the admin."""
    return {} if entry.options_schema is None else {"options_schema": entry.options_schema}


def _sync_prices(plan: Plan, entries: Sequence[PriceEntry], now: datetime) -> None:
    prices = list(plan.prices.order_by("version"))
    if len(entries) < len(prices):
        raise PriceChanged(
            f"plan {plan}: price version {len(entries) + 1} is not in the file any more; what it "
            "cost is part of its invoices: keep every version"
        )
    for price, entry in zip(prices, entries, strict=False):
        _check_unchanged(price, entry)
    for version, entry in enumerate(entries[len(prices) :], start=len(prices) + 1):
        _check_start(plan, version, entry, now, is_sold=bool(prices))
        fields = {column: getattr(entry, key) for key, column in PRICE_FIELDS.items()}
        Price.objects.create(plan=plan, version=version, **fields)


def _check_unchanged(price: Price, entry: PriceEntry) -> None:
    differences = [
        f"{key} was {_shown(getattr(price, column))} and is {_shown(getattr(entry, key))}"
        for key, column in PRICE_FIELDS.items()
        if getattr(price, column) != getattr(entry, key)
    ]
    if differences:
        raise PriceChanged(
            f"plan {price.plan}: price version {price.version} differs from what was sold: "
            f"{'; '.join(differences)}. Leave it as it was, and add a version"
        )


def _shown(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _check_start(
    plan: Plan, version: int, entry: PriceEntry, now: datetime, *, is_sold: bool
) -> None:
    """A first price holds at once; one that follows holds from a time that is not rated yet."""
    active_from = entry.active_from.isoformat()
    known_at = now + timedelta(seconds=settings.KEY_CACHE_S)  # to every web process
    if is_sold and entry.active_from <= known_at:
        raise PriceTooLate(
            f"plan {plan}: price version {version}: active_from {active_from} has passed or comes "
            f"within KEY_CACHE_S ({settings.KEY_CACHE_S:g} s), and what is used until every web "
            "process knows the version has its price; choose a time to come"
        )
    if version == 1 and entry.active_from > now:
        raise PriceTooLate(
            f"plan {plan}: price version 1: active_from {active_from} is still to come, and the "
            "plan would have no price until then"
        )


def _check_currency(entries: Sequence[PlanEntry]) -> None:
    """One currency for all, so that a customer has one invoice a month."""
    named = {price.currency: entry.name for entry in entries for price in entry.price}
    for price in Price.objects.select_related("plan").distinct("currency").order_by("currency"):
        named.setdefault(price.currency, price.plan.name)
    if len(named) > 1:
        listed = ", ".join(f"{currency} ({plan})" for currency, plan in sorted(named.items()))
        raise SecondCurrency(f"currency must be the same for every plan: {listed}")


def hide_plans_of_other_models(model_ids: Collection[str]) -> list[Plan]:
    """Take those plans off the list that serve one model only, and none of `model_ids`."""
    plans = Plan.objects.filter(serves_all_models=False, is_visible=True)
    hidden = list(plans.exclude(model_id__in=model_ids))
    Plan.objects.filter(id__in=[plan.id for plan in hidden]).update(is_visible=False)
    return hidden


def find_plan(service_name: str, slug: str) -> Plan | None:
    """The plan, on sale or not: what was sold once stays usable."""
    return _with_slug.first(service_name, slug)


@CompiledQuery
def _with_slug(service_name: str, slug: str) -> QuerySet[Plan]:
    return Plan.objects.filter(service_name=service_name, slug=slug)


def default_model_id(plan: Plan, options: Mapping[str, str]) -> str:
    """What config vars say, and what answers where a request names no model: that of the option
    `model`, where the plan has such an option, else the plan's."""
    has_option = "model" in plan.options_schema.get("properties", {})
    return (options.get("model") if has_option else None) or plan.model_id


def worker_pool(plan: Plan, resource_id: uuid.UUID) -> str:
    """The pool of workers that serves a resource on that plan."""
    return str(resource_id) if plan.worker_pool == POOL_PER_RESOURCE else plan.worker_pool


def find_default_plan(service_name: str) -> Plan | None:
    return _default_of.first(service_name)


@CompiledQuery
def _default_of(service_name: str) -> QuerySet[Plan]:
    return Plan.objects.filter(service_name=service_name, is_default=True)


def plans_of(service_name: str) -> QuerySet[Plan]:
    """The plans on sale, the default first."""
    return Plan.objects.filter(service_name=service_name, is_visible=True).order_by(
        "-is_default", "slug"
    )
