"""Webhooks of a platform: which are believed, and what they may change."""

import base64
import hmac
import itertools
import json
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from pytest_django import Settings

from addon.provider.credentials import find_identity
from addon.provider.models import Attachment, Credential, Resource
from tests.addon.provider.test_partner_api import call, provision_body

pytestmark = pytest.mark.usefixtures("plans")

PATH = "/heroku/webhooks"
HEADER = "Heroku-Webhook-Hmac-SHA256"


def signature_of(body: bytes, secret: str = settings.PROVIDER_WEBHOOK_SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def post(body: bytes, signature: str | None = None) -> Any:
    header = signature_of(body) if signature is None else signature
    return Client(enforce_csrf_checks=True).post(
        PATH, body, content_type="application/json", headers={HEADER: header}
    )


def send(event: object) -> Any:
    return post(json.dumps(event).encode())


def event_of(resource: str, action: str, minute: int, data: dict[str, Any]) -> dict[str, Any]:
    """As Heroku publishes its examples."""
    at = f"2026-11-01T10:{minute:02}:00Z"
    return {
        "action": action,
        "actor": {"email": "user-0165@example.com", "id": str(uuid.uuid4())},
        "created_at": at,
        "id": str(uuid.uuid4()),
        "data": {"created_at": "2026-11-01T10:00:00Z", "updated_at": at, **data},
        "previous_data": {},
        "published_at": None,
        "resource": resource,
        "sequence": None,
        "updated_at": at,
        "version": "application/vnd.heroku+json; version=3",
    }


def of_addon(
    resource: str, name: str, app: str = "shop", minute: int = 1, action: str = "update"
) -> dict[str, Any]:
    app_json = {"id": str(uuid.uuid4()), "name": app}
    return event_of("addon", action, minute, {"id": resource, "name": name, "app": app_json})


def of_attachment(
    resource: str, attachment: str, name: str, app: str, minute: int = 1, action: str = "create"
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": attachment,
        "name": name,
        "addon": {"id": resource, "name": "x", "app": {"name": "shop"}},
        "app": {"id": str(uuid.uuid4()), "name": app},
    }
    return event_of("addon-attachment", action, minute, data)


SHOP, BLOG = str(uuid.uuid4()), str(uuid.uuid4())


def of_app(app: str, name: str, minute: int = 1, action: str = "update") -> dict[str, Any]:
    return event_of("app", action, minute, {"id": app, "name": name})


@pytest.fixture
def resource(plans: None) -> str:
    """Of Heroku: one key for all attachments."""
    return str(call("POST", "/heroku/resources", provision_body()).json()["id"])


def names(resource: str) -> list[str]:
    live = Attachment.objects.filter(resource_id=resource, detached_at=None, shares_key=True)
    return sorted(str(row) for row in live)


class TestTheSignature:
    def test_is_over_the_bytes_that_were_sent(self, resource: str) -> None:
        body = json.dumps(of_addon(resource, "renamed"), indent=3).encode()
        assert post(body).status_code == 204
        assert Resource.objects.get().name == "renamed"

    @pytest.mark.parametrize("wrong", ["", "x", "naïve", "cut", "of another", "by another"])
    def test_that_is_wrong_changes_nothing(self, resource: str, wrong: str) -> None:
        body = json.dumps(of_addon(resource, "renamed")).encode()
        signature = {
            "cut": signature_of(body)[:-1],
            "of another": signature_of(body + b" "),
            "by another": signature_of(body, "secret"),
        }.get(wrong, wrong)
        answer = post(body, signature)
        assert (answer.status_code, answer.json()["id"]) == (401, "unauthorized")
        assert Resource.objects.get().name == "inference-acute-10001"

    def test_is_not_even_looked_at_without_a_secret(
        self, resource: str, settings: Settings
    ) -> None:
        settings.PROVIDER_WEBHOOK_SECRET = ""
        body = json.dumps(of_addon(resource, "renamed")).encode()
        assert post(body, signature_of(body, "")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"resource": 5}', b'{"resource": "addon", "data": 5}', b"\xff",
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(db: None, body: bytes) -> None:
    assert post(body).status_code == 422


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"}, {"name": None}, {"name": ""}, {"name": "x" * 257}, {"name": "a\0b"},
        {"app": None}, {"app": {"name": 5}}, {"app": {"id": "x", "name": "y"}},
        {"updated_at": "yesterday"}, {"updated_at": None},
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_changes_nothing(resource: str, changes: dict[str, object]) -> None:
    event = of_addon(resource, "renamed")
    event["data"] |= changes
    assert send(event).status_code == 422
    assert Resource.objects.get().name == "inference-acute-10001"


def test_other_kinds_of_news_are_taken_and_ignored(resource: str) -> None:
    event = {**of_addon(resource, "renamed"), "resource": "release"}
    assert send(event).status_code == 204
    assert Resource.objects.get().name == "inference-acute-10001"


def test_news_of_what_is_not_here_are_taken_and_ignored(resource: str) -> None:
    unknown = str(uuid.uuid4())
    assert send(of_addon(unknown, "renamed")).status_code == 204
    assert send(of_attachment(unknown, str(uuid.uuid4()), "A", "shop")).status_code == 204
    call("DELETE", f"/heroku/resources/{resource}")
    assert send(of_addon(resource, "renamed")).status_code == 204
    assert Resource.objects.get().name == "inference-acute-10001"
    assert Attachment.objects.count() == 1


class TestAnAddon:
    def test_is_renamed(self, resource: str) -> None:
        send(of_addon(resource, "renamed"))
        assert Resource.objects.get().name == "renamed"

    def test_that_was_renamed_since_is_not_renamed_back(self, resource: str) -> None:
        send(of_addon(resource, "second", minute=2))
        send(of_addon(resource, "first", minute=1))
        send(of_addon(resource, "second", minute=2))
        assert Resource.objects.get().name == "second"

    def test_tells_the_app_that_owns_it_and_that_this_was_renamed(self, resource: str) -> None:
        send(of_addon(resource, "x", app="shop"))
        attachment = str(uuid.uuid4())
        send(of_attachment(resource, attachment, "EMBEDDING", "shop"))
        send(of_attachment(resource, str(uuid.uuid4()), "SEARCH", "blog", minute=2))
        send(of_addon(resource, "x", app="store", minute=3))
        assert names(resource) == ["blog::SEARCH", "store::EMBEDDING"]
        assert Attachment.objects.get(id=resource).app_name == "store"

    def test_renames_no_attachment_of_another_app(self, resource: str) -> None:
        send(of_attachment(resource, str(uuid.uuid4()), "SEARCH", "blog"))
        for minute, app in enumerate(("shop", "store"), start=2):
            send(of_addon(resource, "x", app=app, minute=minute))
        assert names(resource) == ["blog::SEARCH"]

    def test_is_not_ended_by_a_webhook(self, resource: str) -> None:
        key = Credential.objects.get().key
        send(of_addon(resource, "x", action="destroy"))
        assert find_identity(key) is not None


class TestAnApp:
    @pytest.fixture(autouse=True)
    def _of_a_resource(self, resource: str) -> None:
        """Which shop owns, and blog has attached."""
        told = [
            of_addon(resource, "x", app="shop"),
            of_attachment(resource, str(uuid.uuid4()), "EMBEDDING", "shop", minute=0),
            of_attachment(resource, str(uuid.uuid4()), "SEARCH", "blog"),
        ]
        for event, app in zip(told, (SHOP, SHOP, BLOG), strict=True):
            event["data"]["app"]["id"] = app
            send(event)

    def test_is_called_by_its_new_name_wherever_it_is_known(self, resource: str) -> None:
        assert send(of_app(SHOP, "store", minute=2)).status_code == 204
        assert names(resource) == ["blog::SEARCH", "store::EMBEDDING"]
        assert Resource.objects.get().app_name == "store"
        identity = find_identity(Credential.objects.get().key)
        assert identity is not None
        assert identity.app_name == "store"

    def test_that_only_uses_the_addon_is_renamed_there_alone(self, resource: str) -> None:
        send(of_app(BLOG, "journal", minute=2))
        assert names(resource) == ["journal::SEARCH", "shop::EMBEDDING"]
        assert Resource.objects.get().app_name == "shop"

    def test_is_not_renamed_back_by_what_comes_late(self, resource: str) -> None:
        send(of_app(SHOP, "third", minute=3))
        send(of_app(SHOP, "second", minute=2))
        send(of_addon(resource, "x", app="shop", minute=1))
        assert Resource.objects.get().app_name == "third"
        assert "third::EMBEDDING" in names(resource)

    @pytest.mark.parametrize("action", ["create", "destroy"])
    def test_that_comes_or_goes_changes_nothing(self, resource: str, action: str) -> None:
        assert send(of_app(SHOP, "store", 2, action)).status_code == 204
        assert Resource.objects.get().app_name == "shop"

    def test_that_is_not_known_changes_nothing(self, resource: str) -> None:
        assert send(of_app(str(uuid.uuid4()), "store", minute=2)).status_code == 204
        assert names(resource) == ["blog::SEARCH", "shop::EMBEDDING"]

    @pytest.mark.parametrize("changes", [{"id": "x"}, {"name": ""}, {"updated_at": None}])
    def test_that_cannot_be_read_is_refused(self, changes: dict[str, object]) -> None:
        event = of_app(SHOP, "store", minute=2)
        event["data"] |= changes
        assert send(event).status_code == 422
        assert Resource.objects.get().app_name == "shop"


class TestAnAttachmentThatSharesTheKey:
    def test_is_known_from_then_on_and_gone_after_it_was_detached(self, resource: str) -> None:
        attachment = str(uuid.uuid4())
        send(of_attachment(resource, attachment, "SEARCH", "blog"))
        assert names(resource) == ["blog::SEARCH"]
        assert Credential.objects.count() == 1
        send(of_attachment(resource, attachment, "SEARCH", "blog", 2, "destroy"))
        assert names(resource) == []
        assert find_identity(Credential.objects.get().key) is not None

    def test_is_renamed(self, resource: str) -> None:
        attachment = str(uuid.uuid4())
        send(of_attachment(resource, attachment, "SEARCH", "blog"))
        send(of_attachment(resource, attachment, "FIND", "blog", 2, "update"))
        assert names(resource) == ["blog::FIND"]

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_ends_up_the_same_in_any_order_and_however_often(
        self, resource: str, order: tuple[int, ...]
    ) -> None:
        attachment = str(uuid.uuid4())
        events = [
            of_attachment(resource, attachment, "SEARCH", "blog", 1, "create"),
            of_attachment(resource, attachment, "FIND", "blog", 2, "update"),
            of_attachment(resource, attachment, "FIND", "blog", 3, "destroy"),
        ]
        for index in (*order, *order):
            assert send(events[index]).status_code == 204
        assert names(resource) == []
        assert Attachment.objects.count() == 2

    def test_names_the_usage_of_the_key_where_it_was_the_first(self, resource: str) -> None:
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        send(of_attachment(resource, second, "SEARCH", "blog", 2))
        send(of_attachment(resource, first, "EMBEDDING", "shop", 1))
        identity = find_identity(Credential.objects.get().key)
        assert identity is not None
        assert (identity.attachment_name, identity.app_name) == ("EMBEDDING", "shop")
        send(of_attachment(resource, first, "EMBEDDING", "shop", 3, "destroy"))
        identity = find_identity(Credential.objects.get().key)
        assert identity is not None
        assert (identity.attachment_name, identity.app_name) == ("SEARCH", "blog")

    def test_of_another_resource_is_not_touched(self, resource: str) -> None:
        attachment = str(uuid.uuid4())
        send(of_attachment(resource, attachment, "SEARCH", "blog"))
        other = str(call("POST", "/heroku/resources", provision_body()).json()["id"])
        send(of_attachment(other, attachment, "STOLEN", "blog", 2, "destroy"))
        assert names(resource) == ["blog::SEARCH"]

    def test_there_is_a_most_of_them(self, resource: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("addon.provider.webhooks.ATTACHMENTS_MAX", 2)
        for name in ("A", "B", "C"):
            assert send(of_attachment(resource, str(uuid.uuid4()), name, "x")).status_code == 204
        assert names(resource) == ["x::A"]


class TestAnAttachmentWithAKeyOfItsOwn:
    @pytest.fixture
    def attachment(self) -> Attachment:
        first = {"id": str(uuid.uuid4()), "name": "EMBEDDING", "app": "shop"}
        call("POST", "/heroku/resources", provision_body(attachment=first))
        return Attachment.objects.get()

    def test_is_renamed_with_its_app(self, attachment: Attachment) -> None:
        send(of_attachment(str(attachment.resource_id), str(attachment.id), "E2", "store", 1))
        identity = find_identity(Credential.objects.get().key)
        assert identity is not None
        assert (identity.attachment_name, identity.app_name) == ("E2", "store")

    def test_keeps_its_key_whatever_a_webhook_says(self, attachment: Attachment) -> None:
        event = of_attachment(
            str(attachment.resource_id), str(attachment.id), "EMBEDDING", "shop", 1, "destroy"
        )
        send(event)
        assert find_identity(Credential.objects.get().key) is not None

    def test_is_not_made_by_one(self, attachment: Attachment) -> None:
        send(of_attachment(str(attachment.resource_id), str(uuid.uuid4()), "SEARCH", "blog"))
        assert Attachment.objects.count() == 1
