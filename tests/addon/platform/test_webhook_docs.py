"""What docs/webhooks.md says is so."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from addon.platform.changes import Kind
from addon.platform.config_vars import change_config
from addon.platform.models import App, Webhook, WebhookDelivery
from addon.platform.webhook_deliveries import _body, _headers
from addon.platform.webhooks import INCLUDES, NewWebhook, Subject, create_webhook
from billing.webhooks import WebhookFailed

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()


def snippet(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_python_snippet_knows_what_we_sign_and_nothing_else() -> None:
    body = json.dumps({"action": "create"}).encode()
    signature = _headers(Webhook(secret="sesame"), body)["Heroku-Webhook-Hmac-SHA256"]
    names: dict[str, Any] = {}
    exec(snippet("python"), names)  # noqa: S102 - our own page
    is_genuine = names["is_genuine"]
    assert is_genuine("sesame", body, signature)
    assert not is_genuine("sesame", body + b" ", signature)
    assert not is_genuine("other", body, signature)
    assert not is_genuine("sesame", body, "")
    assert not is_genuine("sesame", body, "é")


def test_every_kind_and_every_error_is_on_the_page() -> None:
    errors = [error.__name__ for error in _subclasses(WebhookFailed)]
    for word in (*INCLUDES, *Kind, *errors):
        assert f"`{word}`" in PAGE, word


def _subclasses(of: type[WebhookFailed]) -> list[type[WebhookFailed]]:
    return [each for child in of.__subclasses__() for each in (child, *_subclasses(child))]


@pytest.mark.django_db
def test_the_body_on_the_page_has_the_fields_of_ours(shop: App) -> None:
    webhook = NewWebhook(
        include=["api:release"],
        level="sync",
        url="https://x.example/",
        secret="s",
        authorization="",
    )
    create_webhook(Subject(app=shop), webhook, uuid4(), timezone.now())
    change_config(shop, shop.owner, {"A": "b"}, timezone.now())
    sent = json.loads(_body(uuid4(), WebhookDelivery.objects.get()))
    shown = json.loads(snippet("json"))
    assert sent.keys() == shown.keys()
    assert sent["webhook_metadata"].keys() == shown["webhook_metadata"].keys()
    assert sent["data"].keys() > shown["data"].keys()
