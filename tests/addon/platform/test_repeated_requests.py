"""A create that is sent again, as the CLI does on a broken connection, makes nothing twice."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from addon.platform.models import Addon, AddonService, App, Attachment, Authorization, Release
from billing.models import Subscription
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api

ORDER = {"plan": "heroku-inference", "attachment": {"name": "EMBEDDING"}}


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


def post(api: Api, path: str, body: object, request_id: str) -> Any:
    # The CLI puts a new id in front of those that it remembers.
    return api.call("POST", path, body, **{"Request-Id": f"{request_id},{uuid.UUID(int=7)}"})


def test_an_app_is_created_once(api: Api, request_id: str) -> None:
    first = post(api, "/apps", {"name": "shop"}, request_id)
    again = post(api, "/apps", {"name": "shop"}, request_id)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert Release.objects.count() == 1


def test_an_app_with_a_made_up_name_is_created_once(api: Api, request_id: str) -> None:
    names = {post(api, "/apps", {}, request_id).json()["name"] for _ in range(3)}
    assert len(names) == 1
    assert len(api.get("/apps").json()) == 1


def test_another_request_id_or_body_makes_another_app(api: Api, request_id: str) -> None:
    post(api, "/apps", {}, request_id)
    post(api, "/apps", {}, str(uuid.uuid4()))
    post(api, "/apps", {"region": "eu"}, request_id)
    assert App.objects.count() == 3


def test_a_name_that_is_taken_stays_taken_for_others(
    api: Api, stranger: Api, request_id: str
) -> None:
    post(api, "/apps", {"name": "shop"}, request_id)
    assert post(stranger, "/apps", {"name": "shop"}, request_id).status_code == 422


def test_a_key_is_made_once_and_its_token_replaced(api: Api, request_id: str) -> None:
    body = {"description": "ci", "scope": ["read"]}
    first, again = (post(api, "/oauth/authorizations", body, request_id) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    tokens = [answer.json()["access_token"]["token"] for answer in (first, again)]
    assert [Api(token=token).get("/apps").status_code for token in tokens] == [401, 200]
    api.delete(f"/oauth/authorizations/{first.json()['id']}")
    anew = post(api, "/oauth/authorizations", body, request_id)
    assert anew.status_code == 201
    assert anew.json()["id"] != first.json()["id"]


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_asked_for_twice_at_once_is_made_once(api: Api, request_id: str) -> None:
    start = Barrier(4)

    def create(_: int) -> int:
        start.wait(10)
        answer = post(api, "/oauth/authorizations", {"description": "ci"}, request_id)
        connection.close()
        return int(answer.status_code)

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(create, range(4))) == {201}
    assert Authorization.objects.filter(description="ci").count() == 1


def test_an_app_that_was_destroyed_meanwhile_is_created_anew(api: Api, request_id: str) -> None:
    first = post(api, "/apps", {"name": "shop"}, request_id).json()
    api.delete("/apps/shop")
    again = post(api, "/apps", {"name": "shop"}, request_id)
    assert again.status_code == 201
    assert again.json()["id"] != first["id"]


def test_an_addon_is_ordered_once(
    api: Api, provider: AddonService, shop: App, request_id: str
) -> None:
    first = post(api, "/apps/shop/addons", ORDER, request_id)
    again = post(api, "/apps/shop/addons", ORDER, request_id)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert Addon.objects.count() == Attachment.objects.count() == Subscription.objects.count() == 1
    assert api.releases("shop")[1:] == [f"Attach EMBEDDING ({first.json()['name']})"]


def test_an_order_that_was_refused_is_asked_again(
    api: Api, bad_provider: BadProvider, shop: App, request_id: str
) -> None:
    order = {"plan": "fast-db:tiny"}
    bad_provider.will("POST", 422, {"message": "Not today"})
    for _ in range(2):
        answer = post(api, "/apps/shop/addons", order, request_id)
        assert (answer.status_code, answer.json()["message"]) == (422, "Not today")
    first, second = bad_provider.calls
    assert first.body["uuid"] != second.body["uuid"]


def test_an_addon_is_attached_once(
    api: Api, provider: AddonService, shop: App, blog: App, request_id: str
) -> None:
    name = api.add("shop", "EMBEDDING").json()["name"]
    body = {"addon": {"name": name}, "app": {"name": "blog"}, "name": "SHARED"}
    first = post(api, "/addon-attachments", body, request_id)
    again = post(api, "/addon-attachments", body, request_id)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert len(api.releases("blog")) == 2


def test_an_attachment_that_was_detached_meanwhile_is_made_anew(
    api: Api, provider: AddonService, shop: App, blog: App, request_id: str
) -> None:
    name = api.add("shop", "EMBEDDING").json()["name"]
    body = {"addon": name, "app": "blog"}
    first = post(api, "/addon-attachments", body, request_id).json()
    api.delete(f"/addon-attachments/{first['id']}")
    again = post(api, "/addon-attachments", body, request_id)
    assert again.status_code == 201
    assert api.config("blog")[f"{again.json()['name']}_KEY"]


HOOK = {"include": ["api:app"], "level": "notify", "url": "https://example.com/"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/apps/shop/addons", ORDER),
        ("/apps/shop/webhooks", HOOK),
        ("/apps/shop/collaborators", {"user": "stranger@example.com"}),
        ("/teams/acme/members", {"email": "stranger@example.com", "role": "member"}),
        ("/teams/apps", {"team": "acme"}),
    ],
)
def test_what_another_has_the_name_of_since_gets_a_new_one(
    api: Api,
    stranger: Api,
    provider: AddonService,
    shop: App,
    request_id: str,
    path: str,
    body: object,
) -> None:
    api.post("/teams", {"name": "acme"})
    first = post(api, path, body, request_id)
    for kind, name in (("apps", "shop"), ("teams", "acme")):
        assert api.patch(f"/{kind}/{name}", {"name": f"old-{name}"}).status_code == 200
        assert api.post(f"/{kind}", {"name": name}).status_code == 201
    again = post(api, path, body, request_id)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] != first.json()["id"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/apps", "/teams"])
def test_a_create_that_is_sent_twice_at_once_is_answered_twice(
    api: Api, request_id: str, path: str
) -> None:
    start = Barrier(4)

    def create(_: int) -> Any:
        try:
            start.wait(10)
            return post(api, path, {"name": "acme"}, request_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(create, range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
