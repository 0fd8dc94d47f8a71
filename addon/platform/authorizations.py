"""Access tokens: issued to an account, found again by their SHA-256."""

import hashlib
import uuid
from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from addon.platform.models import Account, Authorization

PREFIX = "HRKU-"


def create_authorization(account: Account, description: str) -> Authorization:
    """A new access token that does not expire, e.g. for HEROKU_API_KEY."""
    token = f"{PREFIX}{uuid.uuid4()}"
    authorization = Authorization.objects.create(
        account=account,
        description=description,
        access_token=token,
        token_digest=_digest(token),
    )
    Account.objects.filter(id=account.id).update(last_login=timezone.now())
    return authorization


def find_authorization(token: str, now: datetime) -> Authorization | None:
    """The authorization of `token`, unless it is unknown, revoked or expired."""
    live = Authorization.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=now), token_digest=_digest(token), revoked_at=None
    )
    return live.select_related("account").defer("access_token").first()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
