"""The page of an add-on whose provider has no pages of its own, and the list of add-ons."""

import pytest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from addon.platform import web_sessions
from addon.platform.accounts import find_account
from addon.platform.models import Account, Addon, AddonService, App, Collaborator
from tests.addon.platform.helpers import Api


def browser_of(email: str) -> Client:
    account = find_account(email)
    assert account is not None
    browser = Client()
    browser.cookies[web_sessions.COOKIE] = web_sessions.open_session(account)
    return browser


@pytest.fixture
def addon(provider: AddonService, live_server: LiveServer, api: Api, shop: App) -> Addon:
    AddonService.objects.update(sso_url="")
    assert api.add("shop", "EMBEDDING").status_code == 201
    return Addon.objects.get()


def page_of(addon: Addon) -> str:
    return f"/dashboard/addons/{addon.id}"


def test_the_page_says_what_the_addon_is_and_no_secret(addon: Addon, api: Api, blog: App) -> None:
    assert api.attach(addon.name, "blog", "SEARCH").status_code == 201
    answer = browser_of("dev@example.com").get(page_of(addon))
    assert answer.status_code == 200
    page = answer.content.decode()
    for told in (addon.name, addon.plan.name, "provisioned", "shop", "EMBEDDING_KEY", "blog",
                 "SEARCH_URL"):  # fmt: skip
        assert told in page
    assert "Managed Inference has no pages of its own" in page
    for app in ("shop", "blog"):
        for name, value in api.config(app).items():
            if name.endswith("_KEY"):
                assert value not in page


def test_web_url_leads_to_the_page(addon: Addon, api: Api) -> None:
    web_urls = {
        api.get(f"/addons/{addon.name}").json()["web_url"],
        api.get("/apps/shop/addon-attachments").json()[0]["web_url"],
    }
    assert web_urls == {f"http://localhost:5000{page_of(addon)}"}


def test_who_is_not_logged_in_is_asked_to_and_told_nothing(addon: Addon) -> None:
    answer = Client().get(page_of(addon))
    assert answer.status_code == 302
    assert answer["Location"] == f"/login?next=%2Fdashboard%2Faddons%2F{addon.id}"
    nosuch = Client().get("/dashboard/addons/00000000-0000-4000-8000-000000000000")
    assert nosuch.status_code == 302


def test_a_stranger_finds_what_nobody_finds(addon: Addon, stranger: Api) -> None:
    browser = browser_of("stranger@example.com")
    theirs = browser.get(page_of(addon))
    nothing = browser.get("/dashboard/addons/00000000-0000-4000-8000-000000000000")
    assert (theirs.status_code, nothing.status_code) == (404, 404)
    assert theirs.content == nothing.content
    assert addon.name not in browser.get("/dashboard").content.decode()


def test_a_collaborator_sees_the_page_while_being_one(
    addon: Addon, shop: App, stranger: Api
) -> None:
    browser = browser_of("stranger@example.com")
    account = Account.objects.get(email="stranger@example.com")
    access = Collaborator.objects.create(app=shop, account=account)
    assert browser.get(page_of(addon)).status_code == 200
    assert addon.name in browser.get("/dashboard").content.decode()
    access.delete()
    assert browser.get(page_of(addon)).status_code == 404


def test_a_collaborator_of_another_app_sees_no_attachments_elsewhere(
    addon: Addon, api: Api, blog: App, stranger: Api
) -> None:
    api.attach(addon.name, "blog", "SEARCH")
    account = Account.objects.get(email="stranger@example.com")
    Collaborator.objects.create(app=blog, account=account)
    page = browser_of("stranger@example.com").get(page_of(addon)).content.decode()
    assert "SEARCH_KEY" in page
    assert "EMBEDDING_KEY" not in page


def test_an_addon_that_is_gone_has_no_page(addon: Addon, api: Api) -> None:
    assert api.delete(f"/apps/shop/addons/{addon.name}", {"force": True}).status_code == 200
    assert browser_of("dev@example.com").get(page_of(addon)).status_code == 404


def test_without_single_sign_on_sudo_is_sent_to_the_same_page(
    addon: Addon, api: Api, stranger: Api
) -> None:
    answer = api.get(f"/apps/shop/addons/{addon.name}/sso")
    assert answer.json() == {
        "method": "get",
        "action": f"http://localhost:5000{page_of(addon)}",
        "params": {},
    }
    assert stranger.get(f"/apps/shop/addons/{addon.name}/sso").status_code == 404


def test_the_dashboard_lists_the_addons_of_ones_own_apps(addon: Addon) -> None:
    page = browser_of("dev@example.com").get("/dashboard").content.decode()
    assert page_of(addon) in page
