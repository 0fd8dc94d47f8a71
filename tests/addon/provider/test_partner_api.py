"""The Partner API as a platform sees it: over HTTP, by the bodies that platforms send."""

import base64
import json
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from addon.provider.credentials import find_identity
from addon.provider.models import Attachment, Credential, Resource
from billing.models import Plan, Subscription
from billing.subscriptions import end_subscription, subscribe

pytestmark = pytest.mark.usefixtures("plans")

PATH = "/heroku/resources"
UNKNOWN = "01234567-89ab-cdef-0123-456789abcdef"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def headers(**extra: str) -> dict[str, str]:
    authorization = basic(settings.ADDON_SERVICE_NAME, settings.PROVIDER_PASSWORD)
    return {"Authorization": authorization, **extra}


def call(method: str, path: str, body: object = None, **extra: str) -> Any:
    return Client().generic(
        method,
        path,
        b"" if body is None else json.dumps(body).encode(),
        content_type="application/json",
        headers=headers(**extra),
    )


def provision_body(**changes: object) -> dict[str, object]:
    return {
        "uuid": str(uuid.uuid4()),
        "name": "inference-acute-10001",
        "plan": "standard",
        "region": "amazon-web-services::us-east-1",
        "callback_url": "https://api.heroku.com/addons/01234567-89ab-cdef-0123-456789abcdef",
        "oauth_grant": {"code": "c", "expires_at": "2026-11-01T10:00:00Z", "type": "x"},
        "options": {"foo": "bar"},
        "something_new": {"that": ["we", "do", "not", "know"]},
        **changes,
    }


def test_a_resource_is_provisioned_with_its_config() -> None:
    body = provision_body()
    answer = call("POST", PATH, body)
    assert answer.status_code == 201
    assert answer["Content-Type"] == "application/json"
    provisioned = answer.json()
    assert provisioned["id"] == body["uuid"]
    assert set(provisioned["config"]) == {"INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"}
    assert provisioned["config"]["INFERENCE_URL"] == settings.INFERENCE_URL
    assert provisioned["config"]["INFERENCE_MODEL_ID"] == "all-minilm-l6-v2"
    assert provisioned["message"]
    identity = find_identity(provisioned["config"]["INFERENCE_KEY"])
    assert identity is not None
    assert str(identity.resource_id) == body["uuid"]


def test_heroku_names_no_attachment_and_gets_one_under_the_resources_id() -> None:
    body = provision_body()
    call("POST", PATH, body)
    assert str(Attachment.objects.get().id) == body["uuid"]


def test_our_platform_names_the_first_attachment() -> None:
    attachment_id = str(uuid.uuid4())
    attachment = {"id": attachment_id, "name": "EMBEDDING", "app": "shop"}
    answer = call("POST", PATH, provision_body(attachment=attachment))
    identity = find_identity(answer.json()["config"]["INFERENCE_KEY"])
    assert identity is not None
    assert str(identity.attachment_id) == attachment_id
    assert (identity.attachment_name, identity.app_name) == ("EMBEDDING", "shop")


def test_the_least_that_a_platform_may_send_is_enough() -> None:
    body = {"uuid": str(uuid.uuid4()), "plan": "standard"}
    assert call("POST", PATH, body, Accept="application/json").status_code == 201
    assert (
        call("POST", PATH, {**body, "uuid": str(uuid.uuid4()), "options": None}).status_code == 201
    )


def test_a_repeat_gets_the_same_answer_and_makes_nothing() -> None:
    body = provision_body()
    first = call("POST", PATH, body)
    again = call("POST", PATH, {**body, "name": "renamed", "callback_url": "https://x.example"})
    assert again.status_code in {200, 201}
    assert again.json() == first.json()
    assert (Resource.objects.count(), Credential.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [{"region": "amazon-web-services::eu-west-1"}, {"options": {"foo": "baz"}}, {"options": {}}],
)
def test_a_repeat_with_other_content_is_refused(change: dict[str, object]) -> None:
    body = provision_body()
    call("POST", PATH, body)
    answer = call("POST", PATH, {**body, **change})
    assert answer.status_code == 409
    assert answer.json()["id"] == "conflict"
    assert "exists already" in answer.json()["message"]


def test_a_repeat_with_another_attachment_is_refused() -> None:
    body = provision_body()
    call("POST", PATH, body)
    other = {"id": str(uuid.uuid4()), "name": "OTHER", "app": "shop"}
    assert call("POST", PATH, {**body, "attachment": other}).status_code == 409
    assert Attachment.objects.count() == 1


def test_an_unknown_plan_is_refused_with_those_that_there_are() -> None:
    answer = call("POST", PATH, provision_body(plan="enormous"))
    assert answer.status_code == 422
    assert "'enormous'" in answer.json()["message"]
    assert "standard" in answer.json()["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uuid", None),
        ("uuid", "not-a-uuid"),
        ("uuid", 5),
        ("plan", None),
        ("plan", ["standard"]),
        ("region", 5),
        ("name", {}),
        ("callback_url", 1.5),
        ("options", ["foo"]),
        ("options", {"foo": 5}),
        ("attachment", "EMBEDDING"),
        ("log_input_url", 5),
    ],
)
def test_a_wrong_type_is_refused_by_the_fields_name(field: str, value: object) -> None:
    answer = call("POST", PATH, provision_body(**{field: value}))
    assert answer.status_code == 422
    assert answer.json()["id"] == "invalid_params"
    assert field in answer.json()["message"]
    assert not Resource.objects.exists()


@pytest.mark.parametrize("missing", ["id", "name", "app"])
def test_a_first_attachment_needs_id_name_and_app(missing: str) -> None:
    attachment = {"id": str(uuid.uuid4()), "name": "EMBEDDING", "app": "shop"}
    del attachment[missing]
    answer = call("POST", PATH, provision_body(attachment=attachment))
    assert answer.status_code == 422
    assert missing in answer.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff\xfe"])
def test_bad_json_is_a_400_with_a_message(body: bytes) -> None:
    answer = Client().generic("POST", PATH, body, "application/json", headers=headers())
    assert answer.status_code == 400
    assert answer.json()["id"] == "bad_request"
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer provider-password-of-the-tests",
        basic("heroku-inference", "wrong"),
        basic("heroku-inference", ""),
        basic("other", "provider-password-of-the-tests"),
        basic("heroku-inference", "provider-password-of-the-tests "),
        basic("heroku-inference", "pässwörd"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("DELETE", f"{PATH}/{UNKNOWN}"),
        ("DELETE", f"{PATH}/not-a-uuid"),
        ("PUT", f"{PATH}/{UNKNOWN}/attachments/{UNKNOWN}"),
        ("DELETE", f"{PATH}/{UNKNOWN}/attachments/{UNKNOWN}"),
    ],
)
def test_wrong_credentials_are_a_401_before_anything_else(
    authorization: str, method: str, path: str
) -> None:
    answer = Client().generic(method, path, b"{", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Basic")
    assert answer.json()["id"] == "unauthorized"


def test_deprovisioning_ends_the_key_and_is_gone_when_repeated() -> None:
    body = provision_body()
    key = call("POST", PATH, body).json()["config"]["INFERENCE_KEY"]
    answer = call("DELETE", f"{PATH}/{body['uuid']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert find_identity(key) is None
    assert not Credential.objects.filter(revoked_at=None).exists()
    again = call("DELETE", f"{PATH}/{body['uuid']}")
    assert (again.status_code, again.json()["id"]) == (410, "gone")


def test_a_deprovisioned_uuid_is_never_provisioned_again() -> None:
    body = provision_body()
    call("POST", PATH, body)
    call("DELETE", f"{PATH}/{body['uuid']}")
    assert call("POST", PATH, body).status_code == 410
    assert not Credential.objects.filter(revoked_at=None).exists()


@pytest.mark.parametrize("resource", [UNKNOWN, "not-a-uuid", "%00"])
def test_an_unknown_resource_is_a_404(resource: str) -> None:
    answer = call("DELETE", f"{PATH}/{resource}")
    assert (answer.status_code, answer.json()["id"]) == (404, "not_found")
    assert call("PUT", f"{PATH}/{resource}/attachments/{uuid.uuid4()}", {"name": "A", "app": "b"}
                ).status_code == 404  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_other_methods_are_a_405(method: str) -> None:
    answer = call(method, PATH)
    assert (answer.status_code, answer.json()["id"]) == (405, "method_not_allowed")


class TestAttachments:
    """Our extension: credentials per attachment."""

    @pytest.fixture
    def resource(self) -> str:
        return str(call("POST", PATH, provision_body()).json()["id"])

    @pytest.fixture
    def path(self, resource: str) -> str:
        return f"{PATH}/{resource}/attachments/{uuid.uuid4()}"

    def test_each_attachment_has_a_key_of_its_own(self, path: str) -> None:
        answer = call("PUT", path, {"name": "SEARCH", "app": "shop"})
        assert answer.status_code == 200
        config = answer.json()["config"]
        assert set(config) == {"INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"}
        identity = find_identity(config["INFERENCE_KEY"])
        assert identity is not None
        assert identity.attachment_name == "SEARCH"
        assert Credential.objects.count() == 2

    def test_a_repeat_gets_the_same_key(self, path: str) -> None:
        body = {"name": "SEARCH", "app": "shop"}
        assert call("PUT", path, body).json() == call("PUT", path, body).json()
        assert Credential.objects.count() == 2

    def test_a_repeat_with_another_name_is_refused(self, path: str) -> None:
        call("PUT", path, {"name": "SEARCH", "app": "shop"})
        assert call("PUT", path, {"name": "OTHER", "app": "shop"}).status_code == 409

    def test_detaching_ends_that_key_only(self, path: str) -> None:
        first = Credential.objects.get().key
        second = call("PUT", path, {"name": "SEARCH", "app": "shop"}).json()["config"]
        assert call("DELETE", path).status_code == 204
        assert find_identity(second["INFERENCE_KEY"]) is None
        assert find_identity(first) is not None

    def test_what_is_detached_is_gone(self, path: str) -> None:
        call("PUT", path, {"name": "SEARCH", "app": "shop"})
        call("DELETE", path)
        assert call("DELETE", path).status_code == 410
        assert call("PUT", path, {"name": "SEARCH", "app": "shop"}).status_code == 410

    @pytest.mark.parametrize("attachment", [UNKNOWN, "nonsense"])
    def test_an_unknown_attachment_is_a_404(self, resource: str, attachment: str) -> None:
        assert call("DELETE", f"{PATH}/{resource}/attachments/{attachment}").status_code == 404

    def test_an_attachment_of_another_resource_is_neither_given_nor_ended(self, path: str) -> None:
        call("PUT", path, {"name": "SEARCH", "app": "shop"})
        attachment = path.rpartition("/")[2]
        other = call("POST", PATH, provision_body()).json()["id"]
        stolen = f"{PATH}/{other}/attachments/{attachment}"
        assert call("PUT", stolen, {"name": "SEARCH", "app": "shop"}).status_code == 409
        assert call("DELETE", stolen).status_code == 404

    def test_nothing_is_attached_to_a_deprovisioned_resource(
        self, resource: str, path: str
    ) -> None:
        call("DELETE", f"{PATH}/{resource}")
        assert call("PUT", path, {"name": "SEARCH", "app": "shop"}).status_code == 410

    @pytest.mark.parametrize("field", ["name", "app"])
    def test_name_and_app_are_needed(self, path: str, field: str) -> None:
        body = {"name": "SEARCH", "app": "shop", field: None}
        answer = call("PUT", path, body)
        assert answer.status_code == 422
        assert field in answer.json()["message"]


def test_a_plan_is_changed_and_the_key_stays() -> None:
    body = provision_body()
    config = call("POST", PATH, body).json()["config"]
    # kensa also sends ids, which are not the resource's
    change = {"plan": "cohere-embed-v4", "heroku_id": "app123@heroku.com", "uuid": UNKNOWN}
    answer = call("PUT", f"{PATH}/{body['uuid']}", change)
    assert answer.status_code == 200
    assert answer.json()["config"] == {
        "INFERENCE_URL": config["INFERENCE_URL"],
        "INFERENCE_MODEL_ID": "cohere-embed-v4",
    }
    assert "cohere-embed-v4" in answer.json()["message"]
    identity = find_identity(config["INFERENCE_KEY"])
    assert identity is not None
    assert identity.plan_slug == "cohere-embed-v4"


def test_a_repeated_plan_change_changes_nothing() -> None:
    body = provision_body()
    call("POST", PATH, body)
    path = f"{PATH}/{body['uuid']}"
    first = call("PUT", path, {"plan": "dedicated"})
    again = call("PUT", path, {"plan": "dedicated"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert Subscription.objects.count() == 2


def test_a_plan_that_there_is_not_is_refused_with_those_there_are() -> None:
    body = provision_body()
    call("POST", PATH, body)
    answer = call("PUT", f"{PATH}/{body['uuid']}", {"plan": "gigantic"})
    assert answer.status_code == 422
    assert "There is no plan 'gigantic'. The plans are: standard, " in answer.json()["message"]
    assert Resource.objects.get().plan_slug == "standard"


@pytest.mark.parametrize("body", [{}, {"plan": None}, {"plan": 1}, {"plan": ""}])
def test_a_plan_change_without_a_plan_is_refused_by_name(body: object) -> None:
    provisioned = provision_body()
    call("POST", PATH, provisioned)
    answer = call("PUT", f"{PATH}/{provisioned['uuid']}", body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("plan must be")


def test_the_plan_of_what_there_is_not_is_not_changed() -> None:
    for resource in (UNKNOWN, "x"):
        assert call("PUT", f"{PATH}/{resource}", {"plan": "standard"}).status_code == 404
    body = provision_body()
    call("POST", PATH, body)
    call("DELETE", f"{PATH}/{body['uuid']}")
    assert call("PUT", f"{PATH}/{body['uuid']}", {"plan": "standard"}).status_code == 410


def subscriptions() -> list[tuple[str, bool]]:
    rows = Subscription.objects.select_related("plan").order_by("start_at")
    return [(row.plan.slug, row.end_at is None) for row in rows]


def test_of_another_platform_the_resource_itself_is_the_customer() -> None:
    body = provision_body()
    call("POST", PATH, body)
    call("POST", PATH, body)
    assert str(Subscription.objects.get().customer_id) == body["uuid"]
    call("PUT", f"{PATH}/{body['uuid']}", {"plan": "dedicated"})
    assert subscriptions() == [("standard", False), ("dedicated", True)]
    call("DELETE", f"{PATH}/{body['uuid']}")
    assert subscriptions() == [("standard", False), ("dedicated", False)]


@pytest.mark.parametrize("has_ended", [False, True])
def test_who_pays_already_stays_the_customer(has_ended: bool) -> None:
    body = provision_body()
    customer_id, resource_id = uuid.uuid4(), uuid.UUID(str(body["uuid"]))
    subscribe(
        resource_id=resource_id, customer_id=customer_id, email="dev@example.com", name="",
        resource_name="", plan=Plan.objects.get(slug="standard"), now=timezone.now(),
    )  # fmt: skip
    if has_ended:  # the platform gave up while its call was still under way
        end_subscription(resource_id, timezone.now())
    call("POST", PATH, body)
    assert Subscription.objects.get().customer_id == customer_id
    call("PUT", f"{PATH}/{body['uuid']}", {"plan": "dedicated"})
    assert subscriptions() == [("standard", not has_ended)]  # the platform changes it itself
