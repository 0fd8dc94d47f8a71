"""Web sessions of accounts: who is logged in on the pages. The admin's are Django's own.

A session is a secret in a cookie, new at each login; Redis knows its digest, and whose it is. It
ends after LASTS_S, by logging out, and when the account's password is changed.
"""

import hashlib
import secrets

from django.utils.crypto import constant_time_compare, salted_hmac

from addon.platform.models import Account
from addon.redis_client import redis_client

COOKIE = "annex_session"
LASTS_S = 14 * 24 * 3_600


def open_session(account: Account) -> str:
    """Its secret."""
    secret = secrets.token_urlsafe(32)
    redis_client().set(_key(secret), f"{account.id} {_password_mark(account)}", ex=LASTS_S)
    return secret


def find_account(secret: str) -> Account | None:
    """Whose session it is; None when it has ended or never was."""
    stored = redis_client().get(_key(secret)) if secret else None
    if not isinstance(stored, bytes):
        return None
    account_id, _, mark = stored.decode().partition(" ")
    account = Account.objects.filter(id=account_id).first()
    if account is None or not constant_time_compare(mark, _password_mark(account)):
        return None
    return account


def close_session(secret: str) -> None:
    """Safe to call twice."""
    redis_client().delete(_key(secret))


def _key(secret: str) -> str:
    return f"platform:web_session:{hashlib.sha256(secret.encode()).hexdigest()}"


def _password_mark(account: Account) -> str:
    """Another one for each password, and no way back to its hash."""
    return salted_hmac("addon.platform.web_sessions", account.password).hexdigest()
