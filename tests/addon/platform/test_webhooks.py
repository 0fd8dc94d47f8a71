"""An app's webhooks: made, listed, changed and removed; what they hold secret is told once."""

import base64
import logging
import uuid
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from addon.platform.accounts import create_account
from addon.platform.models import Account, App, Collaborator, Webhook
from addon.platform.webhooks import INCLUDES, WEBHOOKS_MAX
from tests.addon.platform.helpers import Api, api_of

pytestmark = pytest.mark.django_db

URL = "https://hooks.example.com/annex"
BODY = {"include": ["api:addon", "api:release"], "level": "sync", "url": URL}
SECRET = "Heroku-Webhook-Secret"


def make(api: Api, **more: object) -> Any:
    answer = api.post("/apps/shop/webhooks", {**BODY, **more})
    assert answer.status_code == 201, answer.content
    return answer


def test_a_webhook_has_herokus_fields_and_a_secret_that_is_told_once(api: Api, shop: App) -> None:
    answer = make(api)
    webhook = answer.json()
    assert webhook == {
        "app": {"id": str(shop.id), "name": "shop"},
        "created_at": webhook["created_at"],
        "id": webhook["id"],
        "include": ["api:addon", "api:release"],
        "level": "sync",
        "updated_at": webhook["created_at"],
        "url": URL,
    }
    secret = answer[SECRET]
    assert len(bytes.fromhex(secret)) == 32
    path = f"/apps/shop/webhooks/{webhook['id']}"
    assert api.get("/apps/shop/webhooks").json() == [webhook]
    assert api.get(path).json() == webhook
    for later in (api.get("/apps/shop/webhooks"), api.get(path), api.patch(path, {}), make(api)):
        assert secret not in later.content.decode() + str(later.headers)


def test_secrets_are_encrypted_at_rest_and_never_logged(
    api: Api, shop: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = make(api, secret="sesame-sesame", authorization="Bearer open-up")
    assert SECRET not in answer.headers
    assert "sesame" not in answer.content.decode()
    assert "open-up" not in answer.content.decode()
    webhook = Webhook.objects.get()
    assert (webhook.secret, webhook.authorization) == ("sesame-sesame", "Bearer open-up")
    with connection.cursor() as cursor:
        cursor.execute('SELECT secret, "authorization" FROM platform_webhook')
        stored = " ".join(cursor.fetchone())
    assert "sesame" not in stored
    assert "open-up" not in stored
    assert "sesame" not in caplog.text
    assert "open-up" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/annex",
        "http://hooks.example.com/annex",
        "https://hooks.example.com:81",
    ],
)
def test_an_authorization_is_not_taken_along_to_another_host(api: Api, shop: App, url: str) -> None:
    path = f"/apps/shop/webhooks/{make(api, authorization='Bearer open-up').json()['id']}"
    answer = api.patch(path, {"url": url})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("authorization must be given again")
    assert Webhook.objects.get().url == URL
    assert api.patch(path, {"url": f"{URL}/other"}).status_code == 200
    assert api.patch(path, {"url": url, "authorization": "Bearer its-own"}).status_code == 200
    assert api.patch(path, {"url": URL, "authorization": None}).status_code == 200


def test_a_create_that_is_sent_again_makes_no_second_one_and_tells_the_secret_again(
    api: Api, shop: App
) -> None:
    request_id = str(uuid.uuid4())
    first, again = (
        api.call("POST", "/apps/shop/webhooks", BODY, **{"Request-Id": request_id})
        for _ in range(2)
    )
    assert first.json() == again.json()
    assert first[SECRET] == again[SECRET]
    assert Webhook.objects.count() == 1
    api.patch(f"/apps/shop/webhooks/{first.json()['id']}", {"secret": "another-one"})
    late = api.call("POST", "/apps/shop/webhooks", BODY, **{"Request-Id": request_id})
    assert SECRET not in late.headers


def test_a_change_gives_it_the_fields_that_are_sent(api: Api, shop: App) -> None:
    webhook = make(api, authorization="Bearer x").json()
    path = f"/apps/shop/webhooks/{webhook['id']}"
    changed = api.patch(path, {"url": f"{URL}/2", "level": "notify", "secret": "new-secret"})
    assert changed.json() | {"updated_at": ""} == webhook | {
        "url": f"{URL}/2", "level": "notify", "updated_at": "",
    }  # fmt: skip
    row = Webhook.objects.get()
    assert (row.secret, row.authorization) == ("new-secret", "Bearer x")
    assert api.patch(path, {"authorization": None, "secret": None}).status_code == 200
    row.refresh_from_db()
    assert (row.secret, row.authorization) == ("new-secret", "")


def test_one_that_is_removed_is_gone(api: Api, shop: App) -> None:
    webhook = make(api).json()
    path = f"/apps/shop/webhooks/{webhook['id']}"
    assert api.delete(path).json() == webhook
    for answer in (api.get(path), api.delete(path), api.patch(path, {})):
        assert answer.status_code == 404
        assert answer.json() == {
            "id": "not_found", "message": "Couldn't find that webhook.", "resource": "webhook",
        }  # fmt: skip
    assert api.get("/apps/shop/webhooks").json() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("include", []),
        ("include", None),
        ("include", "api:addon"),
        ("include", ["addon"]),
        ("include", ["api:addon", 1]),
        ("include", [["api:addon"]]),
        ("level", "loud"),
        ("level", None),
        ("level", ["sync"]),
        ("url", "hooks.example.com"),
        ("url", "ftp://example.com"),
        ("url", "https://u:p@example.com"),
        ("url", None),
        ("secret", ""),
        ("secret", 5),
        ("secret", "x" * 501),
        ("authorization", "Bearer x\r\nHost: y"),
        ("authorization", "Bearer ü"),
        ("authorization", "x" * 1001),
        ("authorization", {}),
    ],
)
def test_a_field_that_is_not_allowed_is_named(
    api: Api, shop: App, field: str, value: object
) -> None:
    webhook = make(api).json()
    refusals = [api.post("/apps/shop/webhooks", {**BODY, field: value})]
    refusals.append(api.patch(f"/apps/shop/webhooks/{webhook['id']}", {field: value}))
    for refusal in refusals:
        assert refusal.status_code == 422
        assert refusal.json()["id"] == "invalid_params"
        assert refusal.json()["message"].startswith(f"{field} ")
    assert api.get("/apps/shop/webhooks").json() == [webhook]


@pytest.mark.parametrize("field", ["include", "level", "url"])
def test_a_new_one_needs_what_says_where_what_and_how(api: Api, shop: App, field: str) -> None:
    body = {name: value for name, value in BODY.items() if name != field}
    assert api.post("/apps/shop/webhooks", body).json()["message"].startswith(f"{field} must ")


def test_every_kind_that_heroku_has_is_taken(api: Api, shop: App) -> None:
    assert make(api, include=[*INCLUDES, "api:addon"]).json()["include"] == list(INCLUDES)


def test_an_app_has_a_bounded_number_of_them(api: Api, shop: App) -> None:
    for _ in range(WEBHOOKS_MAX):
        make(api)
    refusal = api.post("/apps/shop/webhooks", BODY)
    assert refusal.status_code == 422
    assert f"has {WEBHOOKS_MAX} webhooks" in refusal.json()["message"]


def routes(webhook_id: str) -> list[tuple[str, str]]:
    return [
        ("GET", "/apps/shop/webhooks"),
        ("POST", "/apps/shop/webhooks"),
        ("GET", f"/apps/shop/webhooks/{webhook_id}"),
        ("PATCH", f"/apps/shop/webhooks/{webhook_id}"),
        ("DELETE", f"/apps/shop/webhooks/{webhook_id}"),
        ("GET", "/apps/shop/webhook-deliveries"),
        ("GET", f"/apps/shop/webhook-deliveries/{webhook_id}"),
        ("GET", "/apps/shop/webhook-events"),
        ("GET", f"/apps/shop/webhook-events/{webhook_id}"),
    ]


def test_a_stranger_finds_none_and_who_may_only_view_is_refused(
    api: Api, stranger: Api, shop: App
) -> None:
    webhook_id = make(api).json()["id"]
    viewer = create_account("viewer@example.com")
    Collaborator.objects.create(app=shop, account=viewer, permissions=["view"])
    for method, path in routes(webhook_id):
        assert stranger.call(method, path, BODY).status_code == 404, path
        refusal = api_of(viewer).call(method, path, BODY)
        assert (refusal.status_code, refusal.json()["id"]) == (403, "forbidden"), path
    assert Webhook.objects.count() == 1


def test_who_may_deploy_may_have_webhooks(account: Account, shop: App) -> None:
    deployer = create_account("deployer@example.com")
    Collaborator.objects.create(app=shop, account=deployer)
    make(api_of(deployer))


def test_one_of_another_app_is_not_found(api: Api, shop: App, blog: App) -> None:
    webhook_id = make(api).json()["id"]
    assert api.get(f"/apps/blog/webhooks/{webhook_id}").status_code == 404
    assert api.delete(f"/apps/blog/webhooks/{webhook_id}").status_code == 404
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize("word", ["x", "00000000-0000-0000-0000-000000000000", "%00"])
def test_what_is_no_id_of_one_is_not_found(api: Api, shop: App, word: str) -> None:
    for kind in ("webhooks", "webhook-deliveries", "webhook-events"):
        assert api.get(f"/apps/shop/{kind}/{word}").status_code == 404


def test_the_clis_basic_authorization_is_taken(api: Api, shop: App) -> None:
    basic = base64.b64encode(f":{api.token}".encode()).decode()
    answer = api.get("/apps/shop/webhooks", Authorization=f"Basic {basic}")
    assert answer.status_code == 200


def test_webhooks_of_a_destroyed_app_stay_for_its_last_events(api: Api, shop: App) -> None:
    make(api)
    App.objects.filter(id=shop.id).update(destroyed_at=timezone.now())
    assert api.get("/apps/shop/webhooks").status_code == 404
    assert Webhook.objects.count() == 1
