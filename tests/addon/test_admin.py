"""The admin pages of both sides: every table, no secret, no hand edit of what a machine owns."""

from dataclasses import replace
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from addon.platform import partner_tokens, provisioning
from addon.platform.accounts import create_account
from addon.platform.addon_services import order_plan, register
from addon.platform.aliases import Wish
from addon.platform.authorizations import create_authorization
from addon.platform.config_vars import config_of
from addon.platform.heroku_apps import NewApp, create_app
from addon.platform.models import Collaborator
from addon.platform.notifications import notify
from addon.platform.teams import create_team
from addon.platform.webhooks import NewWebhook, Subject, create_webhook
from addon.provider import callbacks
from addon.provider.manifest import own_manifest
from addon.provider.models import Attachment, Grant
from billing.models import CreditUse, InvoiceLine
from billing.plans import sync_plans

MODELS = [
    *apps.get_app_config("provider").get_models(),
    *apps.get_app_config("platform").get_models(),
]
EDITABLE = {"Account", "Authorization"}
ADDED_BY_A_FORM_OF_ITS_OWN = {"AddonService"}


@pytest.fixture
def secrets(live_server: LiveServer) -> list[str]:
    """One row in every table; returns the secrets that are in them."""
    sync_plans()
    manifest = replace(own_manifest(), base_url=f"{live_server.url}/heroku/resources")
    register(manifest)
    account = create_account("dev@example.com")
    token = create_authorization(account, "laptop").token
    wanted = NewApp(name="shop", region="us", stack="heroku-24")
    app = create_app(account, wanted, timezone.now())
    webhook = NewWebhook(
        include=["api:addon"], level="sync", url="https://hooks.example.com/",
        secret="secret-of-a-webhook", authorization="Bearer of-a-webhook",
    )  # fmt: skip
    create_webhook(Subject(app=app), webhook, uuid4(), timezone.now())
    service, plan = order_plan("heroku-inference")
    order = provisioning.Order(
        app=app, account=account, service=service, plan=plan, name=None,
        wish=Wish(alias="EMBEDDING", confirm=None), options={},
    )  # fmt: skip
    provisioning.provision(order, timezone.now())
    team = create_team("acme", account, uuid4()).team
    Collaborator.objects.create(app=app, account=team.account)
    notify(account, app, "Key rotated", "A key was rotated.", timezone.now())
    account.password = "pbkdf2_sha256$hash-of-a-password"
    account.save()
    grant = Grant.objects.get()
    tokens = partner_tokens.exchange(grant.code, settings.OAUTH_CLIENT_SECRET, timezone.now())
    grant.access_token, grant.refresh_token = tokens.access_token, tokens.refresh_token
    grant.save()
    with transaction.atomic():
        callbacks.queue_config(Attachment.objects.get(), timezone.now())
    told = ["secret-of-a-webhook", "Bearer of-a-webhook", "hash-of-a-password"]
    assert service.oauth_client_secret
    told += [service.oauth_client_secret, manifest.password]
    told += [grant.code, tokens.access_token, tokens.refresh_token]
    return [token, config_of(app)["EMBEDDING_KEY"], *told]


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_table_is_listed_searched_and_shown_without_a_secret(
    model: type, operator: Client, secrets: list[str]
) -> None:
    opened = model._meta  # type: ignore[attr-defined]
    name = f"admin:{opened.app_label}_{opened.model_name}"
    rows = model._default_manager.all()  # type: ignore[attr-defined]
    shown = [reverse(f"{name}_change", args=[row.pk]) for row in rows]
    assert shown
    for url in (reverse(f"{name}_changelist"), reverse(f"{name}_changelist") + "?q=x", *shown):
        answer = operator.get(url)
        assert answer.status_code == 200, url
        for secret in secrets:
            assert secret not in answer.content.decode(), url


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_only_what_no_state_machine_owns_can_be_edited(
    model: type, operator: Client, secrets: list[str]
) -> None:
    opened = model._meta  # type: ignore[attr-defined]
    name = f"admin:{opened.app_label}_{opened.model_name}"
    row = model._default_manager.all()[0]  # type: ignore[attr-defined]
    may_edit = model.__name__ in EDITABLE
    answer = operator.post(reverse(f"{name}_change", args=[row.pk]), {})
    assert (answer.status_code != 403) == may_edit
    if not may_edit:
        added = operator.get(reverse(f"{name}_add")).status_code
        assert added == (200 if model.__name__ in ADDED_BY_A_FORM_OF_ITS_OWN else 403)
        assert operator.get(reverse(f"{name}_delete", args=[row.pk])).status_code == 403


def test_every_table_has_columns_a_search_and_a_filter() -> None:
    billing = {*apps.get_app_config("billing").get_models()} - {InvoiceLine, CreditUse}
    for model in [*MODELS, *billing]:  # without what is shown with an invoice or a credit
        page = admin.site.get_model_admin(model)
        assert page.list_display != ("__str__",), model
        assert page.search_fields, model
        assert page.list_filter, model
