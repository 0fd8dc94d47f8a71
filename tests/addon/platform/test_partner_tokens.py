"""Grants and the tokens they are exchanged for: whose they are, how long, and for what."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from addon.platform.accounts import create_account
from addon.platform.models import (
    Account,
    Addon,
    AddonService,
    PartnerGrant,
    PartnerToken,
)
from addon.platform.partner_tokens import CODE_LASTS, TOKENS_MAX, issue_grant
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, new_app, only_addon, partner_api, selling_bad_provider

pytestmark = pytest.mark.usefixtures("shop")


@pytest.fixture
def bad_provider(db: None) -> Iterator[BadProvider]:
    """In one transaction, for nobody but the test asks the database; that is quicker."""
    with selling_bad_provider() as provider:
        yield provider


@pytest.fixture
def grant(api: Api, bad_provider: BadProvider) -> dict[str, str]:
    """Of the add-on my-db, which its provider makes in the background."""
    bad_provider.will("POST", 202, {"id": "fd-1"})
    api.add("shop", "DB", plan="fast-db", name="my-db")
    sent: dict[str, str] = bad_provider.calls[0].body["oauth_grant"]
    return sent


def secret() -> str:
    return AddonService.objects.get(name="fast-db").oauth_client_secret


def exchange(a_code: str, **changes: str) -> Any:
    form = {
        "grant_type": "authorization_code",
        "code": a_code,
        "client_secret": secret(),
        **changes,
    }
    return Client().post("/oauth/token", form, content_type="application/json")


def refresh(token: str, **changes: str) -> Any:
    return exchange("", grant_type="refresh_token", refresh_token=token, **changes)


def as_service(path: str, word: str = "partner-password", user: str = "fast-db") -> Any:
    basic = base64.b64encode(f"{user}:{word}".encode()).decode()
    return Client().get(path, headers={"Authorization": f"Basic {basic}"})


class TestGrants:
    def test_come_with_a_provision_request(self, grant: dict[str, str]) -> None:
        assert set(grant) == {"code", "expires_at", "type"}
        assert grant["type"] == "authorization_code"
        row = PartnerGrant.objects.get()
        assert row.expires_at - row.created_at == timedelta(minutes=5)
        assert grant["expires_at"] == row.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def test_are_not_given_to_a_service_that_could_not_exchange_one(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        AddonService.objects.update(oauth_client_secret="")
        api.add("shop", "DB", plan="fast-db")
        assert bad_provider.calls[0].body["oauth_grant"] is None

    def test_are_exchanged_once(self, grant: dict[str, str]) -> None:
        answer = exchange(grant["code"])
        assert answer.status_code == 200
        tokens = answer.json()
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 28_800)
        assert tokens["access_token"] != tokens["refresh_token"]
        assert answer["Cache-Control"] == "no-store"
        again = exchange(grant["code"])
        assert (again.status_code, again.json()["id"]) == (400, "invalid_grant")
        assert Api(token=tokens["access_token"]).get("/addons/my-db").status_code == 200

    def test_are_exchanged_by_a_form_and_by_the_query_too(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        for encoded_as in ("form", "query"):
            api.add("shop", plan="fast-db")
            parameters = urlencode({
                "grant_type": "authorization_code", "client_secret": secret(),
                "code": bad_provider.calls[-1].body["oauth_grant"]["code"],
            })  # fmt: skip
            if encoded_as == "form":
                answer = Client().post(
                    "/oauth/token", parameters, content_type="application/x-www-form-urlencoded"
                )
            else:
                answer = Client().generic("POST", f"/oauth/token?{parameters}")
            assert answer.status_code == 200, answer.content

    def test_expire_after_five_minutes(self, grant: dict[str, str]) -> None:
        PartnerGrant.objects.update(expires_at=timezone.now())
        assert exchange(grant["code"]).status_code == 400

    @pytest.mark.parametrize(
        ("changes", "status", "id"),
        [
            ({"client_secret": "wrong"}, 401, "invalid_client"),
            ({"code": "wrong"}, 400, "invalid_grant"),
            ({"code": ""}, 422, "invalid_params"),
            ({"client_secret": ""}, 422, "invalid_params"),
            ({"grant_type": "password"}, 422, "invalid_params"),
            ({"grant_type": "refresh_token", "refresh_token": "wrong"}, 400, "invalid_grant"),
        ],
    )
    def test_are_not_exchanged_with_something_wrong(
        self,
        grant: dict[str, str],
        changes: dict[str, str],
        status: int,
        id: str,  # noqa: A002
    ) -> None:
        answer = exchange(grant["code"], **changes)
        assert (answer.status_code, answer.json()["id"]) == (status, id)
        assert not PartnerToken.objects.exists()
        assert exchange(grant["code"]).status_code == 200

    def test_are_not_exchanged_by_another_service(self, grant: dict[str, str]) -> None:
        other = AddonService.objects.create(
            name="other", base_url="http://x", password="p", oauth_client_secret="s" * 40
        )
        answer = exchange(grant["code"], client_secret=other.oauth_client_secret)
        assert answer.status_code == 401

    def test_leave_no_secret_in_the_database(self, grant: dict[str, str]) -> None:
        tokens = exchange(grant["code"]).json()
        rows = str([*PartnerGrant.objects.values(), *PartnerToken.objects.values()])
        for known in (grant["code"], tokens["access_token"], tokens["refresh_token"]):
            assert known not in rows

    def test_can_be_had_again_by_the_service(self, grant: dict[str, str]) -> None:
        path = f"/vendor/resources/{only_addon().id}/oauth-grant"
        lost = exchange(grant["code"]).json()
        code = as_service(path).json()["code"]
        tokens = exchange(code).json()
        assert Api(token=tokens["access_token"]).get("/addons").status_code == 200
        # Whoever asks anew has lost those before.
        assert Api(token=lost["access_token"]).get("/addons").status_code == 401
        assert refresh(lost["refresh_token"]).status_code == 400

    def test_can_be_had_again_by_nobody_else(self, api: Api, grant: dict[str, str]) -> None:
        AddonService.objects.create(name="other", base_url="http://x", password="other-password")
        AddonService.objects.create(name="empty", base_url="http://x", password="")
        path = f"/vendor/resources/{only_addon().id}/oauth-grant"
        assert as_service(path, "wrong").status_code == 401
        assert as_service(path, "", "empty").status_code == 401
        assert as_service(path, "", "nobody").status_code == 401
        assert as_service(path, "x", "no\0body").status_code == 401
        assert as_service(path, "other-password", "other").status_code == 404
        assert api.get(path).status_code == 401
        assert as_service(f"/vendor/resources/{uuid4()}/oauth-grant").status_code == 404
        assert as_service("/vendor/resources/my-db/oauth-grant").status_code == 404

    def test_end_with_the_addon(self, api: Api, grant: dict[str, str]) -> None:
        addon = only_addon()
        api.delete("/apps/shop/addons/my-db")
        assert exchange(grant["code"]).status_code == 410
        assert as_service(f"/vendor/resources/{addon.id}/oauth-grant").status_code == 410


class TestTokens:
    @pytest.fixture
    def tokens(self, grant: dict[str, str]) -> Any:
        return exchange(grant["code"]).json()

    def test_last_eight_hours(self, tokens: Any) -> None:
        partner = Api(token=tokens["access_token"])
        row = PartnerToken.objects.get()
        assert row.expires_at - row.created_at == timedelta(hours=8)
        PartnerToken.objects.update(expires_at=timezone.now())
        assert partner.get("/addons/my-db").status_code == 401

    def test_are_refreshed_for_as_long_as_the_addon_lives(self, api: Api, tokens: Any) -> None:
        for _ in range(TOKENS_MAX + 3):
            fresh = refresh(tokens["refresh_token"]).json()
            assert fresh["refresh_token"] == tokens["refresh_token"]
        assert PartnerToken.objects.count() == TOKENS_MAX
        assert Api(token=fresh["access_token"]).get("/addons/my-db").status_code == 200
        assert refresh(tokens["refresh_token"], client_secret="wrong").status_code == 401
        api.delete("/apps/shop/addons/my-db")
        assert refresh(tokens["refresh_token"]).status_code == 410

    def test_end_with_the_addon(self, api: Api, tokens: Any) -> None:
        partner = Api(token=tokens["access_token"])
        api.delete("/apps/shop/addons/my-db")
        for path in ("/addons", "/addons/my-db", "/apps", "/apps/shop"):
            assert partner.get(path).status_code == 410

    def test_show_their_addon_and_the_apps_that_it_is_on(
        self, api: Api, account: Account, bad_provider: BadProvider
    ) -> None:
        new_app(account, "blog")
        new_app(account, "secret-app")
        api.add("shop", "OTHER", plan="fast-db", name="other-db")
        api.add("shop", "DB", plan="fast-db", name="my-db")
        partner = partner_api(bad_provider)
        api.attach("my-db", "blog", "SHARED")
        addon = partner.get("/addons/my-db").json()
        assert addon["id"] == str(Addon.objects.get(name="my-db").id)
        assert addon["config_vars"] == ["DB_URL"]
        for path in ("/addons", "/apps/shop/addons", "/apps/blog/addons"):
            assert [row["name"] for row in partner.get(path).json()] == ["my-db"], path
        assert [row["name"] for row in partner.get("/apps").json()] == ["blog", "shop"]
        assert partner.get("/apps/blog").json()["name"] == "blog"
        attached = {"DB", "SHARED"}
        for path in ("/addon-attachments", "/addons/my-db/addon-attachments"):
            assert {row["name"] for row in partner.get(path).json()} == attached, path
        rows = partner.get("/apps/shop/addon-attachments").json()
        assert [row["name"] for row in rows] == ["DB"]
        assert partner.get(f"/addon-attachments/{rows[0]['id']}").status_code == 200
        assert partner.get("/apps/shop/addon-attachments/DB").status_code == 200
        config = [{"name": "FAST_DB_URL", "value": "db://first"}]
        assert partner.get("/addons/my-db/config").json() == config
        assert partner.get("/addons/my-db/config/credential:x").json() == []
        assert [row["name"] for row in partner.get("/users/~/apps").json()] == ["blog", "shop"]
        assert partner.get("/apps/shop/pipeline-couplings").json()["id"] == "not_found"

    def test_show_who_works_on_those_apps(self, api: Api, bad_provider: BadProvider) -> None:
        api.post("/teams", {"name": "crew"})
        api.post("/teams", {"name": "other-crew"})
        api.post("/teams/apps", {"name": "ship", "team": "crew"})
        for app in ("shop", "ship"):
            create_account(f"friend-of-{app}@example.com")
            api.post(f"/apps/{app}/collaborators", {"user": f"friend-of-{app}@example.com"})
        api.add("ship", "DB", plan="fast-db", name="my-db")
        partner = partner_api(bad_provider)
        emails = [row["user"]["email"] for row in partner.get("/apps/ship/collaborators").json()]
        assert "dev@example.com" in emails
        assert "friend-of-ship@example.com" in emails
        team = api.get("/teams/crew").json()
        for identity in (team["id"], "crew"):
            (member,) = partner.get(f"/teams/{identity}/members").json()
            assert (member["email"], member["role"]) == ("dev@example.com", "admin")
        for path in ("/apps/shop/collaborators", "/teams/other-crew/members", "/teams/x/members"):
            assert partner.get(path).status_code == 404, path
        body = {"email": "friend-of-shop@example.com", "role": "member"}
        assert partner.post("/teams/crew/members", body).status_code == 403
        assert partner.post("/apps/ship/collaborators", {"user": "x"}).status_code == 403

    def test_show_nothing_else(self, api: Api, account: Account, bad_provider: BadProvider) -> None:
        new_app(account, "secret-app")
        api.add("shop", "OTHER", plan="fast-db", name="other-db")
        api.add("shop", "DB", plan="fast-db", name="my-db")
        partner = partner_api(bad_provider)
        other = api.get("/apps/shop/addon-attachments/OTHER").json()["id"]
        for path in (
            "/addons/other-db", "/addons/other-db/config", "/addons/other-db/addon-attachments",
            "/apps/secret-app", "/apps/secret-app/addons", f"/addon-attachments/{other}",
            "/apps/shop/addon-attachments/OTHER", f"/addons/{uuid4()}",
        ):  # fmt: skip
            assert partner.get(path).status_code == 404, path
        for path in (
            "/account", "/apps/shop/config-vars", "/apps/shop/releases", "/apps/shop/webhooks",
            "/oauth/authorizations", "/teams", "/account/invoices", "/apps/shop/addons/my-db",
        ):  # fmt: skip
            assert partner.get(path).status_code == 403, path

    def test_change_nothing_else(
        self, api: Api, account: Account, bad_provider: BadProvider
    ) -> None:
        api.add("shop", "OTHER", plan="fast-db", name="other-db")
        api.add("shop", "DB", plan="fast-db", name="my-db")
        partner = partner_api(bad_provider)
        other = api.get("/apps/shop/addon-attachments/OTHER").json()["id"]
        body = {"config": [{"name": "FAST_DB_URL", "value": "x"}]}
        for method, path in (
            ("PATCH", "/addons/other-db/config"), ("POST", "/addons/other-db/actions/provision"),
            ("POST", "/addons/other-db/actions/deprovision"),
            ("PATCH", f"/addon-attachments/{other}/config"),
        ):  # fmt: skip
            assert partner.call(method, path, body).status_code == 404, path
        for method, path in (
            ("PATCH", "/apps/shop/config-vars"), ("DELETE", "/apps/shop"), ("POST", "/apps"),
            ("DELETE", "/apps/shop/addons/my-db"), ("POST", "/oauth/authorizations"),
            ("POST", "/addon-attachments"), ("DELETE", f"/addon-attachments/{other}"),
            ("POST", "/apps/shop/addons"), ("POST", "/actions/addons/resolve"),
        ):  # fmt: skip
            assert partner.call(method, path, {}).status_code == 403, path
        assert api.config("shop") == {"DB_URL": "db://first", "OTHER_URL": "db://first"}


def test_codes_that_no_attempt_exchanged_do_not_pile_up(grant: dict[str, str]) -> None:
    addon = only_addon()
    for addon.attempts in (2, 3, 4):
        issue_grant(addon, timezone.now() + addon.attempts * CODE_LASTS)
    assert PartnerGrant.objects.count() == 1
