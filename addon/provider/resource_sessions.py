"""Sessions of the pages of one resource each: whom a platform has sent here by single sign-on.

A session is a secret in a cookie that browsers send to the pages of that resource only; Redis knows
its digest. It has nothing to do with the sessions of the platform's pages or of the admin. It is
short, for nobody tells the provider when somebody's access to the app ends.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from uuid import UUID

from addon.provider.sign_ons import SignOn
from addon.redis_client import redis_client

COOKIE = "annex_resource"
LASTS_S = 3_600


class NotSignedOn(Exception):
    """There is no session of this resource, or none any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceSession:
    resource_id: UUID
    email: str
    app: str


def open_session(sign_on: SignOn) -> str:
    """Its secret."""
    secret = secrets.token_urlsafe(32)
    stored = {"resource": str(sign_on.resource_id), "email": sign_on.email, "app": sign_on.app}
    redis_client().set(_key(secret), json.dumps(stored), ex=LASTS_S)
    return secret


def get_session(secret: str, resource_id: UUID) -> ResourceSession:
    """Raises NotSignedOn, also for a session of another resource."""
    stored = redis_client().get(_key(secret)) if secret else None
    if not isinstance(stored, bytes):
        raise NotSignedOn
    said = json.loads(stored)
    if said["resource"] != str(resource_id):
        raise NotSignedOn
    return ResourceSession(resource_id=resource_id, email=said["email"], app=said["app"])


def close_session(secret: str) -> None:
    """Safe to call twice."""
    redis_client().delete(_key(secret))


def _key(secret: str) -> str:
    return f"provider:session:{hashlib.sha256(secret.encode()).hexdigest()}"
