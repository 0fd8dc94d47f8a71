"""What holds for every answer of the Platform API."""

import pytest
from django.http import HttpRequest
from django.test import Client

from addon.platform import errors, heroku_apps
from addon.platform.models import App
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "x/y; charset=z"])
def test_a_body_is_json_whatever_it_is_called(api: Api, content_type: str) -> None:
    answer = Client().generic(
        "POST", "/apps", b'{"name": "shop"}', content_type,
        headers={"Authorization": f"Bearer {api.token}"},
    )  # fmt: skip
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null,", b'"text"', b"\xff", b'{"name": "a\\u0000"}']
)
def test_a_body_that_is_no_json_object_is_a_400(api: Api, body: bytes) -> None:
    answer = Client().generic(
        "POST", "/apps", body, "application/json", headers={"Authorization": f"Bearer {api.token}"}
    )
    assert answer.status_code == 400
    error = answer.json()
    assert error["id"] == "bad_request"
    assert error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/apps"), ("POST", "/account"), ("DELETE", "/addons"), ("POST", "/addon-services"),
     ("GET", "/actions/addons/resolve")],
)  # fmt: skip
def test_a_wrong_method_is_a_405(api: Api, method: str, path: str) -> None:
    answer = api.call(method, path)
    assert (answer.status_code, answer.json()["id"]) == (405, "method_not_allowed")
    assert method in answer.json()["message"]


@pytest.mark.parametrize("path", ["/nosuch", "/apps/", "/apps/shop/", "/apps/shop/nosuch"])
def test_an_unknown_route_is_a_404_in_json(api: Api, shop: App, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["id"] == "not_found"
    assert "urls" not in answer.json()["message"]


def test_an_unexpected_error_is_a_500_that_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(heroku_apps, "list_apps", fail)
    client = Client(raise_request_exception=False)
    answer = client.get("/apps", headers={"Authorization": f"Bearer {api.token}"})
    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["id"] == "internal_server_error"
    assert "secret" not in answer.content.decode()


def test_errors_outside_of_any_view_have_the_same_shape() -> None:
    for answer in (
        errors.json_bad_request(HttpRequest(), Exception("secret")),
        errors.json_not_found(HttpRequest(), Exception("secret")),
        errors.json_server_error(HttpRequest()),
    ):
        assert b'"id"' in answer.content
        assert b"secret" not in answer.content


def test_every_404_of_the_table_says_which_resource() -> None:
    not_found = {error for error, (status, _) in errors.TABLE.items() if status == 404}
    assert not_found == set(errors.RESOURCES)
