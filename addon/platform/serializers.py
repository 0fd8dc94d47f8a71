"""Answers of the Platform API, field by field as Heroku's schema has them.

`plan` and `addon_service` are always whole objects: clients ask for that by Accept-Expansion, and
no client minds when it did not.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.conf import settings

from addon.json_api import iso, iso_or_none
from addon.lifecycle import State
from addon.platform.addons import attached_var_names, config_var_names, visible_apps
from addon.platform.changes import Actor
from addon.platform.models import Account, Addon, AddonService, App, Attachment, Release
from addon.platform.regions import REGIONS, Region
from addon.platform.releases import Versions
from billing.models import Plan
from billing.periods import round_ratio
from billing.prices import MICROUNITS_PER_CENT, PlanHasNoPrice, price_at, prices_of

Answer = dict[str, object]

# What the CLI divides a monthly price by to print the hourly one.
HOURS_PER_MONTH = 720
# Of the addresses by which Heroku shows a provider that calls back.
PARTNER_DOMAIN = "addons.heroku.com"


def account_json(account: Account) -> Answer:
    return {
        "allow_tracking": False,
        "beta": False,
        "country_of_residence": None,
        "created_at": iso(account.created_at),
        "default_organization": None,
        "default_team": None,
        "delinquent_at": None,
        "email": account.email,
        "federated": False,
        "id": str(account.id),
        "identity_provider": None,
        "last_login": iso_or_none(account.last_login),
        "name": account.name or None,
        "sms_number": None,
        "suspended_at": None,
        "two_factor_authentication": False,
        "updated_at": iso(account.updated_at),
        "verified": True,
    }


def app_json(app: App) -> Answer:
    stack = {"id": str(fixed_id("stack", app.stack)), "name": app.stack}
    team = team_stub(app.owner)
    return {
        "acm": False,
        "archived_at": None,
        "build_stack": stack,
        "buildpack_provided_description": None,
        "create_status": "complete",
        "created_at": iso(app.created_at),
        "generation": {"id": str(fixed_id("generation", "cedar")), "name": "cedar"},
        "git_url": f"{settings.PUBLIC_URL}/{app.name}.git",
        "id": str(app.id),
        "internal_routing": None,
        "maintenance": False,
        "name": app.name,
        "organization": team,
        "owner": {"email": app.owner.email, "id": str(app.owner.id)},
        "region": {"id": str(REGIONS[app.region].id), "name": app.region},
        "released_at": iso_or_none(app.released_at),
        "repo_size": 0,
        "slug_size": 0,
        "space": None,
        "stack": stack,
        "team": team,
        "updated_at": iso(app.updated_at),
        "web_url": f"{settings.PUBLIC_URL}/apps/{app.name}",
    }


def fixed_id(kind: str, name: str) -> uuid.UUID:
    """The same at every deployment, for what is no row of ours."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"annex:{kind}:{name}")


def app_stub(app: App) -> Answer:
    return {"id": str(app.id), "name": app.name}


def team_stub(owner: Account) -> Answer | None:
    """None for a person."""
    team = getattr(owner, "team", None)
    return None if team is None else {"id": str(team.id), "name": team.name}


def actor_json(actor: Actor) -> Answer:
    email = actor.email if isinstance(actor, Account) else f"{actor.name}@{PARTNER_DOMAIN}"
    return {"email": email, "id": str(actor.id)}


def release_json(release: Release, versions: Versions) -> Answer:
    is_kept = versions.oldest_kept is not None and release.version >= versions.oldest_kept
    return {
        "addon_plan_names": release.addon_plan_names,
        "app": app_stub(release.app),
        "artifacts": [],
        "created_at": iso(release.created_at),
        "current": release.version == versions.current,
        "description": release.description,
        # The current one too: `heroku rollback` takes the second that is eligible.
        "eligible_for_rollback": is_kept,
        "id": str(release.id),
        "oci_image": None,
        "output_stream_url": None,
        "slug": None,
        "status": "succeeded",
        "updated_at": iso(release.created_at),
        "user": actor_json(release.actor),
        "version": release.version,
    }


def addon_service_json(service: AddonService) -> Answer:
    return {
        "cli_plugin_name": None,
        "created_at": iso(service.created_at),
        "human_name": service.human_name,
        "id": str(service.id),
        "name": service.name,
        "state": service.state,
        "supported_generations": [
            {"id": str(fixed_id("generation", "cedar")), "name": "cedar"},
        ],
        "supports_multiple_installations": service.supports_multiple_installations,
        "supports_sharing": service.supports_sharing,
        "updated_at": iso(service.updated_at),
    }


def plan_json(plan: Plan, service: AddonService, now: datetime) -> Answer:
    return {
        "addon_service": {"id": str(service.id), "name": service.name},
        "compliance": None,
        "created_at": iso(plan.created_at),
        "default": plan.is_default,
        "description": plan.description,
        "human_name": plan.human_name,
        "id": str(plan.id),
        "installable_inside_private_network": False,
        "installable_outside_private_network": True,
        "name": plan.name,
        "price": price_json(plan, now),
        "space_default": False,
        "state": "ga",
        "updated_at": iso(plan.updated_at),
        "visible": plan.is_visible,
    }


def price_json(plan: Plan, now: datetime) -> Answer:
    """Cents per month, what is reserved by the hour included; not what is metered on top.

    The CLI prints "metered" instead of an amount where `metered` is true, and "free" where neither
    is given.
    """
    cents = _monthly_cents(plan, now)
    return {
        "cents": cents,
        "contract": plan.is_contract,
        "metered": plan.is_metered and cents == 0,
        "unit": "month",
    }


def _monthly_cents(plan: Plan, now: datetime) -> int:
    try:
        price = price_at(prices_of(plan), now)
    except PlanHasNoPrice:
        return 0  # a plan of another provider, which bills for itself
    hourly = price.worker_hour_microunits * plan.workers
    monthly = price.monthly_microunits + hourly * HOURS_PER_MONTH
    return round_ratio(monthly, MICROUNITS_PER_CENT)


def addons_json(addons: Iterable[Addon], account: Account, now: datetime) -> list[Answer]:
    """As `account` may see them: of an add-on that it only has attached, less."""
    rows = list(addons)
    seen = visible_apps(account, rows)
    names = config_var_names(addon for addon in rows if addon.app_id in seen)
    one_of_each_plan = {addon.plan_id: addon for addon in rows}
    plans = {
        plan_id: plan_json(addon.plan, addon.service, now)
        for plan_id, addon in one_of_each_plan.items()
    }
    return [
        _addon_json(addon, plans[addon.plan_id], names.get(addon.id, []), addon.app_id in seen)
        for addon in rows
    ]


def addon_json(addon: Addon, account: Account, now: datetime) -> Answer:
    return addons_json([addon], account, now)[0]


def _addon_json(addon: Addon, plan: Answer, config_vars: list[str], is_own: bool) -> Answer:
    answer: Answer = {
        "actions": [],
        "addon_service": addon_service_json(addon.service),
        "app": app_stub(addon.app),
        "billed_price": plan["price"],
        "billing_entity": {**app_stub(addon.app), "type": "app"},
        "config_vars": config_vars,
        "created_at": iso(addon.created_at),
        "id": str(addon.id),
        "name": addon.name,
        "plan": plan,
        "provider_id": addon.provider_id if is_own else "",
        "state": addon.state if addon.failed_at is None else State.DEPROVISIONED,
        "updated_at": iso(addon.updated_at),
        "web_url": _dashboard_url(addon, addon.app) if is_own else None,
    }
    if addon.provision_message and is_own:
        answer["provision_message"] = addon.provision_message  # a string or absent, never null
    return answer


def _dashboard_url(addon: Addon, context: App) -> str:
    url = f"{settings.PUBLIC_URL}/dashboard/addons/{addon.id}"
    return url if context.id == addon.app_id else f"{url}?context_app={context.name}"


def attachments_json(
    attachments: Iterable[Attachment], account: Account, include: Sequence[str] = ()
) -> list[Answer]:
    """`include` may have "addon:plan" and "config_vars", as Accept-Inclusion names them."""
    rows = list(attachments)
    answers = [attachment_json(row) for row in rows]
    if "addon:plan" in include:
        for row, answer in zip(rows, answers, strict=True):
            plan = row.addon.plan
            answer["addon"] = {**_addon_stub(row.addon), "plan": plan_stub(plan)}
    if "config_vars" in include:
        names = attached_var_names(account, rows)
        for row, answer in zip(rows, answers, strict=True):
            answer["config_vars"] = names[row.id]
    return answers


def attachment_json(attachment: Attachment) -> Answer:
    return {
        "addon": _addon_stub(attachment.addon),
        "app": app_stub(attachment.app),
        "created_at": iso(attachment.created_at),
        "id": str(attachment.id),
        "log_input_url": None,
        "name": attachment.name,
        "namespace": None,
        "updated_at": iso(attachment.updated_at),
        "web_url": _dashboard_url(attachment.addon, attachment.app),
    }


def _addon_stub(addon: Addon) -> Answer:
    return {"app": app_stub(addon.app), "id": str(addon.id), "name": addon.name}


def plan_stub(plan: Plan) -> Answer:
    return {"id": str(plan.id), "name": plan.name}


def region_json(region: Region) -> Answer:
    first_offered_at = "2026-11-01T00:00:00Z"
    return {
        "country": region.country,
        "created_at": first_offered_at,
        "description": region.description,
        "id": str(region.id),
        "locale": region.locale,
        "name": region.name,
        "private_capable": False,
        "provider": {"name": "amazon-web-services", "region": region.substrate_region},
        "updated_at": first_offered_at,
    }
