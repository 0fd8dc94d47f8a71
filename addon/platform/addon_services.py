"""Add-on services: the providers that this platform knows, each registered by its manifest."""

import secrets

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid, is_storable
from addon.manifest import Manifest
from addon.platform.models import AddonService
from billing.compiled_queries import CompiledQuery
from billing.models import Plan
from billing.plans import find_default_plan, find_plan, plans_of


class AddonServiceNotFound(Exception):
    pass


class PlanNotFound(Exception):
    pass


class UnknownPlan(Exception):
    """An order names a plan that is not on sale."""


def register(manifest: Manifest) -> AddonService:
    """Make the service say what `manifest` says; idempotent by the manifest's id.

    Its client secret is made with it, and stays; that of our own add-on is the setting, which its
    provider reads too.
    """
    said = {
        "human_name": manifest.name,
        "base_url": manifest.base_url,
        "password": manifest.password,
        "config_vars_prefix": manifest.config_vars_prefix,
        "config_vars": list(manifest.config_vars),
        "requires": list(manifest.requires),
        "attachment_credentials": manifest.attachment_credentials,
        "regions": list(manifest.regions),
        "sso_url": manifest.sso_url or "",
        "sso_salt": manifest.sso_salt or "",
        "state": "ga",
    }
    with transaction.atomic():
        service, _ = AddonService.objects.update_or_create(name=manifest.id, defaults=said)
        is_own = manifest.id == settings.ADDON_SERVICE_NAME
        if is_own or not service.oauth_client_secret:
            secret = settings.OAUTH_CLIENT_SECRET if is_own else secrets.token_urlsafe(32)
            service.oauth_client_secret = secret
            service.save(update_fields=["oauth_client_secret"])
    return service


def list_services() -> QuerySet[AddonService]:
    return AddonService.objects.order_by("name")


def get_service(identity: str) -> AddonService:
    """By id or name. Raises AddonServiceNotFound."""
    service_id = find_uuid(identity)
    found = None
    if service_id is not None:
        found = AddonService.objects.filter(id=service_id).first()
    elif is_storable(identity):
        found = _named.first(identity)
    if found is None:
        raise AddonServiceNotFound("Couldn't find that add-on service.")
    return found


@CompiledQuery
def _named(name: str) -> QuerySet[AddonService]:
    return AddonService.objects.filter(name=name)


def get_plan(service: AddonService, identity: str) -> Plan:
    """By id, `service:plan` or `plan`, on sale or not. Raises PlanNotFound."""
    plan_id = find_uuid(identity)
    found = None
    if plan_id is not None:
        found = Plan.objects.filter(id=plan_id, service_name=service.name).first()
    elif is_storable(identity):
        found = find_plan(service.name, identity.removeprefix(f"{service.name}:"))
    if found is None:
        raise PlanNotFound("Couldn't find that plan.")
    return found


def order_plan(identity: str) -> tuple[AddonService, Plan]:
    """The plan on sale that `service:plan`, `service` (its default) or an id names.

    Raises UnknownPlan.
    """
    plan = _find_plan(identity)
    service = _named.first(plan.service_name) if plan else None
    if plan is None or service is None or not plan.is_visible:
        raise _unknown(identity)
    return service, plan


def plan_to_change_to(service: AddonService, identity: str) -> Plan:
    """The plan of `service` on sale that `service:plan`, `plan` or an id names.

    Raises UnknownPlan.
    """
    try:
        plan = get_plan(service, identity)
    except PlanNotFound:
        raise _unknown(identity) from None
    if not plan.is_visible:
        raise _unknown(identity)
    return plan


def _unknown(identity: str) -> UnknownPlan:
    return UnknownPlan(
        f'Couldn\'t find either the add-on service or the add-on plan of "{identity}".'
    )


def _find_plan(identity: str) -> Plan | None:
    plan_id = find_uuid(identity)
    if plan_id is not None:
        return Plan.objects.filter(id=plan_id).first()
    service_name, colon, slug = identity.partition(":")
    return find_plan(service_name, slug) if colon else find_default_plan(service_name)


def visible_plans(service: AddonService) -> QuerySet[Plan]:
    return plans_of(service.name)
