"""Calls to a provider, by the Add-on Partner API v3; its answers become values.

Every call is safe to repeat, for providers are idempotent by uuid. Whatever is not a clear answer
is `Uncertain`: the provider may or may not have done it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ssl import SSLContext

import httpx
from django.conf import settings

from addon.call_deadlines import CallDeadline
from addon.platform.database_connections import release_connection
from addon.platform.models import Addon, AddonService, Attachment
from addon.platform.partner_tokens import Issued
from addon.platform.regions import REGIONS
from addon.platform.retries import CALL_TIMEOUT_S
from billing.models import Plan

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0  # to each address of the host
ANSWER_MAX_BYTES = 1_000_000
MESSAGE_MAX_CHARACTERS = 2000
CONFIG_VALUE_MAX_CHARACTERS = 32_000
_HEADERS = {
    "Accept": "application/vnd.heroku-addons+json; version=3",
    "Accept-Encoding": "identity",  # a megabyte that unpacks to a gigabyte is no answer
}


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    status: int
    body: Mapping[str, object] | None = field(repr=False)


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
    if isinstance(answer, _Answer) and answer.status == 410:
        return Gone()
    return _read_config_reply(service, answer, needs_id=True)


def change_plan(addon: Addon, plan: Plan) -> Reply:
    """What of the config is the same for all attachments, as far as the plan changes it."""
    answer = _call(addon.service, "PUT", f"/{addon.id}", {"plan": plan.slug})
    if isinstance(answer, _Answer) and answer.status in {404, 410}:
        return Gone()
    return _read_config_reply(addon.service, answer, needs_config=False)


def deprovision(addon: Addon) -> Done | Accepted | Gone | Uncertain:
    answer = _call(addon.service, "DELETE", f"/{addon.id}", None)
    if isinstance(answer, _Answer) and answer.status == 202:
        return Accepted()
    return _read_removal(answer)


def attach(attachment: Attachment) -> Reply:
    """Credentials for one more attachment; only of a service with attachment credentials."""
    service = attachment.addon.service
    answer = _call(service, "PUT", _attachment_path(attachment), _name_and_app(attachment))
    if isinstance(answer, _Answer) and answer.status in {404, 410}:
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
    message = _text((answer.body or {}).get("message"))
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
) -> _Answer | Uncertain:
    """One request, given up after 25 s in all, however slowly the answer trickles in."""
    # Our own provider may be this very process: it would starve if every connection waited for it.
    release_connection()
    received = bytearray()
    try:
        with (
            CallDeadline(CALL_TIMEOUT_S) as deadline,
            httpx.Client(
                auth=(service.name, service.password),
                headers=_HEADERS,
                timeout=httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                follow_redirects=False,  # another address must not get the password
                verify=_tls_context(),
            ) as client,
            client.stream(
                method, service.base_url + path, json=body, extensions={"trace": deadline.trace}
            ) as response,
        ):
            for chunk in response.iter_raw():
                received += chunk
                if len(received) > ANSWER_MAX_BYTES:
                    return Uncertain(reason="the provider's answer is too long")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if not deadline.has_passed:
            return Uncertain(reason=f"the provider did not answer: {type(error).__name__}")
    if deadline.has_passed:  # then the answer may have been cut without an error
        return Uncertain(reason="the provider's answer took too long")
    return _Answer(status=response.status_code, body=_parse(bytes(received)))


@cache
def _tls_context() -> SSLContext:
    return httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds


def _parse(received: bytes) -> Mapping[str, object] | None:
    """None for what is no JSON object; an empty body says nothing, as an empty object does."""
    if not received.strip():
        return {}
    try:
        body = json.loads(received)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _read_removal(answer: _Answer | Uncertain) -> Done | Gone | Uncertain:
    if isinstance(answer, Uncertain):
        return answer
    if 200 <= answer.status < 300:
        return Done()
    if answer.status in {404, 410}:
        return Gone()
    return Uncertain(reason=f"the provider answered {answer.status}")


def _read_config_reply(
    service: AddonService,
    answer: _Answer | Uncertain,
    *,
    needs_id: bool = False,
    needs_config: bool = True,
) -> Reply:
    if isinstance(answer, Uncertain):
        return answer
    body = answer.body or {}
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
    if answer.body is None or config is None or (needs_id and not provider_id):
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
