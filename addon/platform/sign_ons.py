"""Single sign-on at the platform: the form that takes a person from here to an add-on's provider.

It is signed with the salt of the provider's manifest, with every token that providers may check:
Heroku's of today and those from before. It counts for five minutes.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from addon.lifecycle import State
from addon.platform.access import Permission, permissions_on, visible_to
from addon.platform.models import Account, Addon, App, AttachmentState
from addon.single_sign_on import resource_token, user_scoped_resource_token

EXTRA_MAX = 20
EXTRA_MAX_CHARACTERS = 2_000


class NoSignOn(Exception):
    """This account cannot be taken to the provider of this add-on now; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignOnForm:
    action: str
    params: Mapping[str, str] = field(repr=False)


def sign(
    addon: Addon, account: Account, context: App, extra: Mapping[str, str], now: datetime
) -> SignOnForm:
    """`context` is the app that the person comes from, `extra` what the link says besides.

    What a page at the provider can do is for who may deploy: the provider is not told more of a
    person than who it is. Raises NoSignOn.
    """
    service = addon.service
    if not service.sso_url or not service.sso_salt:
        raise NoSignOn(f"{service.human_name} has no pages of its own")
    if addon.state != State.PROVISIONED:
        raise NoSignOn(f"It is {addon.state}; its provider can be visited when it is provisioned")
    if Permission.DEPLOY not in permissions_on(addon.app, account):
        raise NoSignOn(f"Only who may deploy to {addon.app.name} can open it at its provider")
    said = {**_said(addon, account, context), **_tokens(addon, account, now)}
    return SignOnForm(action=service.sso_url, params={**_bounded(extra), **said})


def context_app(addon: Addon, account: Account, name: str) -> App:
    """The app of that name, if `account` sees it and the add-on is attached to it; else the one
    that owns the add-on."""
    attached = App.objects.filter(
        visible_to(account),
        name=name,
        attachments__addon=addon,
        attachments__state=AttachmentState.ATTACHED,
    )
    return attached.first() or addon.app


def _tokens(addon: Addon, account: Account, now: datetime) -> dict[str, str]:
    salt, timestamp = addon.service.sso_salt, str(int(now.timestamp()))
    resource_id, user = str(addon.id), (str(account.id), account.email)
    return {
        "timestamp": timestamp,
        "resource_id": resource_id,
        "resource_token": resource_token(resource_id, salt, timestamp),
        "user_scoped_resource_token": user_scoped_resource_token(
            resource_id, salt, timestamp, *user
        ),
        "id": addon.provider_id,
        "token": resource_token(addon.provider_id, salt, timestamp),
    }


def _said(addon: Addon, account: Account, context: App) -> dict[str, str]:
    return {
        "user_id": str(account.id),
        "email": account.email,
        "app": addon.app.name,
        "context_app": context.name,
        "nav-data": _nav_data(addon, context),
    }


def _nav_data(addon: Addon, context: App) -> str:
    """What providers' navigation showed in version 1: base64url without padding."""
    shown = {"addon": addon.service.human_name, "appname": context.name}
    return base64.urlsafe_b64encode(json.dumps(shown).encode()).decode().rstrip("=")


def _bounded(extra: Mapping[str, str]) -> dict[str, str]:
    fits = {name: value for name, value in extra.items() if len(value) <= EXTRA_MAX_CHARACTERS}
    return dict(list(fits.items())[:EXTRA_MAX])
