"""Partners: other providers' services in the catalogue, put there and taken off by an operator."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from addon.lifecycle import State
from addon.manifest import Manifest
from addon.platform.addon_services import AddonServiceNotFound, register, visible_plans
from addon.platform.models import AddonService
from billing.flat_plans import FlatPlan, hide_plans, sync_flat_plans
from billing.models import Plan


class OwnService(Exception):
    """This deployment's own add-on is registered by `manage.py sync_catalogue`."""


class ServiceInUse(Exception):
    """What live add-ons are named and keyed by cannot change under them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """`client_secret` is the new one, and None where the service keeps the one that it has."""

    service: AddonService
    plans: Sequence[Plan]
    client_secret: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    service: AddonService
    plans: Sequence[Plan]
    live_addons: int


def register_partner(manifest: Manifest, now: datetime, *, new_secret: bool = False) -> Registered:
    """Put the service and its plans in the catalogue, or make them say what `manifest` says now.

    A manifest without plans leaves those that are on sale. Raises OwnService, ServiceInUse.
    """
    _refuse_own(manifest.id)
    with transaction.atomic():
        known = AddonService.objects.select_for_update().filter(name=manifest.id).first()
        if known is not None:
            _refuse_in_use(known, manifest)
        service = register(manifest)
        if known is not None and new_secret:
            service.oauth_client_secret = secrets.token_urlsafe(32)
            service.save(update_fields=["oauth_client_secret"])
        if manifest.plans:
            sync_flat_plans(service.name, _flat_plans(manifest), now)
        return Registered(
            service=service,
            plans=list(visible_plans(service)),
            client_secret=service.oauth_client_secret if known is None or new_secret else None,
        )


def retire(name: str) -> AddonService:
    """Take its plans off sale. Add-ons that there are go on; registering it again sells it again.

    Raises AddonServiceNotFound, OwnService.
    """
    _refuse_own(name)
    with transaction.atomic():
        service = AddonService.objects.select_for_update().filter(name=name).first()
        if service is None:
            raise AddonServiceNotFound(f"there is no add-on service {name}")
        hide_plans(service.name)
        service.state = "shutdown"  # of the states in Heroku's schema
        service.save(update_fields=["state", "updated_at"])
    return service


def list_services() -> list[Listed]:
    """Every service, our own too, by name."""
    is_live = ~Q(addons__state=State.DEPROVISIONED)
    counts = AddonService.objects.annotate(live=Count("addons", filter=is_live))
    live = dict(counts.values_list("id", "live"))
    return [
        Listed(service=service, plans=list(visible_plans(service)), live_addons=live[service.id])
        for service in AddonService.objects.order_by("name")
    ]


def _refuse_own(name: str) -> None:
    if name == settings.ADDON_SERVICE_NAME:
        raise OwnService(
            f"{name} is this deployment's own add-on (ADDON_SERVICE_NAME): manage.py "
            "sync_catalogue registers it, and billing/plans.toml has its plans"
        )


def _refuse_in_use(service: AddonService, manifest: Manifest) -> None:
    changes = {
        "api.config_vars_prefix": (service.config_vars_prefix, manifest.config_vars_prefix),
        "api.annex.attachment_credentials": (
            service.attachment_credentials,
            manifest.attachment_credentials,
        ),
    }
    changed = [name for name, (before, after) in changes.items() if before != after]
    live = service.addons.exclude(state=State.DEPROVISIONED).count() if changed else 0
    if live:
        raise ServiceInUse(
            f"{' and '.join(changed)} cannot change while add-ons of {service.name} are live "
            f"({live}): their config vars and keys would be lost"
        )


def _flat_plans(manifest: Manifest) -> list[FlatPlan]:
    return [
        FlatPlan(
            slug=plan.slug,
            human_name=plan.name,
            description=plan.description,
            is_default=plan.is_default,
            monthly_cents=plan.price_cents,
        )
        for plan in manifest.plans
    ]
