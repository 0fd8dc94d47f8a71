"""Registering other providers' add-ons: by the command's function, and by the admin's form."""

import copy
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from addon.manifest import parse_manifest
from addon.platform.addon_services import AddonServiceNotFound, register
from addon.platform.models import Account, Addon, AddonService
from addon.platform.partners import (
    OwnService,
    Registered,
    ServiceInUse,
    list_services,
    register_partner,
    retire,
)
from addon.provider.manifest import own_manifest
from billing.plans import plans_of
from tests.addon.platform.bad_provider import BadProvider, running_bad_provider
from tests.addon.platform.helpers import Api, fast_db_answer, new_app

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ADD = "admin:platform_addonservice_add"


def manifest(url: str = "https://fast.example", **api: object) -> dict[str, Any]:
    return {
        "id": "fast-db",
        "name": "Fast DB",
        "api": {
            "version": "3",
            "password": "partner-password",
            "regions": ["us"],
            "config_vars": ["FAST_DB_URL"],
            "production": {"base_url": url},
            "annex": {
                "plans": [
                    {"slug": "basic", "price_cents": 900, "default": True},
                    {"slug": "big", "price_cents": 9900},
                ]
            },
            **api,
        },
    }


def registered(**api: object) -> Registered:
    return register_partner(parse_manifest(manifest(**api)), NOW)  # type: ignore[arg-type]


def live_addon(api: Api, provider: BadProvider) -> dict[str, Any]:
    provider.will("POST", 201, fast_db_answer("up"))
    answer = api.add("shop", plan="fast-db:big")
    assert answer.status_code == 201, answer.json()
    addon: dict[str, Any] = answer.json()
    return addon


@pytest.mark.usefixtures("shop")
def test_what_is_registered_can_be_ordered_and_costs_what_its_manifest_says(
    api: Api, transactional_db: None
) -> None:
    with running_bad_provider() as provider:
        registered(production={"base_url": provider.url})
        addon = live_addon(api, provider)
        sent = provider.calls[0].body
    assert (addon["state"], sent["plan"]) == ("provisioned", "big")
    assert addon["billed_price"]["cents"] == 9900
    assert api.config("shop") == {"FAST_DB_URL": "db://first"}


@pytest.mark.usefixtures("shop")
def test_an_app_in_a_region_that_is_not_offered_is_refused_before_the_provider_is_asked(
    api: Api, account: Account, transactional_db: None
) -> None:
    new_app(account, "europe", "eu")
    with running_bad_provider() as provider:
        registered(production={"base_url": provider.url})
        answer = api.add("europe", plan="fast-db")
        assert provider.calls == []
        assert answer.status_code == 422
        assert answer.json() == {
            "id": "invalid_params",
            "message": "fast-db is not offered in the region eu, but in: us",
        }
        assert not Addon.objects.exists()
        provider.will("POST", 201, fast_db_answer("up"))
        for regions in (["us", "eu"], ["*"]):
            here = {"base_url": provider.url}
            registered(production=here, regions=regions, requires=["many_per_app"])
            assert api.add("europe", plan="fast-db").status_code == 201


@pytest.mark.django_db
def test_the_client_secret_is_told_once_and_can_be_made_anew() -> None:
    first = registered()
    assert first.client_secret == first.service.oauth_client_secret
    assert first.client_secret not in repr(first)
    assert registered().client_secret is None
    again = register_partner(parse_manifest(manifest()), NOW, new_secret=True)
    assert again.client_secret not in (None, first.client_secret)
    assert AddonService.objects.get().oauth_client_secret == again.client_secret


@pytest.mark.django_db
def test_a_manifest_without_plans_leaves_what_is_on_sale() -> None:
    registered()
    assert [plan.slug for plan in registered(annex={}).plans] == ["basic", "big"]


@pytest.mark.django_db
def test_our_own_service_is_not_a_partners() -> None:
    register(own_manifest())
    with pytest.raises(OwnService, match="sync_catalogue"):
        register_partner(own_manifest(), NOW)
    with pytest.raises(OwnService):
        retire("heroku-inference")


@pytest.mark.usefixtures("shop")
def test_what_live_addons_hang_on_cannot_change_under_them(
    api: Api, transactional_db: None
) -> None:
    with running_bad_provider() as provider:
        here = {"production": {"base_url": provider.url}}
        registered(**here)
        live_addon(api, provider)
        with pytest.raises(ServiceInUse, match=r"attachment_credentials.*\(1\)"):
            registered(**here, annex={"attachment_credentials": True})
        with pytest.raises(ServiceInUse, match="config_vars_prefix"):
            registered(**here, config_vars_prefix="FAST", config_vars=["FAST_DB_URL"])
        assert registered(**here, password="another-password").service.name == "fast-db"


@pytest.mark.usefixtures("shop")
def test_a_retired_service_is_not_sold_and_its_addons_go_on(
    api: Api, transactional_db: None
) -> None:
    with running_bad_provider() as provider:
        here = {"production": {"base_url": provider.url}}
        registered(**here)
        addon = live_addon(api, provider)
        assert retire("fast-db").state == "shutdown"
        assert [row.live_addons for row in list_services()] == [1]
        assert api.add("shop", plan="fast-db:big").status_code == 422
        provider.will("DELETE", 204)
        gone = api.delete(f"/apps/shop/addons/{addon['name']}").json()
        assert gone["state"] == "deprovisioned"
        assert registered(**here).service.state == "ga"
        assert plans_of("fast-db").count() == 2


@pytest.mark.django_db
def test_what_is_not_there_cannot_be_retired() -> None:
    with pytest.raises(AddonServiceNotFound, match="no add-on service fast-db"):
        retire("fast-db")


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_an_operator_pastes_or_uploads_a_manifest(operator: Client, is_uploaded: bool) -> None:
    text = json.dumps(manifest())
    data: dict[str, object] = {"file": io.BytesIO(text.encode())} if is_uploaded else {"text": text}
    answer = operator.post(reverse(ADD), data)
    page = answer.content.decode()
    assert "fast-db:basic" in page
    assert AddonService.objects.get().oauth_client_secret in page
    again = operator.post(reverse(ADD), {"text": text}).content.decode()
    assert AddonService.objects.get().oauth_client_secret not in again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (json.dumps({"id": "fast-db"}), "api must be an object"),
        (json.dumps({**manifest(), "id": "heroku-inference"}), "api.config_vars must be"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(operator: Client, text: str, said: str) -> None:
    answer = operator.post(reverse(ADD), {"text": text})
    assert said in answer.content.decode()
    assert not AddonService.objects.exists()


def test_our_own_name_is_refused_in_the_form(operator: Client) -> None:
    document = copy.deepcopy(manifest(config_vars_prefix="FAST_DB"))
    answer = operator.post(
        reverse(ADD), {"text": json.dumps({**document, "id": "heroku-inference"})}
    )
    assert "own add-on" in answer.content.decode()
    assert not AddonService.objects.exists()


def test_who_is_no_operator_registers_nothing(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("reader", is_staff=True))
    assert client.post(reverse(ADD), {"text": json.dumps(manifest())}).status_code == 403
