"""From the platform to an add-on's provider: the signed form, for whom it is, where it leads."""

import base64
import html
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from addon.lifecycle import State
from addon.platform.models import Account, Addon, AddonService, App, Collaborator
from addon.single_sign_on import resource_token, user_scoped_resource_token
from tests.addon.platform.helpers import Api
from tests.addon.platform.test_dashboard import browser_of, page_of

FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.DOTALL)
INPUT = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@pytest.fixture
def addon(provider: AddonService, live_server: LiveServer, api: Api, shop: App) -> Addon:
    assert api.add("shop", "EMBEDDING").status_code == 201
    return Addon.objects.get()


def form_of(answer: Any) -> tuple[str, dict[str, str]]:
    """Where a page submits its form to, and what."""
    found = FORM.search(answer.content.decode())
    assert found is not None, answer.content.decode()
    fields = {name: html.unescape(value) for name, value in INPUT.findall(found[2])}
    return html.unescape(found[1]), fields


def sso(api: Api, addon: Addon, app: str = "shop", query: str = "") -> Any:
    return api.get(f"/apps/{app}/addons/{addon.name}/sso{query}")


def test_the_form_has_every_token_of_herokus(addon: Addon, api: Api, account: Account) -> None:
    answer = sso(api, addon).json()
    assert (answer["method"], answer["action"]) == ("post", "http://localhost:5000/heroku/sso")
    params, salt = answer["params"], addon.service.sso_salt
    timestamp, addon_id = params["timestamp"], str(addon.id)
    assert abs(timezone.now().timestamp() - int(timestamp)) < 60
    user = str(account.id), "dev@example.com"
    assert params == {
        "resource_id": addon_id,
        "resource_token": resource_token(addon_id, salt, timestamp),
        "user_scoped_resource_token": user_scoped_resource_token(addon_id, salt, timestamp, *user),
        "timestamp": timestamp,
        "id": addon.provider_id,
        "token": resource_token(addon.provider_id, salt, timestamp),
        "user_id": user[0],
        "email": user[1],
        "app": "shop",
        "context_app": "shop",
        "nav-data": params["nav-data"],
    }
    padded = params["nav-data"] + "=" * (-len(params["nav-data"]) % 4)
    shown = json.loads(base64.urlsafe_b64decode(padded))
    assert shown == {"addon": "Managed Inference", "appname": "shop"}


def test_the_token_of_version_1_is_over_the_providers_own_id(addon: Addon, api: Api) -> None:
    salt = "2f97bfa52ca102f8874716e2eb1d3b4920ad0be4"
    Addon.objects.update(provider_id="123")
    service = AddonService.objects.get()
    service.sso_salt = salt
    service.save()
    params = sso(api, addon).json()["params"]
    assert params["id"] == "123"
    assert params["token"] == resource_token("123", salt, params["timestamp"])
    assert params["token"] != params["resource_token"]


def test_the_page_of_the_addon_submits_the_form(addon: Addon, live_server: LiveServer) -> None:
    answer = browser_of("dev@example.com").get(page_of(addon))
    action, fields = form_of(answer)
    assert action == "http://localhost:5000/heroku/sso"
    assert fields["resource_id"] == str(addon.id)
    assert "platform/submit.js" in answer.content.decode()
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "form-action" not in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "no-store"


def test_the_form_opens_the_page_at_the_provider_once(addon: Addon) -> None:
    browser = browser_of("dev@example.com")
    action, fields = form_of(browser.get(page_of(addon)))
    provider = Client()
    opened = provider.post(urlsplit(action).path, fields, follow=True)
    page = opened.content.decode()
    assert opened.status_code == 200
    assert addon.name in page
    assert "dev@example.com" in page
    assert Client().post(urlsplit(action).path, fields).status_code == 403


def test_what_the_link_says_besides_is_passed_through_and_changes_nothing(
    addon: Addon, api: Api
) -> None:
    query = "?action=rotate&resource_id=other&email=admin@example.com&timestamp=1&user_id=1"
    for params in (
        sso(api, addon, query=query).json()["params"],
        form_of(browser_of("dev@example.com").get(page_of(addon) + query))[1],
    ):
        assert params["action"] == "rotate"
        assert params["resource_id"] == str(addon.id)
        assert params["email"] == "dev@example.com"
        assert params["timestamp"] != "1"


def test_a_link_with_too_much_is_cut(addon: Addon, api: Api) -> None:
    query = "?long=" + "x" * 2_001 + "".join(f"&p{number}=1" for number in range(30))
    params = sso(api, addon, query=query).json()["params"]
    assert "long" not in params
    assert [name for name in params if name.startswith("p")] == [f"p{n}" for n in range(20)]


def test_from_an_app_that_it_is_attached_to_that_app_is_the_context(
    addon: Addon, api: Api, blog: App
) -> None:
    assert api.attach(addon.name, "blog", "SEARCH").status_code == 201
    params = sso(api, addon, "blog").json()["params"]
    assert (params["app"], params["context_app"]) == ("shop", "blog")
    (row,) = api.get("/apps/blog/addon-attachments").json()
    path = row["web_url"].removeprefix("http://localhost:5000")
    assert path == f"{page_of(addon)}?context_app=blog"
    browser = browser_of("dev@example.com")
    assert form_of(browser.get(path))[1]["context_app"] == "blog"
    elsewhere = form_of(browser.get(f"{page_of(addon)}?context_app=nosuch"))[1]
    assert elsewhere["context_app"] == "shop"


def test_the_login_leads_back_with_the_context(addon: Addon) -> None:
    answer = Client().get(f"{page_of(addon)}?context_app=blog")
    assert answer["Location"].endswith(f"{addon.id}%3Fcontext_app%3Dblog")


def test_a_stranger_gets_no_form(addon: Addon, stranger: Api) -> None:
    assert sso(stranger, addon).status_code == 404
    assert browser_of("stranger@example.com").get(page_of(addon)).status_code == 404


def test_a_collaborator_may_open_it_while_being_one(addon: Addon, shop: App, stranger: Api) -> None:
    access = Collaborator.objects.create(
        app=shop, account=Account.objects.get(email="stranger@example.com")
    )
    assert sso(stranger, addon).json()["params"]["email"] == "stranger@example.com"
    access.delete()
    assert sso(stranger, addon).status_code == 404


def test_who_may_only_look_is_told_so_and_sees_what_it_is(
    addon: Addon, shop: App, account: Account, stranger: Api
) -> None:
    looker = Account.objects.get(email="stranger@example.com")
    Collaborator.objects.create(app=shop, account=looker, permissions=["view"])
    assert sso(stranger, addon).status_code == 403
    page = browser_of("stranger@example.com").get(page_of(addon))
    assert page.status_code == 200
    assert "Only who may deploy to shop" in page.content.decode()
    assert "token" not in page.content.decode().replace("csrfmiddlewaretoken", "")


def test_of_an_app_that_only_has_it_attached_nobody_may_open_it(
    addon: Addon, api: Api, blog: App, stranger: Api
) -> None:
    api.attach(addon.name, "blog", "SEARCH")
    account = Account.objects.get(email="stranger@example.com")
    Collaborator.objects.create(app=blog, account=account)
    assert sso(stranger, addon, "blog").status_code == 403
    page = browser_of("stranger@example.com").get(page_of(addon)).content.decode()
    assert "Only who may deploy to shop" in page


@pytest.mark.parametrize("state", [State.PROVISIONING, State.DEPROVISIONING])
def test_one_that_is_not_provisioned_cannot_be_opened_yet(
    addon: Addon, api: Api, state: State
) -> None:
    Addon.objects.update(state=state)
    assert sso(api, addon).json()["method"] == "get"
    page = browser_of("dev@example.com").get(page_of(addon)).content.decode()
    assert "when it is provisioned" in page


def test_a_service_without_a_salt_cannot_be_opened(addon: Addon, api: Api) -> None:
    service = AddonService.objects.get()
    service.sso_salt = ""
    service.save()
    page = f"http://localhost:5000{page_of(addon)}"
    assert sso(api, addon).json() == {"method": "get", "action": page, "params": {}}


def test_the_own_manifest_leads_browsers_to_the_public_url(settings: Settings) -> None:
    from addon.provider.manifest import own_manifest

    settings.PROVIDER_URL = "http://10.0.0.1:5000"
    settings.PUBLIC_URL = "https://annex.example.com"
    manifest = own_manifest()
    assert manifest.sso_url == "https://annex.example.com/heroku/sso"
    assert manifest.sso_salt == settings.SSO_SALT
    settings.SSO_SALT = ""
    assert (own_manifest().sso_url, own_manifest().sso_salt) == (None, None)
