"""A world put into the database of an Annex: with the ids and names that were recorded.

Imports are inside: Django is set up by whoever builds a world, after its settings are known.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from tests.recordings.worlds import ACCOUNT, SERVICE, AddonFact, AttachmentFact, World

if TYPE_CHECKING:
    from addon.platform.models import Account, Addon, AddonService, App, Attachment

KEY = "HRKU-lab-0000-token"
PASSWORD = "secret"
ACCOUNT_ID = "4d59bf95-28b6-5423-b1a8-604046826e33"
AUTHORIZATION_ID = "7a87ae18-aef7-53e6-9b94-ae28c9772048"
MODEL_ID = "cohere-embed-multilingual"
SERVICE_NAME = "Heroku Managed Inference and Agents"
PLANS = Path(__file__).with_name("plans.toml")


class Provider(Protocol):
    """Who is behind the service: where it answers, and what it holds of an add-on already."""

    @property
    def url(self) -> str: ...

    def config_of(self, addon: Addon, attachment: Attachment) -> Mapping[str, str]: ...


def sell(provider: Provider, service: str = SERVICE, model_id: str = MODEL_ID) -> None:
    """Put the service and its plans on sale, and beside it the other that was recorded.

    `model_id` stands for the models that the recorded plans are of.
    """
    from addon.manifest import parse_manifest
    from addon.platform.addon_services import register
    from addon.provider.manifest import own_manifest

    _sync_plans(service, model_id)
    register(replace(own_manifest(), id=service, name=SERVICE_NAME, base_url=provider.url))
    register(
        parse_manifest(
            {
                "id": "heroku-postgresql",
                "name": "Heroku Postgres",
                "api": {
                    "version": "3",
                    "password": "a-password",
                    "regions": ["us"],
                    "requires": ["attachable", "many_per_app"],
                    "config_vars": ["HEROKU_POSTGRESQL_URL"],
                    "production": {"base_url": provider.url},
                },
            }
        )
    )


def build(world: World, provider: Provider, now: datetime) -> None:
    """Rows for everything in `world`. The tables are empty before, but for what is on sale."""
    from addon.platform.models import AddonService

    for service in {addon.service for addon in world.addons.values()} - {SERVICE}:
        sell(provider, service)
    services = {service.name: service for service in AddonService.objects.all()}
    accounts = _make_accounts(world, now)
    apps = {name: _make_app(world, name, accounts, now) for name in world.apps}
    for app_name, email in sorted(world.collaborators):
        apps[app_name].collaborators.create(account=accounts[email])
    for number, addon in enumerate(world.addons.values()):
        made_at = now - timedelta(seconds=len(world.addons) - number)  # lists have this order
        _make_addon(world, addon, services, apps, provider, made_at)
    for name, app in apps.items():
        _make_config(world, name, app)
        _make_releases(world, name, app, now)
    _make_webhooks(world, apps["myapp"], now)
    _make_notifications(world, apps["myapp"], now)
    _use(world, now)
    _limit(world, now)


def _make_accounts(world: World, now: datetime) -> dict[str, Account]:
    from django.contrib.auth.hashers import make_password

    from addon.platform import authorizations
    from addon.platform.models import Account, Authorization

    emails = {app.owner for app in world.apps.values()} | {mail for _, mail in world.collaborators}
    emails |= world.other_accounts
    accounts = {
        email: Account.objects.create(email=email, last_login=now)
        for email in sorted(emails - {ACCOUNT})
    }
    accounts[ACCOUNT] = Account.objects.create(
        id=ACCOUNT_ID,
        email=ACCOUNT,
        name="Dev",
        password=make_password(PASSWORD) if world.has_password else "",
        last_login=now,
    )
    issued = authorizations.create_authorization(accounts[ACCOUNT], "lab", token=KEY).authorization
    Authorization.objects.filter(id=issued.id).update(
        id=AUTHORIZATION_ID,
        revoked_at=now if world.is_key_revoked else None,
        expires_at=now + timedelta(days=30) if world.does_key_expire else None,
    )
    for identity in world.authorizations:
        other = authorizations.create_authorization(accounts[ACCOUNT], "lab").authorization
        Authorization.objects.filter(id=other.id).update(id=identity)
    return accounts


def _sync_plans(service: str, model_id: str) -> None:
    from billing.plans import sync_plans

    with TemporaryDirectory() as folder:
        path = Path(folder) / "plans.toml"
        text = PLANS.read_text().replace(f'"{SERVICE}"', f'"{service}"')
        if model_id != MODEL_ID:
            text = re.sub(r'(?<=model_id = ")[^"]+', model_id, text)
        path.write_text(text)
        sync_plans(path)


def _make_app(world: World, name: str, accounts: Mapping[str, Account], now: datetime) -> App:
    from addon.platform.models import App

    fact = world.apps[name]
    return App.objects.create(
        id=fact.id, name=name, owner=accounts[fact.owner], region=fact.region, released_at=now
    )


def _make_addon(
    world: World,
    fact: AddonFact,
    services: Mapping[str, AddonService],
    apps: Mapping[str, App],
    provider: Provider,
    now: datetime,
) -> None:
    from addon.lifecycle import State
    from addon.platform.models import Addon
    from addon.platform.retries import ASYNC_WINDOW
    from billing.plans import find_plan
    from billing.subscriptions import subscribe

    service = services[fact.service]
    app = apps[fact.app]
    # Neither plans of models that Annex does not serve, nor the lab's trick without a colon.
    plan = find_plan(fact.service, fact.plan.rpartition(":")[2])
    plan = plan or find_plan(fact.service, "standard")
    assert plan is not None
    waits = fact.state != State.PROVISIONED
    addon = Addon.objects.create(
        id=fact.id,
        name=fact.name,
        app=app,
        service=service,
        plan=plan,
        state=fact.state,
        provider_id=fact.id,
        next_attempt_at=now + ASYNC_WINDOW if waits else None,
        deadline_at=now + ASYNC_WINDOW if waits else None,
        created_at=now,
        updated_at=now,
    )
    subscribe(
        resource_id=addon.id,
        customer_id=app.owner_id,
        email=app.owner.email,
        name=app.owner.name,
        resource_name=addon.name,
        plan=plan,
        now=now,
    )
    for attachment in world.attachments.values():
        if attachment.addon == fact.name:
            _attach(world, addon, attachment, apps[attachment.app], provider, now)


def _attach(
    world: World,
    addon: Addon,
    fact: AttachmentFact,
    app: App,
    provider: Provider,
    now: datetime,
) -> None:
    """With the values that were recorded; but for the key, which is one that works."""
    from addon.lifecycle import State
    from addon.platform.config_vars import write_attached
    from addon.platform.models import Attachment, AttachmentState

    states = {
        State.PROVISIONED: AttachmentState.ATTACHED,
        State.PROVISIONING: AttachmentState.ATTACHING,
        State.DEPROVISIONING: AttachmentState.DETACHING,
    }
    attachment = Attachment.objects.create(
        id=fact.id or uuid.uuid5(uuid.UUID(str(addon.id)), f"{app.name}::{fact.name}"),
        addon=addon,
        app=app,
        name=fact.name,
        state=states[State(addon.state)],
        created_at=now,
        updated_at=now,
    )
    if attachment.state != AttachmentState.ATTACHED:
        return
    config = dict(provider.config_of(addon, attachment))
    recorded = world.config.get(app.name, {})
    if recorded:
        config = {
            name: recorded.get(f"{fact.name}_{kind}", value) if kind == "URL" else value
            for name, value in config.items()
            if f"{fact.name}_{(kind := name.removeprefix('INFERENCE_'))}" in recorded
        }
    write_attached(attachment, config)


def _make_config(world: World, name: str, app: App) -> None:
    from addon.platform.models import ConfigVar

    owned = set(app.config_vars.values_list("name", flat=True))
    ConfigVar.objects.bulk_create(
        ConfigVar(app=app, name=var, value=value)
        for var, value in world.config.get(name, {}).items()
        if var not in owned
    )


def _make_releases(world: World, name: str, app: App, now: datetime) -> None:
    """Those that were recorded, and before them as many as their numbers say."""
    from addon.platform.models import Release
    from addon.platform.releases import create_release

    recorded = world.releases.get(name, {})
    newest = max(recorded, default=world.newest_release.get(name, 1))
    for version in range(1, max(newest, 1) + 1):
        row = recorded.get(version, {})
        release = create_release(app, app.owner, row.get("description", "Initial release"), now)
        if row:
            Release.objects.filter(id=release.id).update(
                id=row["id"], addon_plan_names=row["addon_plan_names"]
            )


def _make_webhooks(world: World, app: App, now: datetime) -> None:
    from addon.platform.webhooks import NewWebhook, Subject, create_webhook

    for row in world.webhooks:
        wanted = NewWebhook(
            include=row["include"],
            level=row["level"],
            url=row["url"],
            secret=None,
            authorization="",
        )
        create_webhook(Subject(app=app), wanted, uuid.UUID(row["id"]), now)


def _make_notifications(world: World, app: App, now: datetime) -> None:
    from addon.platform.models import Notification

    for row in world.notifications:
        Notification.objects.create(
            id=row["id"],
            account=app.owner,
            app=app,
            title=row["title"],
            body=row["body"],
            is_read=row["read"],
            created_at=now,
        )


def _use(world: World, now: datetime) -> None:
    """So many requests by the first add-on, with so many tokens in all."""
    from uuid_utils.compat import uuid7

    from addon.platform.models import Addon
    from billing.bulk import record_many
    from billing.metering import Usage
    from billing.models import Price

    if not world.usage:
        return
    addon = Addon.objects.select_related("app", "plan").get()
    count, tokens = world.usage["requests"], world.usage["embed_tokens"]
    first = tokens - count + 1
    record_many(
        [
            Usage(
                id=uuid7(),
                customer_id=addon.app.owner_id,
                resource_id=addon.id,
                attachment_id=uuid.uuid4(),
                credential_id=uuid.uuid4(),
                attachment_name="EMBEDDING",
                app_name=addon.app.name,
                plan_name=addon.plan.name,
                price_id=Price.objects.get(plan=addon.plan).id,
                model_id="cohere-embed-multilingual",
                inputs=1,
                text_tokens=first if number == 0 else 1,
                cost_picounits=0,
                requested_at=now,
            )
            for number in range(count)
        ],
        stored_at=now,
    )


def _limit(world: World, now: datetime) -> None:
    """What keeps the app from the inference that it pays for."""
    from addon.provider.models import Credential
    from billing.models import Plan

    if world.is_inference_key_revoked:
        Credential.objects.update(revoked_at=now)
    if world.is_inference_used_up:
        Plan.objects.update(requests_per_minute=1)  # and that one is made by who replays
