"""What is sent again is told what holds now, and what was removed stays removed."""

import uuid
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from addon.provider import credentials
from addon.provider.models import Attachment, Credential, Resource
from billing.models import Plan
from tests.addon.provider.test_partner_api import PATH, basic, call, headers, provision_body

pytestmark = pytest.mark.usefixtures("plans")

ACCEPTS = [
    "application/vnd.heroku-addons+json; version=3",
    "application/json",
    "*/*",
    "text/html",
    "application/xml;q=0.9, image/webp",
    "none of this, is; a type",
    "",
]


def test_a_repeat_after_a_plan_change_is_told_the_plan_of_now() -> None:
    body = provision_body()
    first = call("POST", PATH, body).json()
    call("PUT", f"{PATH}/{body['uuid']}", {"plan": "cohere-embed-v4"})
    again = call("POST", PATH, body)
    assert again.status_code == 201
    assert again.json()["id"] == first["id"]
    assert again.json()["config"] == {
        **first["config"],
        "INFERENCE_MODEL_ID": "cohere-embed-v4",
    }
    assert "cohere-embed-v4" in again.json()["message"]
    assert Resource.objects.get().plan_slug == "cohere-embed-v4"  # the repeat changed nothing


def test_a_repeat_after_a_rotation_is_told_the_new_key() -> None:
    body = provision_body()
    call("POST", PATH, body)
    attachment, now = Attachment.objects.get(), timezone.now()
    credentials.retire(attachment, now + timedelta(hours=1), now)
    key = credentials.issue(attachment, now + timedelta(seconds=1)).key
    assert call("POST", PATH, body).json()["config"]["INFERENCE_KEY"] == key
    assert Credential.objects.count() == 2


def test_a_repeat_is_answered_also_when_its_plan_or_region_is_no_longer_sold(
    settings: Settings,
) -> None:
    body = provision_body()
    first = call("POST", PATH, body).json()
    Plan.objects.update(is_visible=False, options_schema={"additionalProperties": False})
    settings.REGIONS = ["eu"]
    assert call("POST", PATH, body).json() == first


@pytest.mark.parametrize(
    "change", [{"plan": "dedicated"}, {"plan": "enormous"}, {"region": "moon"}, {"options": {}}]
)
def test_other_content_is_refused_and_changes_nothing(change: dict[str, object]) -> None:
    body = provision_body()
    first = call("POST", PATH, body).json()
    assert call("POST", PATH, {**body, **change}).status_code == 409
    assert call("POST", PATH, body).json() == first


def test_the_plain_name_of_a_region_is_the_same_content() -> None:
    body = provision_body()
    first = call("POST", PATH, body).json()
    assert call("POST", PATH, {**body, "region": "us"}).json() == first


class TestTombstones:
    @pytest.fixture
    def body(self) -> dict[str, object]:
        body = provision_body()
        call("POST", PATH, body)
        call("DELETE", f"{PATH}/{body['uuid']}")
        return body

    def requests(self, body: dict[str, object]) -> list[tuple[str, str, object]]:
        path = f"{PATH}/{body['uuid']}"
        attachment = f"{path}/attachments/{uuid.uuid4()}"
        return [
            ("POST", PATH, body),
            ("POST", PATH, {**body, "plan": "enormous", "region": "moon", "options": {"x": "y"}}),
            ("PUT", path, {"plan": "dedicated"}),
            ("PUT", path, {"plan": "enormous"}),
            ("DELETE", path, None),
            ("PUT", attachment, {"name": "SEARCH", "app": "shop"}),
            ("DELETE", attachment, None),
        ]

    def test_all_that_is_asked_of_them_is_answered_410(self, body: dict[str, object]) -> None:
        for method, path, content in self.requests(body):
            answer = call(method, path, content)
            assert (answer.status_code, answer.json()["id"]) == (410, "gone"), (method, path)
            assert answer.json()["message"]
        assert not Credential.objects.filter(revoked_at=None).exists()

    def test_who_asks_is_looked_at_first(self, body: dict[str, object]) -> None:
        """kensa deletes, and then wants a 401 for wrong credentials."""
        for method, path, _ in self.requests(body):
            wrong = {"Authorization": basic("heroku-inference", "wrong")}
            answer = Client().generic(method, path, b"{", "application/json", headers=wrong)
            assert answer.status_code == 401, (method, path)


@pytest.mark.parametrize("accept", ACCEPTS)
def test_every_answer_is_json_whatever_is_accepted(accept: str) -> None:
    body = provision_body()
    path = f"{PATH}/{body['uuid']}"
    answers: list[Any] = [
        call("POST", PATH, body, Accept=accept),
        call("PUT", path, {"plan": "dedicated"}, Accept=accept),
        call("PUT", path, {"plan": "enormous"}, Accept=accept),
        call("DELETE", path, Accept=accept),
        call("DELETE", path, Accept=accept),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 422, 204, 410]
    for answer in answers[:3] + answers[4:]:
        assert answer["Content-Type"] == "application/json"
    assert "Content-Type" not in answers[3] or answers[3].content == b""


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", ""])
def test_a_body_is_json_whatever_it_is_called(content_type: str) -> None:
    body = b'{"uuid": "%s", "plan": "standard"}' % str(uuid.uuid4()).encode()
    answer = Client().generic("POST", PATH, body, content_type, headers=headers())
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("method", "body"), [("POST", {"plan": "standard"}), ("PUT", {"plan": "x"}), ("DELETE", None)]
)
def test_without_the_database_it_is_a_503_for_people(method: str, body: object) -> None:
    resource_id = str(uuid.uuid4())
    if method == "POST":
        body = {"uuid": resource_id, "plan": "standard"}
    path = PATH if method == "POST" else f"{PATH}/{resource_id}"
    with patch("addon.provider.provisioning.transaction.atomic", side_effect=OperationalError("x")):
        answer = call(method, path, body)
    assert answer.status_code == 503
    assert answer.json()["message"].endswith("Please try again.")
    assert answer["Retry-After"]
