"""Rotation by the Platform API: who may ask, what the provider is asked, what a refusal says."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from addon.lifecycle import State
from addon.platform.models import Account, Addon, AddonService, App, Attachment, Collaborator
from addon.provider.credentials import find_identity
from addon.provider.deliveries import drive
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, fast_db_answer, only_addon, register_bad


@pytest.fixture
def addon(bad_provider: BadProvider, api: Api, shop: App) -> Addon:
    bad_provider.will("POST", 201, fast_db_answer("made"))
    assert api.add("shop", "DB", "fast-db").status_code == 201
    bad_provider.will("POST", 202, {"message": "The config vars follow"})
    return only_addon()


def rotate(api: Api, addon: Addon, body: object = None) -> Any:
    return api.post(f"/addons/{addon.name}/actions/rotate-credentials", body or {})


def test_the_provider_is_asked_for_every_attachment(
    addon: Addon, api: Api, bad_provider: BadProvider
) -> None:
    answer = rotate(api, addon)
    assert (answer.status_code, answer.json()["id"]) == (200, str(addon.id))
    call = bad_provider.calls[-1]
    assert call.path.endswith(f"/{addon.id}/actions/rotate-credentials")
    assert call.body == {}


def test_the_provider_is_asked_for_one_attachment_and_an_overlap(
    addon: Addon, api: Api, bad_provider: BadProvider
) -> None:
    attachment = str(Attachment.objects.get().id)
    assert rotate(api, addon, {"attachment": attachment, "overlap_s": 0}).status_code == 200
    assert bad_provider.calls[-1].body == {"attachment": attachment, "overlap_s": 0}


@pytest.mark.parametrize("overlap_s", [-1, 604_801, "60", 1.5, True])
def test_a_wrong_overlap_is_refused_by_name(
    addon: Addon, api: Api, bad_provider: BadProvider, overlap_s: object
) -> None:
    before = len(bad_provider.calls)
    answer = rotate(api, addon, {"overlap_s": overlap_s})
    assert answer.status_code == 422
    assert "overlap_s must be 0 to 604800" in answer.json()["message"]
    assert len(bad_provider.calls) == before


def test_an_attachment_of_another_addon_is_not_found(
    addon: Addon, api: Api, bad_provider: BadProvider, blog: App
) -> None:
    bad_provider.will("POST", 201, fast_db_answer("made"))
    other = api.add("blog", "OTHER", "fast-db").json()
    attachment = Attachment.objects.get(addon_id=other["id"])
    assert rotate(api, addon, {"attachment": str(attachment.id)}).status_code == 404


def test_who_may_not_deploy_may_not_rotate(addon: Addon, shop: App, stranger: Api) -> None:
    assert rotate(stranger, addon).status_code == 404
    account = Account.objects.get(email="stranger@example.com")
    access = Collaborator.objects.create(app=shop, account=account, permissions=["view"])
    assert rotate(stranger, addon).status_code == 403
    access.delete()
    Collaborator.objects.create(app=shop, account=account)
    assert rotate(stranger, addon).status_code == 200


def test_one_that_is_not_provisioned_has_nothing_to_rotate(addon: Addon, api: Api) -> None:
    Addon.objects.update(state=State.PROVISIONING)
    answer = rotate(api, addon)
    assert answer.status_code == 422
    assert "provisioning" in answer.json()["message"]


@pytest.mark.parametrize("status", [422, 503])
def test_the_user_reads_the_providers_refusal(
    addon: Addon, api: Api, bad_provider: BadProvider, status: int
) -> None:
    bad_provider.will("POST", status, {"message": "not today"})
    answer = rotate(api, addon)
    assert (answer.status_code, answer.json()["message"]) == (status, "not today")


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_provider_that_has_no_such_thing_is_said_so(
    addon: Addon, api: Api, bad_provider: BadProvider, status: int
) -> None:
    bad_provider.will("POST", status)
    answer = rotate(api, addon)
    assert answer.status_code == 422
    assert "does not rotate credentials" in answer.json()["message"]


def test_an_unclear_answer_may_be_asked_for_again(
    addon: Addon, api: Api, bad_provider: BadProvider
) -> None:
    bad_provider.will("POST", 500)
    answer = rotate(api, addon)
    assert answer.status_code == 503
    assert "please try again" in answer.json()["message"]


def test_of_a_service_with_one_config_no_attachment_can_be_named(
    addon: Addon, api: Api, bad_provider: BadProvider
) -> None:
    register_bad(bad_provider, attachment_credentials=False)
    body = {"attachment": str(Attachment.objects.get().id)}
    assert rotate(api, addon, body).status_code == 422
    assert rotate(api, addon).status_code == 200


@pytest.mark.parametrize("by", ["the API", "the page at the provider"])
def test_the_app_gets_the_new_key_and_the_old_one_works_on(
    provider: AddonService, live_server: LiveServer, settings: Settings, api: Api, shop: App,
    blog: App, by: str,
) -> None:  # fmt: skip
    settings.PUBLIC_URL, settings.PLATFORM_URLS = live_server.url, [live_server.url]
    assert api.add("shop", "EMBEDDING").status_code == 201
    addon = only_addon()
    assert api.attach(addon.name, "blog", "SEARCH").status_code == 201
    old, others = api.config("shop")["EMBEDDING_KEY"], api.config("blog")
    attachment = str(Attachment.objects.get(name="EMBEDDING").id)
    if by == "the API":
        assert rotate(api, addon, {"attachment": attachment}).status_code == 200
    else:
        form = api.get(f"/apps/shop/addons/{addon.name}/sso").json()["params"]
        browser = Client()
        page = browser.post("/heroku/sso", form)["Location"]
        assert browser.post(f"{page}/attachments/{attachment}/rotate").status_code == 303
    assert api.config("shop")["EMBEDDING_KEY"] == old
    drive(addon.id, timezone.now)
    new = api.config("shop")["EMBEDDING_KEY"]
    assert new != old
    assert [find_identity(key) is not None for key in (old, new)] == [True, True]
    assert api.config("blog") == others
    assert api.releases("shop")[-1] == "Update EMBEDDING by heroku-inference"
