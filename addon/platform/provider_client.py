"""Calls to a provider, by the Add-on Partner API v3; its answers become values.

Every call is safe to repeat, for providers are idempotent by uuid. Whatever is not a clear answer
is `Uncertain`: the provider may or may not have done it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings

from addon import json_client
from addon.json_client import Answer, NoAnswer
from addon.platform.models import Addon, AddonService, Attachment
from addon.platform.partner_tokens import Issued
from addon.platform.regions import REGIONS
from addon.platform.retries import CALL_TIMEOUT_S
from billing.models import Plan

logger = logging.getLogger(__name__)

MESSAGE_MAX_CHARACTERS = 2000
CONFIG_VALUE_MAX_CHARACTERS = 32_000
_HEADERS = {"Accept": "application/vnd.heroku-addons+json; version=3"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    message: str = ""
    provider_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The provider will finish later, and then call back."""

    message: str = ""
    provider_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The provider's message is for the user. A 422 is final, a 503 may pass."""

    message: str
    status: int

    @property
    def is_final(self) -> bool:
        return self.status == 422


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """The provider has no such resource, or has it no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertain:
    """`reason` is for the operator; it holds no secret and nothing that the provider wrote."""

    reason: str


Reply = Done | Accepted | Refused | Gone | Uncertain


def provision(addon: Addon, attachment: Attachment, grant: Issued | None = None) -> Reply:
    """`grant` is what the provider may call back with."""
    service = addon.service
    body: dict[str, object] = {
        "uuid": str(addon.id),
        "name": addon.name,
        "plan": addon.plan.slug,
        "region": REGIONS[addon.app.region].partner_name,
        "callback_url": f"{settings.PUBLIC_URL}/addons/{addon.id}",
        "oauth_grant": None if grant is None else grant.as_sent(),
        "options": addon.options,
    }
    if service.attachment_credentials:
        body["attachment"] = {"id": str(attachment.id), **_name_and_app(attachment)}
    answer = _call(service, "POST", "", body)
    if isinstance(answer, Answer) and answer.status == 410:
        return Gone()
    return _read_config_reply(service, answer, needs_id=True)


def change_plan(addon: Addon, plan: Plan) -> Reply:
    """What of the config is the same for all attachments, as far as the plan changes it."""
    answer = _call(addon.service, "PUT", f"/{addon.id}", {"plan": plan.slug})
    if isinstance(answer, Answer) and answer.status in {404, 410}:
        return Gone()
    return _read_config_reply(addon.service, answer, needs_config=False)


def deprovision(addon: Addon) -> Done | Accepted | Gone | Uncertain:
    answer = _call(addon.service, "DELETE", f"/{addon.id}", None)
    if isinstance(answer, Answer) and answer.status == 202:
        return Accepted()
    return _read_removal(answer)


def attach(attachment: Attachment) -> Reply:
    """Credentials for one more attachment; only of a service with attachment credentials."""
    service = attachment.addon.service
    answer = _call(service, "PUT", _attachment_path(attachment), _name_and_app(attachment))
    if isinstance(answer, Answer) and answer.status in {404, 410}:
        return Gone()
    return _read_config_reply(service, answer)


def detach(attachment: Attachment) -> Done | Gone | Uncertain:
    service = attachment.addon.service
    return _read_removal(_call(service, "DELETE", _attachment_path(attachment), None))


def rotate_credentials(addon: Addon, attachment: Attachment | None, overlap_s: int | None) -> Reply:
    """An extension of ours; Gone where the provider has no such thing."""
    body: dict[str, object] = {} if attachment is None else {"attachment": str(attachment.id)}
    if overlap_s is not None:
        body["overlap_s"] = overlap_s
    answer = _call(addon.service, "POST", f"/{addon.id}/actions/rotate-credentials", body)
    if isinstance(answer, Uncertain):
        return answer
    message = _text(answer.fields.get("message"))
    match answer.status:
        case 200 | 202:
            return Accepted(message=message)
        case 404 | 405 | 410:
            return Gone()
        case 422 | 503 if message:
            return Refused(message=message, status=answer.status)
        case status:
            return Uncertain(reason=f"the provider answered {status}")


def _name_and_app(attachment: Attachment) -> dict[str, object]:
    return {"name": attachment.name, "app": attachment.app.name}


def _attachment_path(attachment: Attachment) -> str:
    return f"/{attachment.addon_id}/attachments/{attachment.id}"


def _call(
    service: AddonService, method: str, path: str, body: Mapping[str, object] | None
) -> Answer | Uncertain:
    try:
        return json_client.call(
            method,
            service.base_url + path,
            timeout_s=CALL_TIMEOUT_S,
            headers=_HEADERS,
            auth=(service.name, service.password),
            body=body,
        )
    except NoAnswer as error:
        return Uncertain(reason=f"the provider: {error}")


def _read_removal(answer: Answer | Uncertain) -> Done | Gone | Uncertain:
    if isinstance(answer, Uncertain):
        return answer
    if 200 <= answer.status < 300:
        return Done()
    if answer.status in {404, 410}:
        return Gone()
    return Uncertain(reason=f"the provider answered {answer.status}")


def _read_config_reply(
    service: AddonService,
    answer: Answer | Uncertain,
    *,
    needs_id: bool = False,
    needs_config: bool = True,
) -> Reply:
    if isinstance(answer, Uncertain):
        return answer
    body = answer.fields
    message = _text(body.get("message"))
    provider_id = _provider_id(body)
    if answer.status in {422, 503} and message:
        return Refused(message=message, status=answer.status)
    if answer.status == 202:
        return Accepted(message=message, provider_id=provider_id)
    if answer.status not in {200, 201}:
        return Uncertain(reason=f"the provider answered {answer.status}")
    written = body.get("config")
    config = {} if written is None and not needs_config else _config(service, written)
    if not isinstance(answer.body, dict) or config is None or (needs_id and not provider_id):
        return Uncertain(reason=f"the provider answered {answer.status} with a malformed body")
    return Done(config=config, message=message, provider_id=provider_id)


def _text(value: object) -> str:
    """What a provider wrote to a user, without what controls a terminal or cannot be stored."""
    if not isinstance(value, str):
        return ""
    printable = (character for character in value if character.isprintable() or character == "\n")
    cleaned = "".join(printable).encode("utf-8", "ignore").decode()
    return cleaned.strip()[:MESSAGE_MAX_CHARACTERS]


def _provider_id(body: Mapping[str, object]) -> str:
    value = body.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # providers written for v1 answer integers
    return value if isinstance(value, str) and value == _text(value) and len(value) <= 256 else ""


def _config(service: AddonService, value: object) -> dict[str, str] | None:
    if not isinstance(value, dict) or not all(map(is_config_value, value.values())):
        return None
    undeclared = sorted(set(value) - set(service.config_vars))
    if undeclared:
        logger.warning("%s set config vars that its manifest lacks: %s", service.name, undeclared)
    return {name: value[name] for name in service.config_vars if name in value}


def is_config_value(value: object) -> bool:
    """Whether a provider may set it."""
    if not isinstance(value, str) or len(value) > CONFIG_VALUE_MAX_CHARACTERS:
        return False
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
