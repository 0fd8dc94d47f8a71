"""Grants: how the provider comes to a token with which it may call the platform about a resource.

The platform sends a code with a provision request. It is exchanged within five minutes for an
access token, which lasts hours, and a refresh token, which lasts as long as the add-on. Exchanging
and refreshing are done under a lease, by one process at a time; no transaction is open meanwhile.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import F, Q

from addon import leases
from addon.provider import platform_client
from addon.provider.models import Grant, Resource
from addon.provider.platform_client import (
    GrantRefused,
    PlatformUnavailable,
    Tokens,
    find_platform,
)
from addon.statements import insert_unless_there

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]

CODE_LASTS = timedelta(minutes=5)
# A token is not used in its last minutes: a call may take a while, and clocks differ.
REFRESHED_BEFORE_EXPIRY = timedelta(minutes=5)
# Renewed while it is worked on; ends before that of the resource, whoever dies.
LEASE = timedelta(seconds=8)


class NoGrant(Exception):
    """The platform sent none, so it cannot be called about this resource."""


class GrantBusy(PlatformUnavailable):
    """Another process is exchanging or refreshing just now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OAuthGrant:
    """What a provision request carries."""

    code: str = field(repr=False)
    expires_at: datetime | None = None


def is_usable(grant: OAuthGrant | None, callback_url: str) -> bool:
    """Whether the platform can be called back with it: it is one of those that are listed."""
    return grant is not None and find_platform(callback_url) is not None


def keep(resource: Resource, grant: OAuthGrant | None, now: datetime) -> None:
    """Remember a grant, within the transaction of the request that brought it. One of a repeat
    takes the place of one that was not exchanged yet."""
    if grant is None or not is_usable(grant, resource.callback_url):
        return
    expires_at = min(grant.expires_at or now + CODE_LASTS, now + CODE_LASTS)
    row = Grant(resource=resource, code=grant.code, code_expires_at=expires_at, created_at=now)
    if not insert_unless_there(row):
        unused = Grant.objects.filter(resource=resource, access_expires_at=None)
        unused.update(code=grant.code, code_expires_at=expires_at)


def may_call(resource: Resource) -> bool:
    """Whether the resource's platform can be called back: it is listed, and sent a grant."""
    is_listed = find_platform(resource.callback_url) is not None
    return is_listed and Grant.objects.filter(resource=resource).exists()


def access_token(resource: Resource, clock: Clock) -> str:
    """A token for calls about `resource`, exchanged or refreshed first where that is due.

    Raises NoGrant, UnknownPlatform, PlatformGone, PlatformUnavailable.
    """
    grant = Grant.objects.filter(resource=resource).first()
    if grant is None:
        raise NoGrant(f"The platform sent no grant with the resource {resource.id}")
    if _lasts(grant, clock() + REFRESHED_BEFORE_EXPIRY):
        return grant.access_token
    if not _lease(grant, clock()):
        if _lasts(grant, clock()):
            return grant.access_token
        raise GrantBusy("another process is asking for an access token")
    try:
        with leases.kept(partial(_keep_lease, grant)):
            return _renew(resource, grant, clock)
    finally:
        Grant.objects.filter(resource=resource).update(leased_until=None)


def _lasts(grant: Grant, until: datetime) -> bool:
    return grant.access_expires_at is not None and grant.access_expires_at > until


def _lease(grant: Grant, now: datetime) -> bool:
    """Whether `grant`, as it was read, is ours for a while."""
    free = Grant.objects.filter(
        Q(leased_until=None) | Q(leased_until__lte=now),
        resource=grant.resource_id,
        access_expires_at=grant.access_expires_at,
    )
    return free.update(leased_until=now + LEASE) == 1


def _keep_lease(grant: Grant, longer_by: timedelta) -> bool:
    ours = Grant.objects.filter(resource=grant.resource_id).exclude(leased_until=None)
    return ours.update(leased_until=F("leased_until") + longer_by) == 1


def _renew(resource: Resource, grant: Grant, clock: Clock) -> str:
    if grant.refresh_token:
        try:
            return _store(grant, platform_client.refresh(resource, grant.refresh_token), clock)
        except GrantRefused:
            logger.warning("%s: its refresh token is refused; asking for a grant", resource.id)
    elif grant.code and grant.code_expires_at and grant.code_expires_at > clock():
        try:
            return _store(grant, platform_client.exchange_code(resource, grant.code), clock)
        except GrantRefused:
            # Perhaps it was exchanged, and the answer was lost with the process that asked.
            logger.warning("%s: its code is refused; asking for another", resource.id)
    code = platform_client.ask_for_code(resource)
    return _store(grant, platform_client.exchange_code(resource, code), clock)


def _store(grant: Grant, tokens: Tokens, clock: Clock) -> str:
    grant.access_token = tokens.access_token
    grant.access_expires_at = clock() + timedelta(seconds=tokens.expires_in_s)
    grant.refresh_token = tokens.refresh_token or grant.refresh_token
    # No row is left where the resource was deprovisioned meanwhile: then nothing is kept.
    Grant.objects.filter(resource=grant.resource_id).update(
        access_token=grant.access_token,
        access_expires_at=grant.access_expires_at,
        refresh_token=grant.refresh_token,
        code="",
    )
    return grant.access_token


def forget_access(resource_id: UUID) -> None:
    """The platform does not take the access token: it is refreshed before the next call."""
    known = Grant.objects.filter(resource=resource_id).exclude(access_expires_at=None)
    known.update(access_expires_at=F("created_at"))  # long ago, and not never


def is_exchanged(resource: Resource) -> bool:
    return not Grant.objects.filter(resource=resource, access_expires_at=None).exists()


def discard(resource: Resource) -> None:
    """The platform wants to hear no more of the resource, or is to be told no more."""
    Grant.objects.filter(resource=resource).delete()
