import pytest
from django.test import Client

from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.heroku+json; version=3",
        "application/vnd.heroku+json;version=3.sdk",
        'Application/Vnd.Heroku+JSON; Version="3.webhooks"; charset=utf-8',
        "application/vnd.heroku+json; version=3.account-quotas",
        "application/vnd.heroku+json",
        "application/json",
        "text/html, application/vnd.heroku+json; version=2, */*; q=0.8",
        "application/*",
        "",
    ],
)
def test_version_3_and_plain_json_are_answered_as_json(api: Api, accept: str) -> None:
    answer = api.get("/account", Accept=accept)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"


def test_no_accept_header_is_needed(api: Api) -> None:
    answer = Client().get("/account", headers={"Authorization": f"Bearer {api.token}"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.heroku+json; version=2",
        "application/vnd.heroku+json; version=4",
        "application/vnd.heroku+json; version=30",
        "application/vnd.heroku+json; version=3.",
        "application/vnd.heroku+json; version=edge",
        "text/html",
        "application/vnd.heroku+xml; version=3",
        "x" * 9_000,
    ],
)
def test_what_cannot_be_answered_is_a_406_that_says_what_can(api: Api, accept: str) -> None:
    answer = api.get("/account", Accept=accept)
    error = answer.json()
    assert (answer.status_code, error["id"]) == (406, "not_acceptable")
    assert "application/vnd.heroku+json; version=3" in error["message"]
    assert answer["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/account/invoices/1.csv", "text/csv"),
        ("/account/invoices/1.pdf", "application/pdf"),
        ("/account/invoices/1/lines/1/events.csv", "text/csv"),
    ],
)
def test_a_file_may_be_accepted_as_what_it_is(api: Api, path: str, accept: str) -> None:
    answer = api.get(path, Accept=accept)
    assert (answer.status_code, answer.json()["resource"]) == (404, "invoice")
