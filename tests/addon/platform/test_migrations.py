"""Add-ons and resources from before there were subscriptions are paid for by the right customer."""

from importlib import import_module

import pytest
from django.apps import apps

from addon.platform.models import Account, Addon
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
