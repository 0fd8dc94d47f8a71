"""A tour of the Platform API: every route once, as clients call it, and what was answered."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.test import Client
from django.utils import timezone

from addon.platform.accounts import create_account
from addon.platform.models import Account, AddonService, Team
from addon.platform.notifications import notify
from billing.bulk import record_many
from billing.metering import Usage
from billing.models import Plan
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, api_of, fast_db_answer
from tests.billing.invoicing import Month, invoiced_month

SERVICE = "heroku-inference"
INCLUSION = {"Accept-Inclusion": "addon:plan,config_vars"}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    method: str
    path: str
    sent: object
    answer: Any


@dataclass(kw_only=True)
class Tour:
    """What was called so far is in `exchanges`."""

    api: Api
    account: Account
    bad_provider: BadProvider
    new_usage: Callable[..., Usage]
    exchanges: list[Exchange] = field(default_factory=list)

    def call(self, method: str, path: str, sent: object = None, **headers: str) -> Any:
        answer = self.api.call(method, path, sent, **headers)
        self.exchanges.append(Exchange(method=method, path=path, sent=sent, answer=answer))
        is_json = answer["Content-Type"] == "application/json"
        return json.loads(answer.content) if is_json else answer

    def get(self, *paths: str, **headers: str) -> Any:
        answers = [self.call("GET", path, **headers) for path in paths]
        return answers[-1]

    def take(self) -> None:
        self.see_what_is_public()
        self.use_an_account()
        self.use_apps()
        self.use_addons()
        self.use_webhooks()
        self.use_a_team()
        self.read_invoices("/account", self.account)
        self.set_a_budget("/account")
        self.call_back()
        self.leave()

    def see_what_is_public(self) -> None:
        self.get("/schema", "/openapi/platform.json", "/regions", "/invoice-signing-key")
        page = Client().get("/openapi/platform")
        path = "/openapi/platform"
        self.exchanges.append(Exchange(method="GET", path=path, sent=None, answer=page))
        self.get("/addon-services", f"/addon-services/{SERVICE}")
        plans = self.get(f"/addon-services/{SERVICE}/plans")
        self.get(f"/addon-services/{SERVICE}/plans/{plans[0]['id']}")

    def use_an_account(self) -> None:
        self.get("/account", "/users/~", "/account/rate-limits")
        self.call("PATCH", "/account", {"name": "Dev"})
        self.call("PATCH", "/users/~", {"name": "Dev"})
        made = self.call("POST", "/oauth/authorizations", {"scope": ["read"], "description": "ci"})
        path = f"/oauth/authorizations/{made['id']}"
        self.get("/oauth/authorizations", path)
        self.call("PATCH", path, {"description": "cd"})
        self.call("POST", f"{path}/actions/regenerate-tokens")
        self.call("DELETE", path)
        self.call("POST", "/oauth/authorizations", {"description": "ci", "expires_in": "3600"})
        self.call("DELETE", "/oauth/sessions/~")
        notify(self.account, None, "Title", "Text", timezone.now())
        told = self.get("/user/notifications")
        self.call("PATCH", f"/user/notifications/{told[0]['id']}", {"read": True})

    def use_apps(self) -> None:
        self.call("POST", "/apps", {"name": "store"})
        self.call("POST", "/apps", {"name": "blog", "region": "us", "stack": "heroku-24"})
        self.call("PATCH", "/apps/store", {"name": "shop"})
        self.get("/apps", "/users/~/apps", "/apps/shop", "/apps/shop/dynos")
        self.get("/apps/shop/buildpack-installations", "/apps/shop/pipeline-couplings")
        self.get("/apps/nosuch")
        self.call("PATCH", "/apps/shop/config-vars", {"COLOUR": "red", "SIZE": "9"})
        self.call("PATCH", "/apps/shop/config-vars", {"COLOUR": "blue", "SIZE": None})
        self.get("/apps/shop/config-vars", "/apps/shop/releases/1")
        releases = self.get("/apps/shop/releases")
        self.get(f"/apps/shop/releases/{releases[1]['version']}/config-vars")
        self.call("POST", "/apps/shop/releases", {"release": releases[1]["id"]})
        create_account("friend@example.com")
        user = {"email": "friend@example.com"}
        friend = self.call("POST", "/apps/shop/collaborators", {"user": user})
        path = f"/apps/shop/collaborators/{friend['id']}"
        self.get("/apps/shop/collaborators", path)
        self.call("DELETE", path)

    def use_addons(self) -> None:
        body = {
            "attachment": {"name": "EMBEDDING"}, "config": {"fast": True, "db-version": "1.2.3"},
            "confirm": "shop", "name": "my-embedder", "plan": {"name": SERVICE},
        }  # fmt: skip
        addon = self.call("POST", "/apps/shop/addons", body)
        path = f"/apps/shop/addons/{addon['id']}"
        self.call("PATCH", path, {"name": "our-embedder"})
        self.call("PATCH", path, {"plan": {"name": f"{SERVICE}:cohere-embed-v4"}})
        self.get("/addons", "/apps/shop/addons", "/addons/our-embedder", path, f"{path}/sso")
        self.call("POST", "/addons/our-embedder/actions/rotate-credentials", {"overlap_s": 60})
        self.get("/addons/our-embedder/config", "/addons/our-embedder/config/credential:none")
        self.get("/apps/shop/usage")
        body = {"addon": {"name": "our-embedder"}, "app": {"name": "blog"}, "name": "SHARED"}
        attachment = self.call("POST", "/addon-attachments", body)
        of_the_app = "/apps/blog/addon-attachments"
        self.get("/addon-attachments", of_the_app, "/addons/our-embedder/addon-attachments")
        self.get(f"/addon-attachments/{attachment['id']}", f"{of_the_app}/SHARED")
        self.get(of_the_app, **INCLUSION)
        self.call("POST", "/actions/addons/resolve", {"addon": "our-embedder", "app": None})
        body = {"addon_attachment": "blog::SHARED", "app": None}
        self.call("POST", "/actions/addon-attachments/resolve", body, **INCLUSION)
        self.call("DELETE", f"/addon-attachments/{attachment['id']}")

    def use_webhooks(self) -> None:
        include, url = ["api:release", "api:app"], "https://hooks.example.com/annex"
        body = {"include": include, "level": "sync", "url": url}
        webhook = self.call("POST", "/apps/shop/webhooks", body)
        path = f"/apps/shop/webhooks/{webhook['id']}"
        self.get("/apps/shop/webhooks", path)
        self.call("PATCH", path, {"level": "notify"})
        self.call("PATCH", "/apps/shop/config-vars", {"COLOUR": "green"})
        events = self.get("/apps/shop/webhook-events")
        self.get(f"/apps/shop/webhook-events/{events[0]['id']}")
        deliveries = self.get("/apps/shop/webhook-deliveries")
        self.get(f"/apps/shop/webhook-deliveries/{deliveries[0]['id']}")
        self.call("DELETE", path)

    def use_a_team(self) -> None:
        self.call("POST", "/teams", {"name": "before"})
        self.call("PATCH", "/teams/before", {"name": "crew"})
        self.get("/teams", "/teams/crew", "/teams/permissions", "/teams/crew/features")
        member = {"email": "friend@example.com", "role": "viewer"}
        self.call("POST", "/teams/crew/members", member)
        self.call("PUT", "/teams/crew/members", member)
        self.call("PATCH", "/teams/crew/members", {**member, "role": "member"})
        members = self.get("/teams/crew/members")
        self.see_it_as_a_viewer(member)
        self.use_a_teams_app()
        team = Team.objects.get()
        self.read_invoices("/teams/crew", team.account)
        self.set_a_budget("/teams/crew")
        friend = next(row for row in members if row["email"] == member["email"])
        self.call("DELETE", f"/teams/crew/members/{friend['id']}")

    def see_it_as_a_viewer(self, member: dict[str, str]) -> None:
        self.call("PATCH", "/teams/crew/members", member)
        path = "/teams/crew"
        viewer = api_of(Account.objects.get(email=member["email"]))
        answer = viewer.get(path)
        self.exchanges.append(Exchange(method="GET", path=path, sent=None, answer=answer))

    def use_a_teams_app(self) -> None:
        self.call("POST", "/teams/apps", {"name": "ship", "team": "crew"})
        body = {"user": {"email": "friend@example.com"}, "permissions": ["view"]}
        friend = self.call("POST", "/teams/apps/ship/collaborators", body)
        path = f"/teams/apps/ship/collaborators/{friend['id']}"
        self.get("/teams/apps/ship", "/teams/crew/apps", "/teams/apps/ship/collaborators", path)
        self.call("PATCH", path, {"permissions": ["view", "deploy"]})
        self.call("DELETE", path)
        self.call("POST", "/apps/ship/addons", {"plan": SERVICE})
        self.get("/teams/crew/addons", "/teams/crew/usage", "/teams/crew/apps/ship/usage")

    def read_invoices(self, prefix: str, payer: Account) -> None:
        for slug in ("full", "reserved"):  # an earlier payer's plans make way
            Plan.objects.filter(slug=slug).update(slug=f"{slug}-before")
        month = self.invoiced(payer)
        number = month.invoice.number
        self.get(f"{prefix}/invoices")
        path = f"{prefix}/invoices/{number}"
        self.get(path, f"{path}.csv", f"{path}.pdf", f"{path}/export", f"{path}/lines")
        self.get(f"{path}/lines/3/events", f"{path}/lines/3/events.csv")

    def invoiced(self, payer: Account) -> Month:
        """October is final, November a draft."""
        month = invoiced_month(self.new_usage, payer.id)
        later = self.new_usage(
            customer_id=payer.id, resource_id=month.resource_id,
            price_id=month.usages[0].price_id, model_id=month.usages[0].model_id,
        )  # fmt: skip
        record_many([later], stored_at=datetime(2026, 11, 3, tzinfo=UTC))
        return month

    def set_a_budget(self, prefix: str) -> None:
        body = {"scope": "account", "limit_microunits": 5_000_000, "is_hard": True}
        made = self.call("POST", f"{prefix}/budgets", body)
        path = f"{prefix}/budgets/{made['id']}"
        self.get(f"{prefix}/budgets", path)
        self.call("PATCH", path, {"email": "ops@example.com"})
        self.call("DELETE", path)

    def call_back(self) -> None:
        """As the provider of an add-on that is made in the background."""
        self.bad_provider.will("POST", 202, {"id": "fd-2"})
        addon = self.call("POST", "/apps/shop/addons", {"plan": "fast-db", "name": "our-db"})
        service = AddonService.objects.get(name="fast-db")
        password = b64encode(f"{service.name}:{service.password}".encode()).decode()
        basic = {"Authorization": f"Basic {password}"}
        grant = self.get(f"/vendor/resources/{addon['id']}/oauth-grant", **basic)
        form = {
            "grant_type": "authorization_code", "code": grant["code"],
            "client_secret": service.oauth_client_secret,
        }  # fmt: skip
        tokens = self.call("POST", "/oauth/token", form)
        partner = {"Authorization": f"Bearer {tokens['access_token']}"}
        path, config = f"/addons/{addon['id']}", {"config": [{"name": "FAST_DB_URL", "value": "x"}]}
        self.call("PATCH", f"{path}/config", config, **partner)
        self.call("POST", f"{path}/actions/provision", **partner)
        attachment = self.get(f"{path}/addon-attachments", **partner)[0]
        self.call("PATCH", f"/addon-attachments/{attachment['id']}/config", config, **partner)
        self.use_webhooks_of_an_addon(path, partner)
        self.call("POST", f"{path}/actions/deprovision", **partner)
        self.bad_provider.will("POST", 201, fast_db_answer("up"))

    def use_webhooks_of_an_addon(self, addon: str, partner: dict[str, str]) -> None:
        url = "https://hooks.example.com/partner"
        body = {"include": ["api:addon"], "level": "sync", "url": url}
        webhook = self.call("POST", f"{addon}/webhooks", body, **partner)
        path = f"{addon}/webhooks/{webhook['id']}"
        self.get(f"{addon}/webhooks", path, **partner)
        self.call("PATCH", path, {"level": "notify"}, **partner)
        self.call("PATCH", "/apps/shop/addons/our-db", {"name": "their-db"})
        event = self.get(f"{addon}/webhook-events", **partner)[0]
        delivery = self.get(f"{addon}/webhook-deliveries", **partner)[0]
        self.get(f"{addon}/webhook-events/{event['id']}", **partner)
        self.get(f"{addon}/webhook-deliveries/{delivery['id']}", **partner)
        self.call("DELETE", path, **partner)

    def leave(self) -> None:
        self.call("DELETE", "/apps/shop/addons/our-embedder", {"force": False})
        self.call("POST", "/apps/shop/addons", {"plan": "fast-db", "name": "my-db"})
        self.bad_provider.will("DELETE", 503)
        self.call("DELETE", "/apps/shop/addons/my-db")  # goes on in the background
        self.call("DELETE", "/apps/shop")
        self.call("POST", "/teams", {"name": "empty"})
        self.call("DELETE", "/teams/empty")
