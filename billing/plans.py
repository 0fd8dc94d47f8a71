"""Plans: copied from plans.toml into the database, and found there by both sides of an add-on."""

import tomllib
import uuid
from collections.abc import Collection
from pathlib import Path

from django.db import transaction
from django.db.models import QuerySet

from billing.models import Plan

# The pool of workers that plans share unless they name another.
SHARED_POOL = "shared"
# As a plan's pool: each resource has workers of its own, in a pool named by its id.
POOL_PER_RESOURCE = "resource"
OPTIONAL_FIELDS = (
    "description",
    "is_contract",
    "is_default",
    "is_metered",
    "is_visible",
    "model_id",
    "price_cents",
    "serves_all_models",
    "worker_pool",
)
PLANS_FILE = Path(__file__).with_name("plans.toml")


def sync_plans(path: Path = PLANS_FILE) -> list[Plan]:
    """Make the database say what `path` says; idempotent. Plans no longer named are hidden."""
    wanted = tomllib.loads(path.read_text())["plan"]
    with transaction.atomic():
        # No default while rewriting: the default may move from one plan to another.
        Plan.objects.filter(service_name__in={row["service_name"] for row in wanted}).update(
            is_default=False, is_visible=False
        )
        return [_upsert({**_defaults(), **row}) for row in wanted]


def _defaults() -> dict[str, object]:
    """What a plan has of which its row says nothing, so that taking a line out undoes it."""
    plan = Plan()
    return {name: getattr(plan, name) for name in OPTIONAL_FIELDS}


def hide_plans_of_other_models(model_ids: Collection[str]) -> list[Plan]:
    """Take those plans off the list that serve one model only, and none of `model_ids`."""
    plans = Plan.objects.filter(serves_all_models=False, is_visible=True)
    hidden = list(plans.exclude(model_id__in=model_ids))
    Plan.objects.filter(id__in=[plan.id for plan in hidden]).update(is_visible=False)
    return hidden


def _upsert(row: dict[str, object]) -> Plan:
    plan, _ = Plan.objects.update_or_create(
        service_name=row["service_name"], slug=row["slug"], defaults=row
    )
    return plan


def find_plan(service_name: str, slug: str) -> Plan | None:
    """The plan, on sale or not: what was sold once stays usable."""
    return Plan.objects.filter(service_name=service_name, slug=slug).first()


def worker_pool(plan: Plan, resource_id: uuid.UUID) -> str:
    """The pool of workers that serves a resource on that plan."""
    return str(resource_id) if plan.worker_pool == POOL_PER_RESOURCE else plan.worker_pool


def find_default_plan(service_name: str) -> Plan | None:
    return Plan.objects.filter(service_name=service_name, is_default=True).first()


def plans_of(service_name: str) -> QuerySet[Plan]:
    """The plans on sale, the default first."""
    return Plan.objects.filter(service_name=service_name, is_visible=True).order_by(
        "-is_default", "slug"
    )
