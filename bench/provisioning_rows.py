"""The database that bench/provisioning.py measures on; Django is set up before this is imported."""

import sys
import uuid
from typing import Any

import httpx
import msgspec
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models
from django.utils import timezone

from addon.platform.accounts import create_account
from addon.platform.authorizations import create_authorization
from addon.platform.heroku_apps import NewApp, create_app
from addon.platform.models import (
    Account,
    Addon,
    App,
    Attachment,
    Authorization,
    ConfigVar,
    Release,
)
from addon.provider import models as provider
from bench.provisioning import Order
from billing.models import Customer, Subscription

NEW_ACCOUNTS = 20
NEW_APPS = 200
COPIED = "copied@example.com"

# Whose rows are copied, by the path to the account or at the provider to the add-on, and what
# differs between the copies: SQL in which n is the number of the copy. The ids of
# what belongs together are made from the same words.
ACCOUNT, APP, ADDON, ATTACHMENT = (
    f"md5('{what}' || n)::uuid" for what in ("account", "app", "addon", "attachment")
)
COPIES: list[tuple[type[models.Model], str, dict[str, str]]] = [
    (Account, "id", {"id": ACCOUNT, "email": "'dev-' || n || '@example.com'"}),
    (Authorization, "account", {"account_id": ACCOUNT, "token_digest": "md5('t' || n)"}),
    (Customer, "id", {"id": ACCOUNT}),
    (App, "owner", {"id": APP, "owner_id": ACCOUNT, "name": "'app-' || n"}),
    (Release, "account", {"app_id": APP, "account_id": ACCOUNT}),
    (Addon, "app__owner", {"id": ADDON, "app_id": APP, "name": "'inference-' || n"}),
    (
        Attachment,
        "app__owner",
        {"id": ATTACHMENT, "addon_id": ADDON, "app_id": APP},
    ),
    (ConfigVar, "app__owner", {"app_id": APP, "attachment_id": ATTACHMENT}),
    (Subscription, "customer", {"customer_id": ACCOUNT, "resource_id": ADDON}),
    (provider.Resource, "id", {"id": ADDON}),
    (provider.Attachment, "resource", {"id": ATTACHMENT, "resource_id": ADDON}),
    (
        provider.Credential,
        "attachment__resource",
        {"attachment_id": ATTACHMENT, "digest": "md5('k' || n)"},
    ),
]


def prepare() -> None:
    call_command("migrate", verbosity=0)
    call_command("sync_catalogue", verbosity=0)


def fill() -> None:
    count = int(sys.argv[1])
    if not Account.objects.filter(email=COPIED).exists():
        _order_one()
    first = Addon.objects.count() + 1
    with connection.cursor() as cursor:
        for model, path, changes in COPIES:
            cursor.execute(_copy(model, path, changes), [first, count])
        cursor.execute("VACUUM ANALYZE")
    if Addon.objects.count() != count:
        raise ValueError(f"{Addon.objects.count()} add-ons instead of {count}")
    print(msgspec.json.encode(_new_orders()).decode())


def _order_one() -> None:
    """What the copies are made of."""
    account = create_account(COPIED)
    app = _new_app(account)
    answer = httpx.post(
        f"{settings.PUBLIC_URL}/apps/{app.name}/addons",
        json={"plan": "heroku-inference:standard"},
        headers={"Authorization": f"Bearer {create_authorization(account, '').token}"},
        timeout=60,
        trust_env=False,
    )
    answer.raise_for_status()


def _copy(model: type[models.Model], path: str, changes: dict[str, str]) -> str:
    columns = [str(field.column) for field in model._meta.concrete_fields]
    values = {column: f't."{column}"' for column in columns}
    values["id"] = "md5(t.id::text || n)::uuid"
    values |= changes
    table, names = model._meta.db_table, ", ".join(f'"{column}"' for column in columns)
    return (
        f'INSERT INTO "{table}" ({names}) '  # noqa: S608 - of names and ids of our own
        f"SELECT {', '.join(values[column] for column in columns)} "
        f'FROM "{table}" t, generate_series(%s::int, %s::int) n '
        f"WHERE t.id IN ({_copied(model, path)})"
    )


def _copied(model: Any, path: str) -> str:
    """The ids of the rows that are copied, in SQL: the account's, and the add-on's at the provider,
    which knows no accounts."""
    addon = Addon.objects.get(app__owner__email=COPIED)
    whose = addon.id if model._meta.app_label == "provider" else addon.app.owner_id
    rows = model.objects.filter(**{path: whose})
    return ", ".join(f"'{row_id}'" for row_id in rows.values_list("id", flat=True))


def _new_orders() -> list[Order]:
    accounts = [create_account(f"{uuid.uuid4()}@example.com") for _ in range(NEW_ACCOUNTS)]
    tokens = [create_authorization(account, "").token for account in accounts]
    return [
        Order(
            app=_new_app(accounts[number % NEW_ACCOUNTS]).name, token=tokens[number % NEW_ACCOUNTS]
        )
        for number in range(NEW_APPS)
    ]


def _new_app(account: Account) -> App:
    wanted = NewApp(id=uuid.uuid4(), name=None, region="us", stack="heroku-24")
    return create_app(account, wanted, timezone.now())
