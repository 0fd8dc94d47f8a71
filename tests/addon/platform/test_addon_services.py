import uuid
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from addon.platform.addon_services import register
from addon.platform.models import AddonService
from addon.provider.manifest import own_manifest
from billing.models import Plan
from billing.plans import sync_plans

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def service() -> AddonService:
    sync_plans()
    return register(own_manifest())


def get(path: str) -> Any:
    """Without any credentials: what is on sale is public."""
    answer = Client().get(path)
    assert answer.status_code == 200
    assert "Request-Id" in answer
    return answer.json()


def test_services_are_listed_without_a_token(service: AddonService) -> None:
    (listed,) = get("/addon-services")
    assert listed["name"] == "heroku-inference"
    assert listed["human_name"] == "Managed Inference"
    assert listed["state"] == "ga"
    assert listed["supports_sharing"] is True
    assert listed["supports_multiple_installations"] is True
    assert {"id", "cli_plugin_name", "created_at", "updated_at"} <= set(listed)


def test_a_service_is_found_by_name_and_id(service: AddonService) -> None:
    assert get("/addon-services/heroku-inference") == get(f"/addon-services/{service.id}")


def test_plans_are_listed_with_prices_that_the_cli_can_read(service: AddonService) -> None:
    plan, *others = get("/addon-services/heroku-inference/plans")
    assert "heroku-inference:cohere-embed-v4" in [other["name"] for other in others]
    assert plan["name"] == "heroku-inference:standard"
    assert plan["default"] is True
    assert plan["price"] == {"cents": 0, "contract": False, "metered": True, "unit": "month"}
    assert plan["addon_service"] == {"id": str(service.id), "name": "heroku-inference"}
    assert {
        "compliance", "created_at", "description", "human_name", "id", "space_default", "state",
        "installable_inside_private_network", "installable_outside_private_network", "updated_at",
        "visible",
    } <= set(plan)  # fmt: skip


def test_a_plan_is_found_by_slug_full_name_and_id() -> None:
    plan = Plan.objects.get(slug="standard")
    answers = [
        get(f"/addon-services/heroku-inference/plans/{identity}")
        for identity in ("standard", "heroku-inference:standard", plan.id)
    ]
    assert answers[0] == answers[1] == answers[2]


def test_plans_that_are_not_on_sale_are_not_listed() -> None:
    Plan.objects.update(is_visible=False)
    assert get("/addon-services/heroku-inference/plans") == []


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/addon-services/nosuch", "addon_service"),
        (f"/addon-services/{uuid.UUID(int=1)}", "addon_service"),
        ("/addon-services/%00", "addon_service"),
        ("/addon-services/nosuch/plans", "addon_service"),
        ("/addon-services/heroku-inference/plans/nosuch", "plan"),
        (f"/addon-services/heroku-inference/plans/{uuid.UUID(int=1)}", "plan"),
        ("/addon-services/heroku-inference/plans/%00", "plan"),
    ],
)
def test_what_is_unknown_is_a_404(path: str, resource: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer.json()["resource"]) == (404, resource)


def test_registering_again_updates_the_service(service: AddonService) -> None:
    again = register(replace(own_manifest(), name="Embeddings"))
    assert (again.id, again.human_name) == (service.id, "Embeddings")
    assert AddonService.objects.count() == 1


def test_a_service_has_what_its_manifest_says_and_a_secret_that_stays(
    service: AddonService,
) -> None:
    secret = service.oauth_client_secret
    manifest = replace(
        own_manifest(), regions=("us",), sso_salt="salty", sso_url="https://fast.example/sso"
    )
    again = AddonService.objects.get(id=register(manifest).id)
    assert (again.regions, again.sso_salt, again.sso_url) == (["us"], "salty", manifest.sso_url)
    assert again.oauth_client_secret == secret
    assert len(secret) >= 40


def test_a_service_of_before_there_were_secrets_gets_one(service: AddonService) -> None:
    service.oauth_client_secret = ""
    service.save()
    assert register(own_manifest()).oauth_client_secret
