"""Answers about an account's authorizations and notifications."""

import uuid
from datetime import datetime

from addon.json_api import iso
from addon.platform.models import Authorization, Notification
from addon.platform.serializers import Answer


def authorization_json(authorization: Authorization, token: str | None, now: datetime) -> Answer:
    """`token` only where its holder gets it or has sent it; to others it is hinted at."""
    account = authorization.account
    return {
        "access_token": {
            "expires_in": _expires_in_s(authorization, now),
            # Another one for each token that the authorization has had.
            "id": str(uuid.uuid5(authorization.id, authorization.token_digest)),
            "token": token or authorization.token_hint,
        },
        "client": None,
        "created_at": iso(authorization.created_at),
        "description": authorization.description,
        "grant": None,
        "id": str(authorization.id),
        "refresh_token": None,
        "scope": authorization.scope,
        "session": None,
        "updated_at": iso(authorization.updated_at),
        "user": {
            "email": account.email,
            "full_name": account.name or None,
            "id": str(account.id),
        },
    }


def _expires_in_s(authorization: Authorization, now: datetime) -> int | None:
    if authorization.expires_at is None:
        return None
    return max(0, int((authorization.expires_at - now).total_seconds()))


def notification_json(notification: Notification) -> Answer:
    if notification.app_id is None:
        target = {"id": str(notification.account_id), "type": "user"}
    else:
        target = {"id": str(notification.app_id), "type": "app"}
    return {
        "body": notification.body,
        "created_at": iso(notification.created_at),
        "followup": [],
        "id": str(notification.id),
        "read": notification.is_read,
        "target": target,
        "title": notification.title,
    }
