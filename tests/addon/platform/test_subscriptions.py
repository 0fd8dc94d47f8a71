"""Who pays for an add-on, and from when to when, as ordering and ending it decide."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from addon.platform import provider_client
from addon.platform.models import Account, Addon, App
from billing.models import Customer, Plan, Price, Subscription
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, only_addon
from tests.addon.rounds_in_turn import reconcile_platform as reconcile

REFUSAL = {"message": "not today"}


def only_subscription() -> Subscription:
    return Subscription.objects.select_related("plan", "customer").get()


@pytest.mark.usefixtures("shop", "provider")
class TestWithOurOwnProvider:
    def test_the_owner_pays_for_an_addon_from_its_order_on(
        self, api: Api, account: Account
    ) -> None:
        api.add("shop")
        addon, subscription = only_addon(), only_subscription()
        assert (subscription.resource_id, subscription.resource_name) == (addon.id, addon.name)
        assert (subscription.plan, subscription.start_at) == (addon.plan, addon.created_at)
        assert subscription.end_at is None
        customer = subscription.customer
        assert (customer.id, customer.email, customer.name) == (account.id, account.email, "Dev")

    def test_destroying_it_ends_the_subscription(self, api: Api) -> None:
        api.add("shop")
        api.delete(f"/apps/shop/addons/{only_addon().name}")
        ended_at = only_subscription().end_at
        assert ended_at is not None
        assert only_subscription().start_at < ended_at <= timezone.now()

    def test_destroying_the_app_ends_the_subscription(self, api: Api) -> None:
        api.add("shop")
        api.delete("/apps/shop")
        assert only_subscription().end_at is not None

    def test_attaching_it_elsewhere_is_no_subscription_more(self, api: Api, blog: App) -> None:
        addon = api.add("shop").json()
        api.attach(addon["name"], "blog")
        assert Subscription.objects.count() == 1

    def test_the_price_is_that_in_force(self, api: Api) -> None:
        plan = Plan.objects.get(slug="dedicated")
        url = "/addon-services/heroku-inference/plans/dedicated"
        hourly = {"cents": 211_680, "contract": False, "metered": False, "unit": "month"}
        assert api.get(url).json()["price"] == hourly  # $2.94 for each of the CLI's 720 hours
        Price.objects.create(
            plan=plan, version=2, active_from=timezone.now(), monthly_microunits=12_345_000
        )
        Price.objects.create(
            plan=plan, version=3, active_from=timezone.now() + timedelta(hours=1)
        )  # fmt: skip
        assert api.get(url).json()["price"] == {**hourly, "cents": 1234}

    def test_an_order_that_is_refused_by_us_subscribes_to_nothing(self, api: Api) -> None:
        assert api.add("shop", name="1").status_code == 422
        assert not Subscription.objects.exists()
        assert not Customer.objects.exists()


@pytest.mark.usefixtures("shop")
class TestWithAProviderThatMisbehaves:
    def ended(self) -> bool:
        """Whether the subscription was taken back, so that it costs nothing."""
        subscription = only_subscription()
        return subscription.end_at == subscription.start_at

    def test_what_is_refused_costs_nothing(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 422, REFUSAL)
        api.add("shop", plan="fast-db")
        assert self.ended()

    def test_what_is_refused_later_costs_nothing(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", plan="fast-db")
        assert only_subscription().end_at is None
        bad_provider.will("POST", 422, REFUSAL)
        reconcile(lambda: timezone.now() + timedelta(seconds=31))
        assert self.ended()

    def test_what_is_never_provisioned_costs_nothing(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", plan="fast-db")
        reconcile(lambda: timezone.now() + timedelta(hours=25))
        assert self.ended()

    def test_what_is_destroyed_before_it_was_provisioned_costs_nothing(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", plan="fast-db")
        api.delete(f"/apps/shop/addons/{only_addon().name}")
        assert self.ended()

    def test_an_addon_whose_rows_are_rolled_back_is_not_subscribed(
        self, api: Api, bad_provider: BadProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any) -> Any:
            raise AssertionError("the provider must not be asked")

        monkeypatch.setattr(provider_client, "provision", refuse)
        answer = api.add("shop", alias="1-is-no-letter", plan="fast-db")
        assert answer.status_code == 422
        assert not Addon.objects.exists()
        assert not Subscription.objects.exists()
