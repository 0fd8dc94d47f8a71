"""Keys: how they look, and whom one identifies.

A key is `inf_`, 43 base62 characters of secret (256 bits) and 6 of CRC32 over what precedes them,
so that a mistyped key is refused without a look at the database, and a leaked one is recognised by
scanners. The database is asked by the key's SHA-256; a secret of 256 bits needs no slower hash.
"""

import hashlib
import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from addon.provider.models import Attachment, Credential
from addon.statements import insert
from billing.compiled_queries import CompiledQuery

PREFIX = "inf_"
SECRET_CHARACTERS = 43
CHECKSUM_CHARACTERS = 6
HINT_CHARACTERS = 8
KEY_CHARACTERS = len(PREFIX) + SECRET_CHARACTERS + CHECKSUM_CHARACTERS

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Whom a key belongs to."""

    credential_id: UUID
    attachment_id: UUID
    attachment_name: str
    app_name: str
    resource_id: UUID
    service_name: str
    plan_slug: str
    region: str
    options: Mapping[str, str]
    has_log_stream: bool


def new_key() -> str:
    body = PREFIX + "".join(secrets.choice(_BASE62) for _ in range(SECRET_CHARACTERS))
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether `key` could be one of ours. Asks no database."""
    if len(key) != KEY_CHARACTERS or not key.startswith(PREFIX) or not key.isascii():
        return False
    body, checksum = key[:-CHECKSUM_CHARACTERS], key[-CHECKSUM_CHARACTERS:]
    return _checksum(body) == checksum


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def issue(attachment: Attachment, now: datetime) -> Credential:
    """A new key for `attachment`, beside those that it has."""
    key = new_key()
    credential = Credential(
        attachment=attachment,
        digest=_digest(key),
        key=key,
        hint=key[:HINT_CHARACTERS],
        created_at=now,
    )
    insert(credential)
    return credential


def retire(attachment: Attachment, expires_at: datetime, now: datetime) -> None:
    """Let every live key of `attachment` end at `expires_at`, unless it ends before."""
    live = attachment.credentials.live(now)
    live.filter(Q(expires_at=None) | Q(expires_at__gt=expires_at)).update(expires_at=expires_at)


def revoke(attachment: Attachment, now: datetime) -> None:
    """Revoke every key of `attachment`; idempotent."""
    attachment.credentials.filter(revoked_at=None).update(revoked_at=now)


def newest_key(attachment: Attachment) -> str | None:
    """The key that config vars show: the newest that nothing ends."""
    current = attachment.credentials.filter(revoked_at=None, expires_at=None)
    newest = current.order_by("-created_at").first()
    return None if newest is None else newest.key


def find_identity(key: str) -> Identity | None:
    """Whom `key` belongs to, in one query.

    None for a key that is malformed, unknown, revoked or past its end by PostgreSQL's clock, and
    when its attachment is detached or its resource deprovisioned.
    """
    if not is_well_formed(key):
        return None
    credential = _live_with.first(_digest(key))
    return None if credential is None else _identity(credential)


@CompiledQuery
def _live_with(digest: str) -> QuerySet[Credential]:
    live = Credential.objects.live(Now()).filter(
        digest=digest,
        attachment__detached_at=None,
        attachment__resource__deprovisioned_at=None,
    )
    return live.select_related("attachment__resource").defer("key")


def _identity(credential: Credential) -> Identity:
    attachment = credential.attachment
    return Identity(
        credential_id=credential.id,
        attachment_id=attachment.id,
        attachment_name=attachment.name,
        app_name=attachment.app_name,
        resource_id=attachment.resource.id,
        service_name=settings.ADDON_SERVICE_NAME,
        plan_slug=attachment.resource.plan_slug,
        region=attachment.resource.region,
        options=attachment.resource.options,
        has_log_stream=attachment.resource.log_input_url != "",
    )
