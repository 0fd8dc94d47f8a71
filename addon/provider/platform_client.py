"""Calls to a platform, by Heroku's Platform API for Partners and its OAuth; answers become values.

Which platform that is follows from the resource's `callback_url`, if PLATFORM_URLS lists it: a
provision request cannot make us call anybody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings

from addon import json_client
from addon.json_client import Answer, NoAnswer
from addon.provider.models import Resource

CALL_TIMEOUT_S = 10.0
HEROKU_URL = "https://api.heroku.com"
HEROKU_TOKEN_URL = "https://id.heroku.com/oauth/token"  # noqa: S105 - not a secret
ACCEPT = "application/vnd.heroku+json; version=3"


class UnknownPlatform(Exception):
    """PLATFORM_URLS has no platform of this resource, so it is never called."""


class PlatformUnavailable(Exception):
    """It gave no answer, or none that says that it was done; to be tried again."""


class AccessRefused(PlatformUnavailable):
    """The access token is not taken (any more)."""


class GrantRefused(PlatformUnavailable):
    """A code or a refresh token is not taken: used, expired, or of another client."""


class PlatformGone(Exception):
    """The platform has no such add-on, or has it no more."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the platform answered {status}")
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """`refresh_token` is empty where the one that is known stays."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: int


def find_platform(callback_url: str) -> str | None:
    """The URL of the platform that `callback_url` is one of; None when it is not listed."""
    urls = (url for url in settings.PLATFORM_URLS if callback_url.startswith(f"{url}/"))
    return next(urls, None)


def _platform(resource: Resource) -> str:
    platform = find_platform(resource.callback_url)
    if platform is None:
        raise UnknownPlatform(f"PLATFORM_URLS has no platform of the resource {resource.id}")
    return platform


def exchange_code(resource: Resource, code: str) -> Tokens:
    """Raises UnknownPlatform, GrantRefused, PlatformGone, PlatformUnavailable."""
    return _ask_for_tokens(resource, {"grant_type": "authorization_code", "code": code})


def refresh(resource: Resource, refresh_token: str) -> Tokens:
    """Raises UnknownPlatform, GrantRefused, PlatformGone, PlatformUnavailable."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _ask_for_tokens(resource, form)


def _ask_for_tokens(resource: Resource, form: Mapping[str, str]) -> Tokens:
    url = settings.PLATFORM_TOKEN_URL or _token_url(_platform(resource))
    answer = _send("POST", url, form={**form, "client_secret": settings.OAUTH_CLIENT_SECRET})
    if answer.status == 410:
        raise PlatformGone(answer.status)
    if answer.status in {400, 401, 403}:
        raise GrantRefused(f"the platform answered {answer.status} to a grant")
    return _read_tokens(answer)


def _token_url(platform: str) -> str:
    return HEROKU_TOKEN_URL if platform == HEROKU_URL else f"{platform}/oauth/token"


def _read_tokens(answer: Answer) -> Tokens:
    access_token, expires_in = answer.fields.get("access_token"), answer.fields.get("expires_in")
    refresh_token = answer.fields.get("refresh_token")
    if answer.status not in {200, 201} or not isinstance(access_token, str) or not access_token:
        raise PlatformUnavailable(f"the platform answered {answer.status} without tokens")
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token if isinstance(refresh_token, str) else "",
        expires_in_s=expires_in if isinstance(expires_in, int) else 0,
    )


def ask_for_code(resource: Resource) -> str:
    """Another code, where the first was lost or has expired: as the add-on service itself.

    Raises UnknownPlatform, PlatformGone, PlatformUnavailable.
    """
    answer = _send(
        "GET",
        f"{_platform(resource)}/vendor/resources/{resource.id}/oauth-grant",
        auth=(settings.ADDON_SERVICE_NAME, settings.PROVIDER_PASSWORD),
    )
    if answer.status == 410:
        raise PlatformGone(answer.status)
    code = answer.fields.get("code")
    if answer.status != 200 or not isinstance(code, str) or not code:
        raise PlatformUnavailable(f"the platform answered {answer.status} without another grant")
    return code


def update_config(resource: Resource, token: str, config: Mapping[str, str]) -> None:
    """What all attachments have alike. Raises as _call()."""
    _call(resource, token, "PATCH", f"/addons/{resource.id}/config", _config_body(config))


def update_attachment_config(
    resource: Resource, token: str, attachment_id: UUID, config: Mapping[str, str]
) -> None:
    """What one attachment has: our extension of the contract. Raises as _call()."""
    path = f"/addon-attachments/{attachment_id}/config"
    _call(resource, token, "PATCH", path, _config_body(config))


def _config_body(config: Mapping[str, str]) -> dict[str, object]:
    return {"config": [{"name": name, "value": value} for name, value in config.items()]}


def mark_provisioned(resource: Resource, token: str) -> None:
    """Raises as _call()."""
    _call(resource, token, "POST", f"/addons/{resource.id}/actions/provision", {})


def mark_deprovisioned(resource: Resource, token: str) -> None:
    """Raises as _call()."""
    _call(resource, token, "POST", f"/addons/{resource.id}/actions/deprovision", {})


def get_addon(resource: Resource, token: str) -> Mapping[str, object]:
    """The add-on as the platform has it. Raises as _call()."""
    return _call(resource, token, "GET", f"/addons/{resource.id}").fields


def get_attachments(resource: Resource, token: str) -> list[Mapping[str, object]]:
    """Its attachments as the platform has them. Raises as _call()."""
    body = _call(resource, token, "GET", f"/addons/{resource.id}/addon-attachments").body
    if not isinstance(body, list):
        raise PlatformUnavailable("the platform answered no list of attachments")
    return [row for row in body if isinstance(row, dict)]


def get_webhooks(resource: Resource, token: str) -> list[Mapping[str, object]]:
    """Those of the add-on. Raises as _call()."""
    body = _call(resource, token, "GET", f"/addons/{resource.id}/webhooks").body
    if not isinstance(body, list):
        raise PlatformUnavailable("the platform answered no list of webhooks")
    return [row for row in body if isinstance(row, dict)]


def change_webhook(
    resource: Resource, token: str, webhook_id: str, changes: Mapping[str, object]
) -> None:
    """Raises as _call()."""
    _call(resource, token, "PATCH", f"/addons/{resource.id}/webhooks/{webhook_id}", changes)


def create_webhook(resource: Resource, token: str, webhook: Mapping[str, object]) -> None:
    """Raises as _call()."""
    _call(resource, token, "POST", f"/addons/{resource.id}/webhooks", webhook)


def _call(
    resource: Resource,
    token: str,
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
) -> Answer:
    """Raises UnknownPlatform, PlatformGone, AccessRefused, PlatformUnavailable."""
    headers = {"Accept": ACCEPT, "Authorization": f"Bearer {token}"}
    answer = _send(method, _platform(resource) + path, headers=headers, body=body)
    if answer.status in {404, 410}:
        raise PlatformGone(answer.status)
    if answer.status == 401:
        raise AccessRefused("the platform does not take the access token")
    if not 200 <= answer.status < 300:
        raise PlatformUnavailable(f"the platform answered {answer.status}")
    return answer


def _send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    body: Mapping[str, object] | None = None,
    form: Mapping[str, str] | None = None,
) -> Answer:
    try:
        return json_client.call(
            method,
            url,
            timeout_s=CALL_TIMEOUT_S,
            headers=headers,
            auth=auth,
            body=body,
            form=form,
        )
    except NoAnswer as error:
        raise PlatformUnavailable(str(error)) from None
