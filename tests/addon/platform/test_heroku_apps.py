import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from addon.platform import names
from addon.platform.heroku_apps import lock_app
from addon.platform.models import (
    Account,
    AddonService,
    App,
    Attachment,
    Notification,
    WebhookEvent,
)
from addon.platform.notifications import notify
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, fast_db_answer, new_app
from tests.addon.rounds_in_turn import reconcile_platform as reconcile

pytestmark = pytest.mark.django_db

# What `heroku apps:info` crashes without, and what it prints.
NEEDED = {
    "acm", "archived_at", "build_stack", "buildpack_provided_description", "create_status",
    "created_at", "generation", "git_url", "id", "internal_routing", "maintenance", "name",
    "organization", "owner", "region", "released_at", "repo_size", "slug_size", "space", "stack",
    "team", "updated_at", "web_url",
}  # fmt: skip


def test_an_app_is_created_with_the_name_that_was_given(api: Api) -> None:
    answer = api.post("/apps", {"name": "shop"})
    assert answer.status_code == 201
    app = answer.json()
    assert set(app) == NEEDED
    assert app["name"] == "shop"
    assert app["web_url"] == f"{settings.PUBLIC_URL}/apps/shop"
    assert app["git_url"] == f"{settings.PUBLIC_URL}/shop.git"
    assert app["owner"]["email"] == "dev@example.com"
    assert app["region"]["name"] == "us"
    assert app["stack"] == app["build_stack"]
    assert app["stack"]["name"] == "heroku-24"
    assert app["create_status"] == "complete"


def test_an_app_starts_with_a_first_release(api: Api) -> None:
    api.post("/apps", {"name": "shop"})
    (release,) = api.get("/apps/shop/releases").json()
    assert (release["version"], release["description"]) == (1, "Initial release")
    assert release["current"] is True


def test_a_name_is_made_up_when_none_is_given(api: Api) -> None:
    for body in ({}, {"name": None}, None):
        name = api.call("POST", "/apps", body).json()["name"]
        assert re.fullmatch(r"[a-z]+-[a-z]+-\d{5}", name)


def test_another_name_is_made_up_when_the_first_is_taken(
    api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = iter(["shop", "shop", "calm-river-12345"])
    monkeypatch.setattr(names, "app_name", lambda: next(made_up))
    assert api.post("/apps", {}).json()["name"] == "calm-river-12345"


def test_an_app_is_renamed_and_keeps_its_id_config_and_addons(
    api: Api, provider: AddonService, shop: App
) -> None:
    api.add("shop", "EMBEDDING")
    config = api.config("shop")
    answer = api.patch("/apps/shop", {"name": "store"})
    assert (answer.status_code, answer.json()["name"]) == (200, "store")
    assert api.get("/apps/store").json()["id"] == str(shop.id)
    assert api.get("/apps/shop").status_code == 404
    assert api.config("store") == config
    assert api.get("/addons").json()[0]["app"]["name"] == "store"
    assert api.post("/apps", {"name": "shop"}).status_code == 201


def test_the_provider_learns_the_new_name_from_the_reconciler(
    api: Api, bad_provider: BadProvider, shop: App
) -> None:
    api.add("shop", "DB", plan="fast-db:tiny")
    api.patch("/apps/shop", {"name": "store"})
    bad_provider.will("PUT", 503)
    reconcile(timezone.now)
    attachment = Attachment.objects.get()
    assert attachment.next_attempt_at is not None
    bad_provider.will("PUT", 200, {"config": {"FAST_DB_URL": "db://first"}})
    later = attachment.next_attempt_at + timedelta(seconds=1)
    reconcile(lambda: later)
    calls = [request for request in bad_provider.calls if request.method == "PUT"]
    assert len(calls) == 2
    for call in calls:
        assert call.path.endswith(f"/attachments/{attachment.id}")
        assert call.body == {"name": "DB", "app": "store"}
    assert Attachment.objects.get().next_attempt_at is None
    reconcile(lambda: later + timedelta(days=1))
    assert len([call for call in bad_provider.calls if call.method == "PUT"]) == 2


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("PUT", 200)])
def test_a_provider_that_was_asked_by_the_old_name_is_told_the_new_one(
    api: Api, bad_provider: BadProvider, shop: App, method: str, status: int
) -> None:
    database = {"POST": "", "PUT": "my-db"}[method]
    if database:
        api.add("shop", "DB", plan="fast-db:tiny", name=database)

    def rename() -> None:
        api.patch("/apps/shop", {"name": "store"})
        connection.close()

    answer = fast_db_answer("up") if method == "POST" else {"config": {"FAST_DB_URL": "db://2"}}
    bad_provider.will(method, status, answer, before=rename)
    ordered = api.attach(database, "shop", "NEW") if database else api.add("shop", "NEW", "fast-db")
    assert ordered.status_code == 201
    bad_provider.will("PUT", 200, {"config": {"FAST_DB_URL": "db://2"}})
    reconcile(lambda: timezone.now() + timedelta(minutes=1))
    told = [call.body["app"] for call in bad_provider.calls if call.body.get("name") == "NEW"]
    assert told[-1:] == ["store"]
    assert not Attachment.objects.exclude(next_attempt_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_refers_to_an_app_does_not_wait_for_its_lock(account: Account) -> None:
    shop = new_app(account, "shop")

    def refer() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        notify(account, shop, "Told", "", timezone.now())
        connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as threads:
        lock_app(shop.id)
        threads.submit(refer).result()
    assert Notification.objects.get().app_id == shop.id


@pytest.mark.parametrize("name", ["Shop", "s", "-shop", "shop-", "x" * 31, "blog"])
def test_an_app_cannot_have_every_new_name(api: Api, shop: App, blog: App, name: str) -> None:
    answer = api.patch("/apps/shop", {"name": name})
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert api.get("/apps/shop").status_code == 200


def test_an_app_with_a_budget_keeps_its_name(api: Api, provider: AddonService, shop: App) -> None:
    api.add("shop")
    made = api.post("/account/budgets", {"scope": "app", "scope_id": "shop", "limit_microunits": 1})
    answer = api.patch("/apps/shop", {"name": "store"})
    assert answer.status_code == 422
    assert "budget" in answer.json()["message"]
    api.delete(f"/account/budgets/{made.json()['id']}")
    assert api.patch("/apps/shop", {"name": "store"}).status_code == 200


def test_what_an_app_without_dynos_cannot_have_is_refused_by_name(api: Api, shop: App) -> None:
    for body, field in (({"maintenance": True}, "maintenance"), ({"build_stack": "x"}, "stack")):
        answer = api.patch("/apps/shop", body)
        assert answer.status_code == 422
        assert field in answer.json()["message"]
    unchanged = api.patch("/apps/shop", {"maintenance": False, "build_stack": "heroku-24"})
    assert (unchanged.status_code, unchanged.json()["name"]) == (200, "shop")


def test_region_and_stack_are_taken_as_strings_or_objects(api: Api) -> None:
    body = {"name": "shop", "region": "eu", "stack": {"name": "heroku-24"}}
    assert api.post("/apps", body).json()["region"]["name"] == "eu"
    body = {"name": "blog", "region": {"name": "eu"}, "stack": "heroku-24"}
    assert api.post("/apps", body).json()["region"]["name"] == "eu"


@pytest.mark.parametrize("name", ["a", "ab", "Shop", "1shop", "shop-", "my_shop", "a" * 31, "shöp"])
def test_a_name_that_no_host_could_have_is_refused(api: Api, name: str) -> None:
    answer = api.post("/apps", {"name": name})
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert answer.json()["message"].startswith("Name must start with a letter")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [("region", "moon", "us, eu"), ("stack", "cedar", "heroku-24"), ("name", 5, "string"),
     ("region", {"name": 5}, "string")],
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_is_allowed(
    api: Api, field: str, value: object, allowed: str
) -> None:
    answer = api.post("/apps", {"name": "shop", field: value})
    assert answer.status_code == 422
    message = answer.json()["message"]
    assert "name" in message or field in message
    assert allowed in message


def test_a_taken_name_is_refused_to_everybody(api: Api, stranger: Api, shop: App) -> None:
    for caller in (api, stranger):
        answer = caller.post("/apps", {"name": "shop"})
        assert answer.status_code == 422
        assert answer.json() == {"id": "invalid_params", "message": "Name shop is already taken"}


def test_an_app_is_found_by_name_and_by_id(api: Api, shop: App) -> None:
    by_name = api.get("/apps/shop").json()
    assert by_name["id"] == str(shop.id)
    assert api.get(f"/apps/{shop.id}").json() == by_name
    assert api.get(f"/apps/{str(shop.id).upper()}").json() == by_name


@pytest.mark.parametrize("identity", ["nosuch", str(uuid.UUID(int=1)), "%00", "a%2Fb"])
@pytest.mark.parametrize("below", ["", "/addons", "/config-vars", "/releases", "/dynos"])
def test_an_unknown_app_is_a_404(api: Api, identity: str, below: str) -> None:
    answer = api.get(f"/apps/{identity}{below}")
    assert answer.status_code == 404
    if identity != "a%2Fb":  # two segments, which no route has
        expected = {"id": "not_found", "message": "Couldn't find that app.", "resource": "app"}
        assert answer.json() == expected


@pytest.mark.parametrize(
    ("method", "below"),
    [("GET", ""), ("DELETE", ""), ("GET", "/config-vars"), ("PATCH", "/config-vars"),
     ("POST", "/addons"), ("GET", "/releases/1"), ("GET", "/collaborators"),
     ("GET", "/addon-attachments")],
)  # fmt: skip
def test_another_accounts_app_looks_like_none(
    api: Api, stranger: Api, shop: App, method: str, below: str
) -> None:
    for identity in ("shop", str(shop.id)):
        answer = stranger.call(method, f"/apps/{identity}{below}", {"plan": "x"})
        assert (answer.status_code, answer.json()["resource"]) == (404, "app")
    assert api.get("/apps/shop").status_code == 200


@pytest.mark.parametrize("path", ["/apps", "/users/~/apps"])
def test_lists_have_the_accounts_own_apps(
    api: Api, stranger: Api, account: Account, path: str
) -> None:
    new_app(account, "shop")
    new_app(account, "blog")
    stranger.post("/apps", {"name": "theirs"})
    assert [app["name"] for app in api.get(path).json()] == ["blog", "shop"]


def test_what_apps_info_asks_besides_is_answered(api: Api, shop: App) -> None:
    (owner,) = api.get("/apps/shop/collaborators").json()
    assert owner["user"]["email"] == "dev@example.com"
    assert owner["role"] == "owner"
    assert api.get("/apps/shop/dynos").json() == []
    couplings = api.get("/apps/shop/pipeline-couplings")
    assert (couplings.status_code, couplings.json()["resource"]) == (404, "pipeline_coupling")


def test_a_destroyed_app_is_gone_and_its_name_is_free(api: Api, shop: App) -> None:
    api.patch("/apps/shop/config-vars", {"SECRET": "x"})
    answer = api.delete("/apps/shop")
    assert (answer.status_code, answer.json()["name"]) == (200, "shop")
    assert api.get("/apps/shop").status_code == 404
    assert api.get(f"/apps/{shop.id}").status_code == 404
    assert api.get("/apps").json() == []
    assert api.delete("/apps/shop").status_code == 404
    assert not shop.config_vars.exists()
    again = api.post("/apps", {"name": "shop"})
    assert again.status_code == 201
    assert again.json()["id"] != str(shop.id)
    assert api.config("shop") == {}


def test_regions_are_listed(api: Api) -> None:
    regions = {region["name"]: region for region in api.get("/regions").json()}
    assert set(regions) == {"us", "eu"}
    assert regions["eu"]["provider"] == {"name": "amazon-web-services", "region": "eu-west-1"}
    assert regions["us"]["description"] == "United States"


def test_an_app_shows_when_it_was_last_released(api: Api, shop: App) -> None:
    App.objects.update(released_at=timezone.now().replace(year=2020))
    api.patch("/apps/shop/config-vars", {"A": "1"})
    assert not api.get("/apps/shop").json()["released_at"].startswith("2020")


@pytest.mark.django_db(transaction=True)
def test_what_refers_to_a_locked_app_is_written_without_waiting(shop: App) -> None:
    def write_event() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                WebhookEvent.objects.create(app=shop, payload={}, created_at=timezone.now())
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as threads:
        lock_app(shop.id)
        threads.submit(write_event).result()
    assert shop.webhook_events.count() == 1
