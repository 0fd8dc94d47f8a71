"""`heroku usage:addons`: the meters of an app's add-ons, in the CLI's shape."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from addon.platform.models import Account, Addon
from billing.bulk import record_many
from billing.metering import Usage
from billing.models import Price
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.usefixtures("shop", "blog", "provider")

Use = Callable[..., None]


@pytest.fixture
def use(account: Account) -> Use:
    """Record a request of 17 tokens for 2 inputs, except for what is given."""

    def use(addon_id: str, at: datetime | None = None, **changes: Any) -> None:
        addon = Addon.objects.select_related("plan", "app").get(id=addon_id)
        event: dict[str, Any] = {
            "id": uuid7(),
            "customer_id": account.id,
            "resource_id": UUID(addon_id),
            "attachment_id": uuid4(),
            "credential_id": uuid4(),
            "attachment_name": "EMBEDDING",
            "app_name": addon.app.name,
            "plan_name": addon.plan.name,
            "price_id": Price.objects.filter(plan=addon.plan).get().id,
            "model_id": "all-minilm-l6-v2",
            "inputs": 2,
            "text_tokens": 17,
            "cost_picounits": 170_000,
            "requested_at": at or timezone.now(),
            **changes,
        }
        record_many([Usage(**event)], stored_at=at)

    return use


def test_the_meters_of_an_apps_addons_are_those_of_this_month(api: Api, use: Use) -> None:
    addon = api.add("shop", "EMBEDDING").json()
    for _ in range(2):
        use(addon["id"])
    use(addon["id"], text_tokens=0, image_tokens=64, model_id="cohere-embed-v4")
    answer = api.get("/apps/shop/usage")
    assert answer.status_code == 200
    meters = {"requests": 3, "inputs": 6, "input tokens": 34, "image tokens": 64}
    assert answer.json() == {
        "id": addon["app"]["id"],
        "addons": [
            {
                "id": addon["id"],
                "meters": {label: {"quantity": number} for label, number in meters.items()},
            }
        ],
    }


def test_usage_belongs_to_the_app_that_owns_the_addon(api: Api, use: Use) -> None:
    addon = api.add("shop").json()
    api.attach(addon["name"], "blog")
    use(addon["id"], app_name="blog")
    assert len(api.get("/apps/shop/usage").json()["addons"]) == 1
    assert api.get("/apps/blog/usage").json()["addons"] == []


def test_an_addon_that_was_not_used_has_no_meters(api: Api) -> None:
    api.add("shop")
    assert api.get("/apps/shop/usage").json()["addons"] == []


def test_another_month_is_asked_for_by_name(api: Api, use: Use) -> None:
    addon = api.add("shop").json()
    use(addon["id"], datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC))
    use(addon["id"], datetime(2026, 10, 1, tzinfo=UTC))
    for month, used in (("2026-08", 0), ("2026-09", 1), ("2026-10", 1)):
        assert len(api.get(f"/apps/shop/usage?month={month}").json()["addons"]) == used


@pytest.mark.parametrize("month", ["", "2026", "2026-13", "10/2026", "now", "9999-12"])
def test_a_month_is_refused_by_name(api: Api, month: str) -> None:
    answer = api.get(f"/apps/shop/usage?month={month}")
    assert answer.status_code == 422
    assert answer.json()["message"] == "month must be a month like 2026-11"


def test_a_destroyed_addon_keeps_its_usage(api: Api, use: Use) -> None:
    addon = api.add("shop").json()
    use(addon["id"])
    api.delete(f"/apps/shop/addons/{addon['name']}")
    assert api.get("/apps/shop/usage").json()["addons"][0]["id"] == addon["id"]


def test_an_account_is_its_own_team(api: Api, account: Account, use: Use) -> None:
    first, second = api.add("shop").json(), api.add("blog").json()
    use(first["id"])
    use(second["id"], text_tokens=5)
    for team in (account.id, account.email, account.email.upper()):
        answer = api.get(f"/teams/{team}/usage").json()
        assert answer["id"] == str(account.id)
        tokens = {
            app["id"]: app["addons"][0]["meters"]["input tokens"]["quantity"]
            for app in answer["apps"]
        }
        assert tokens == {first["app"]["id"]: 17, second["app"]["id"]: 5}
        of_the_app = api.get(f"/teams/{team}/apps/shop/usage").json()
        assert of_the_app == api.get("/apps/shop/usage").json()
        assert {row["id"] for row in api.get(f"/teams/{team}/addons").json()} == tokens_owners(
            first, second
        )


def tokens_owners(*addons: Any) -> set[str]:
    return {addon["id"] for addon in addons}


@pytest.mark.parametrize("path", ["usage", "addons", "apps/shop/usage"])
def test_somebody_elses_team_is_not_found(
    api: Api, stranger: Api, account: Account, path: str
) -> None:
    for team in (account.id, account.email, "no-such-team"):
        answer = stranger.get(f"/teams/{team}/{path}")
        assert answer.status_code == 404
        assert (answer.json()["id"], answer.json()["resource"]) == ("not_found", "team")


def test_somebody_elses_app_is_not_found(stranger: Api) -> None:
    assert stranger.get("/apps/shop/usage").status_code == 404
    own_team = "stranger@example.com"
    assert stranger.get(f"/teams/{own_team}/apps/shop/usage").json()["resource"] == "app"
    assert stranger.get(f"/teams/{own_team}/usage").json()["apps"] == []
