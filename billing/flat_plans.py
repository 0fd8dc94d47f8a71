"""Plans of other providers' services: a flat price a month, as their manifests state it.

Nothing of them is metered here, so they have no limits and no prices of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from billing.models import Plan, Price
from billing.prices import MICROUNITS_PER_CENT, PlanHasNoPrice, currency

# A price that differs holds from then on: by then every web process knows it.
PRICE_CHANGE_WAIT = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlatPlan:
    slug: str
    human_name: str
    description: str
    is_default: bool
    monthly_cents: int


def sync_flat_plans(service_name: str, plans: Sequence[FlatPlan], now: datetime) -> list[Plan]:
    """Sell `plans`, and no others, of that service; all of it or nothing, and idempotent.

    What was sold on a plan that is not named any more goes on. A price that differs is a new
    version of the price, in force a minute from now.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('billing.plans'))")
        # No default while rewriting: the default may move from one plan to another.
        Plan.objects.filter(service_name=service_name).update(is_default=False, is_visible=False)
        return [_sync(service_name, plan, now) for plan in plans]


def hide_plans(service_name: str) -> None:
    """Sell none of that service any more. What was sold goes on."""
    Plan.objects.filter(service_name=service_name).update(is_default=False, is_visible=False)


def _sync(service_name: str, flat: FlatPlan, now: datetime) -> Plan:
    plan, _ = Plan.objects.update_or_create(
        service_name=service_name,
        slug=flat.slug,
        defaults={
            "human_name": flat.human_name,
            "description": flat.description,
            "is_default": flat.is_default,
            "is_visible": True,
        },
        create_defaults={
            "human_name": flat.human_name,
            "description": flat.description,
            "is_default": flat.is_default,
            "requests_per_minute": 0,
            "tokens_per_minute": 0,
        },
    )
    _sync_price(plan, flat.monthly_cents * MICROUNITS_PER_CENT, now)
    return plan


def _sync_price(plan: Plan, monthly_microunits: int, now: datetime) -> None:
    last = plan.prices.order_by("version").last()
    if last is not None and last.monthly_microunits == monthly_microunits:
        return
    active_from = now
    if last is not None:
        wait = max(PRICE_CHANGE_WAIT, 2 * timedelta(seconds=settings.KEY_CACHE_S))
        active_from = max(now + wait, last.active_from + timedelta(seconds=1))
    Price.objects.create(
        plan=plan,
        version=1 if last is None else last.version + 1,
        active_from=active_from,
        currency=_currency(),
        monthly_microunits=monthly_microunits,
    )


def _currency() -> str:
    """That of the deployment; a first price is in US dollars."""
    try:
        return currency()
    except PlanHasNoPrice:
        return "usd"
