"""What a provider calls the Platform API with, about one add-on: a grant's code is exchanged for
tokens, as OAuth 2.0 has it (RFC 6749, 4.1.3 and 6). Only digests are kept.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction

from addon.json_api import is_storable, iso
from addon.lifecycle import State
from addon.platform.authorizations import digest
from addon.platform.models import Addon, AddonService, PartnerGrant, PartnerToken
from addon.statements import insert

CODE_LASTS = timedelta(minutes=5)
ACCESS_LASTS = timedelta(hours=8)
TOKENS_MAX = 10  # that are live of one grant: each refresh makes one
PREFIX = "HRKU-AA-"  # of access tokens: which table to look in


class InvalidGrant(Exception):
    """The code or refresh token is unknown, used or expired."""


class InvalidClient(Exception):
    """The client secret is not that of the add-on service."""


class AddonGone(Exception):
    """The add-on was deprovisioned, or is being so; so nothing can be done to it any more."""

    def __init__(self, addon: Addon) -> None:
        super().__init__(f"The add-on {addon.name} was deprovisioned")


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A grant as a provider receives it, once."""

    code: str = field(repr=False)
    expires_at: datetime

    def as_sent(self) -> dict[str, object]:
        return {
            "code": self.code,
            "expires_at": iso(self.expires_at),
            "type": "authorization_code",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: int
    owner_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Partner:
    """A provider that calls about one add-on, which may be deprovisioned."""

    addon: Addon


def issue_grant(addon: Addon, now: datetime) -> Issued | None:
    """None for a service that has no client secret to exchange it with."""
    if not addon.service.oauth_client_secret:
        return None
    if addon.attempts > 1:
        _forget_unused(addon, now)
    code = str(uuid4())  # as Heroku's
    expires_at = now + CODE_LASTS
    insert(
        PartnerGrant(addon=addon, code_digest=digest(code), expires_at=expires_at, created_at=now)
    )
    return Issued(code=code, expires_at=expires_at)


def exchange(code: str, client_secret: str, now: datetime) -> Tokens:
    """The tokens for a code, which ends. Raises InvalidGrant, InvalidClient, AddonGone."""
    with transaction.atomic():
        grant = _lock(code_digest=digest(code))
        _check_client(grant, client_secret)
        if grant.exchanged_at is not None or grant.expires_at <= now:
            raise InvalidGrant("The code was exchanged before, or has expired")
        refresh_token = _new_token()
        grant.exchanged_at, grant.refresh_digest = now, digest(refresh_token)
        grant.save(update_fields=["exchanged_at", "refresh_digest"])
        # Whoever asks for tokens anew has lost those before.
        grant.addon.grants.exclude(exchanged_at=None).exclude(id=grant.id).delete()
        return _issue_tokens(grant, refresh_token, now)


def refresh(refresh_token: str, client_secret: str, now: datetime) -> Tokens:
    """Another access token; the refresh token stays good for as long as the add-on lives.

    Raises InvalidGrant, InvalidClient, AddonGone.
    """
    with transaction.atomic():
        grant = _lock(refresh_digest=digest(refresh_token))
        _check_client(grant, client_secret)
        return _issue_tokens(grant, refresh_token, now)


def _lock(**which: str) -> PartnerGrant:
    locked = PartnerGrant.objects.select_for_update(of=("self",))
    grant = locked.select_related("addon__service", "addon__app").filter(**which).first()
    if grant is None:
        raise InvalidGrant("There is no such code or refresh token")
    return grant


def _check_client(grant: PartnerGrant, client_secret: str) -> None:
    secret = grant.addon.service.oauth_client_secret
    if not secret or not hmac.compare_digest(secret.encode(), client_secret.encode()):
        raise InvalidClient("The client secret is not that of the add-on service")
    if grant.addon.state == State.DEPROVISIONED:
        raise AddonGone(grant.addon)


def _issue_tokens(grant: PartnerGrant, refresh_token: str, now: datetime) -> Tokens:
    access_token = PREFIX + _new_token()
    newest = grant.tokens.filter(expires_at__gt=now).order_by("-created_at")
    kept = list(newest.values_list("id", flat=True)[: TOKENS_MAX - 1])
    grant.tokens.exclude(id__in=kept).delete()
    PartnerToken.objects.create(
        grant=grant, digest=digest(access_token), expires_at=now + ACCESS_LASTS, created_at=now
    )
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_in_s=int(ACCESS_LASTS.total_seconds()),
        owner_id=grant.addon.app.owner_id,
    )


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def find_partner(access_token: str, now: datetime) -> Partner | None:
    """Whose token it is, unless it is unknown or has expired."""
    if not access_token.startswith(PREFIX):
        return None
    live = PartnerToken.objects.filter(digest=digest(access_token), expires_at__gt=now)
    related = live.select_related(
        "grant__addon__app__owner__team", "grant__addon__service", "grant__addon__plan"
    )
    found = related.first()
    return None if found is None else Partner(addon=found.grant.addon)


def regrant(service: AddonService, addon_id: UUID, now: datetime) -> Issued | None:
    """Another grant for a provider that has lost the tokens, or was away while the code was good.

    None where `service` has no such add-on. Raises AddonGone.
    """
    found = Addon.objects.filter(id=addon_id, service=service).select_related("service").first()
    if found is None:
        return None
    if found.state == State.DEPROVISIONED:
        raise AddonGone(found)
    _forget_unused(found, now)  # whatever was attempted
    return issue_grant(found, now)


def _forget_unused(addon: Addon, now: datetime) -> None:
    """What nobody exchanged in time; else a provider that asks again and again would fill them."""
    addon.grants.filter(exchanged_at=None, expires_at__lte=now).delete()


def find_service(name: str, password: str) -> AddonService | None:
    """The add-on service that calls by its manifest's id and password."""
    service = AddonService.objects.filter(name=name).first() if is_storable(name) else None
    known = "" if service is None else service.password
    is_right = hmac.compare_digest(known.encode(), password.encode())
    return service if is_right and known else None
