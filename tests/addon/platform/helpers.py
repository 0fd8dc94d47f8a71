"""What tests of the Platform API have in common, besides the fixtures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.test import Client
from django.utils import timezone

from addon.manifest import parse_manifest
from addon.platform import partner_tokens
from addon.platform.addon_services import register
from addon.platform.authorizations import create_authorization
from addon.platform.heroku_apps import NewApp, create_app
from addon.platform.models import Account, Addon, AddonService, App
from billing.models import Plan, Price
from tests.addon.platform.bad_provider import BadProvider, running_bad_provider

ACCEPT = "application/vnd.heroku+json; version=3.sdk"


@dataclass(frozen=True, kw_only=True)
class Api:
    """The Platform API as one account calls it."""

    token: str

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        return _client().generic(
            method,
            path,
            b"" if body is None else json.dumps(body).encode(),
            content_type="application/json",
            headers={"Accept": ACCEPT, "Authorization": f"Bearer {self.token}", **headers},
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: object) -> Any:
        return self.call("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        return self.call("PATCH", path, body)

    def delete(self, path: str, body: object = None) -> Any:
        return self.call("DELETE", path, body)

    def config(self, app: str) -> dict[str, str]:
        config: dict[str, str] = self.get(f"/apps/{app}/config-vars").json()
        return config

    def releases(self, app: str) -> list[str]:
        """What each release did, from the first on."""
        return [row["description"] for row in self.get(f"/apps/{app}/releases").json()]

    def add(self, app: str, alias: str | None = None, plan: str = "heroku-inference", **more: Any
    ) -> Any:  # fmt: skip
        attachment = {} if alias is None else {"name": alias}
        return self.post(
            f"/apps/{app}/addons", {"plan": {"name": plan}, "attachment": attachment, **more}
        )

    def attach(self, addon: str, app: str, alias: str | None = None, **more: Any) -> Any:
        body = {"addon": {"name": addon}, "app": {"name": app}, "name": alias, **more}
        return self.post("/addon-attachments", body)


@cache
def _client() -> Client:
    """One for all: each builds the middleware anew, which looks for static files."""
    return Client()


def api_of(account: Account) -> Api:
    return Api(token=create_authorization(account, "tests").token)


def new_app(account: Account, name: str, region: str = "us") -> App:
    wanted = NewApp(name=name, region=region, stack="heroku-24")
    return create_app(account, wanted, timezone.now())


def fast_db_answer(message: str) -> dict[str, object]:
    return {"id": "fd-1", "config": {"FAST_DB_URL": "db://first"}, "message": message}


def register_bad(
    provider: BadProvider,
    *,
    requires: tuple[str, ...] = ("attachable", "many_per_app"),
    attachment_credentials: bool = True,
) -> AddonService:
    """What fast-db's manifest says; to be called again to change it."""
    manifest = {
        "id": "fast-db",
        "name": "Fast DB",
        "api": {
            "version": "3",
            "password": "partner-password",
            "regions": ["us"],
            "requires": list(requires),
            "config_vars": ["FAST_DB_URL"],
            "production": {"base_url": provider.url},
            "annex": {"attachment_credentials": attachment_credentials},
        },
    }
    return register(parse_manifest(manifest))


@contextmanager
def selling_bad_provider() -> Iterator[BadProvider]:
    """One that runs, does everything right until told otherwise, and is in the catalogue."""
    with running_bad_provider() as provider:
        register_bad(provider)
        plan = Plan.objects.create(
            service_name="fast-db", slug="tiny", human_name="Tiny", is_default=True,
            requests_per_minute=1, tokens_per_minute=1,
        )  # fmt: skip
        since = datetime(2026, 1, 1, tzinfo=UTC)
        Price.objects.create(plan=plan, version=1, active_from=since, monthly_microunits=5_000_000)
        provider.will("POST", 201, fast_db_answer("up"))
        provider.will("PUT", 200, {"config": {"FAST_DB_URL": "db://second"}})
        provider.will("DELETE", 204)
        yield provider


def only_addon() -> Addon:
    return Addon.objects.select_related("app", "service", "plan").get()


def partner_api(bad_provider: BadProvider) -> Api:
    """The Platform API as fast-db calls it about the add-on that it was asked for last."""
    grants = [call.body["oauth_grant"] for call in bad_provider.calls if call.method == "POST"]
    secret = AddonService.objects.get(name="fast-db").oauth_client_secret
    tokens = partner_tokens.exchange(grants[-1]["code"], secret, timezone.now())
    return Api(token=tokens.access_token)


def config_body(**values: str | None) -> dict[str, object]:
    return {"config": [{"name": name, "value": value} for name, value in values.items()]}
