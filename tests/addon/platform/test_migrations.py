"""What was stored before a migration is there after it, and goes on as it should."""

from importlib import import_module
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from addon.platform.authorizations import digest, find_authorization
from addon.platform.models import Account, Addon, Release
from addon.platform.releases import NoSnapshot, config_of_release
from addon.provider.models import Resource
from billing.models import Customer, Subscription
from tests.addon.platform.helpers import Api
from tests.addon.provider.test_partner_api import PATH, call, provision_body


def migrate() -> None:
    import_module("addon.platform.migrations.0002_subscribe_addons").subscribe(apps, None)
    import_module("addon.provider.migrations.0002_subscribe_resources").subscribe(apps, None)


@pytest.mark.usefixtures("shop", "provider")
def test_each_is_subscribed_once_to_its_owner(
    api: Api,
    account: Account,
) -> None:
    addon = api.add("shop").json()
    destroyed = api.add("shop").json()
    foreign = provision_body()
    call("POST", PATH, foreign)
    api.delete(f"/apps/shop/addons/{destroyed['name']}")
    Subscription.objects.all().delete()
    Customer.objects.all().delete()
    for _ in range(2):
        migrate()
        paid = {str(row.resource_id): str(row.customer_id) for row in Subscription.objects.all()}
        assert paid == {addon["id"]: str(account.id), foreign["uuid"]: foreign["uuid"]}
    assert Subscription.objects.filter(end_at=None).count() == 2
    assert (Addon.objects.count(), Resource.objects.count()) == (2, 3)


@pytest.mark.django_db(transaction=True)
def test_tokens_and_releases_of_before_teams_are_kept_and_the_way_back_is_open() -> None:
    before = [("platform", "0002_subscribe_addons")]
    last = MigrationExecutor(connection).loader.graph.leaf_nodes()
    token, now = "HRKU-of-before", timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA before; SET search_path TO before")
        try:
            state = MigrationExecutor(connection).migrate(before)
            old = {name: state.apps.get_model("platform", name) for name in ("Account", "App")}
            account = old["Account"].objects.create(id=uuid4(), email="dev@example.com")
            state.apps.get_model("platform", "Authorization").objects.create(
                account=account, access_token=token, token_digest=digest(token)
            )
            app = old["App"].objects.create(name="shop", owner=account)
            state.apps.get_model("platform", "Release").objects.create(
                app=app, version=1, description="Initial release", account=account, created_at=now
            )
            MigrationExecutor(connection).migrate(last)
            found = find_authorization(token, now)
            assert found is not None
            assert (found.account.email, found.scope) == ("dev@example.com", ["global"])
            with pytest.raises(NoSnapshot):
                config_of_release(Release.objects.get())
            state = MigrationExecutor(connection).migrate(before)
            row = state.apps.get_model("platform", "Authorization").objects.get()
            assert (row.token_digest, row.access_token) == (digest(token), "")
        finally:
            cursor.execute("SET search_path TO DEFAULT; DROP SCHEMA before CASCADE")
