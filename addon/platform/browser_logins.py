"""Browser logins: `heroku login` opens a page, a person agrees there, the CLI gets a token.

A login is in Redis for as long as the CLI waits for it. Its id is in the address of the page; its
secret, which only the CLI has, collects the answer. The first answer counts, and is given once.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from redis.asyncio import Redis
from redis.exceptions import RedisError

from addon.database_connections import release_connection
from addon.platform.authorizations import LOGIN_LASTS, create_authorization
from addon.platform.models import Account
from addon.redis_client import redis_client

logger = logging.getLogger(__name__)

# As long as the CLI waits.
LASTS_S = 600
POLL_S = 0.5
# Below what proxies let a silent connection live: Heroku's router 55 s, nginx 60 s.
KEEP_ALIVE_S = 15.0
DENIED = ""


class LoginExpired(Exception):
    """The login is over, was answered already, or never was."""

    def __init__(self) -> None:
        super().__init__("This login has expired or was used. Run `heroku login` again.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BrowserLogin:
    """`description` and `address` are the CLI's: what the person is asked about."""

    id: str
    description: str
    address: str
    secret_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    login: BrowserLogin
    secret: str


def begin(description: str, address: str) -> Begun:
    secret = secrets.token_urlsafe(32)
    login = BrowserLogin(
        id=secrets.token_urlsafe(32),
        description=description,
        address=address,
        secret_digest=_digest(secret),
    )
    redis_client().set(_key(login.id), json.dumps(asdict(login)), ex=LASTS_S)
    return Begun(login=login, secret=secret)


def get_login(login_id: str) -> BrowserLogin:
    """One that nobody has answered. Raises LoginExpired."""
    login = _find(login_id)
    if login is None or redis_client().exists(_answer_key(login_id)):
        raise LoginExpired
    return login


def get_waiting(login_id: str, secret: str) -> BrowserLogin:
    """The login that the holder of `secret` waits for. Raises LoginExpired."""
    login = _find(login_id)
    if login is None or not hmac.compare_digest(login.secret_digest, _digest(secret)):
        raise LoginExpired
    return login


def decide(login: BrowserLogin, account: Account | None) -> None:
    """Log the CLI in as `account`, or deny it. Raises LoginExpired when somebody has decided."""
    decision = DENIED if account is None else str(account.id)
    if not redis_client().set(_answer_key(login.id), decision, ex=LASTS_S, nx=True):
        raise LoginExpired


async def answer(login: BrowserLogin) -> AsyncIterator[bytes]:
    """JSON for the CLI, `access_token` or `error`, as soon as the person has decided.

    Until then a space now and then, which JSON allows there, keeps the connection open. While it
    waits it holds no connection to the database; of one login only the latest waits, for the CLI
    asks again when its connection breaks.
    """
    waiter, quiet_s = secrets.token_hex(8), 0.0
    try:
        async with Redis.from_url(
            settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5, decode_responses=True
        ) as redis:
            await redis.set(_waiter_key(login.id), waiter, ex=LASTS_S)
            while (decision := await _collect(redis, login.id, waiter)) is None:
                await asyncio.sleep(POLL_S)
                quiet_s += POLL_S
                if quiet_s >= KEEP_ALIVE_S:
                    quiet_s = 0.0
                    yield b" "
    except LoginExpired as error:
        yield _error(str(error))
    except RedisError:
        logger.exception("a browser login ended because Redis cannot be reached")
        yield _error("Annex cannot log you in at the moment. Please try again.")
    else:
        yield await _outcome(login, decision)


async def _collect(redis: Redis, login_id: str, waiter: str) -> str | None:
    """The decision, once; None while there is none. Raises LoginExpired."""
    key, answer_key = _key(login_id), _answer_key(login_id)
    is_there, latest = await redis.mget(key, _waiter_key(login_id))
    if is_there is None or latest != waiter:
        raise LoginExpired
    decision = await redis.getdel(answer_key)
    if decision is None:
        return None
    await redis.delete(key)
    return str(decision)


async def _outcome(login: BrowserLogin, decision: str) -> bytes:
    if decision == DENIED:
        return _error("The login was denied in the browser.")
    token = await sync_to_async(_issue)(login, decision, timezone.now())
    return json.dumps({"access_token": token}).encode()


def _issue(login: BrowserLogin, account_id: str, now: datetime) -> str:
    try:
        account = Account.objects.get(id=account_id)
        expires_at = now + LOGIN_LASTS
        return create_authorization(account, login.description, expires_at=expires_at).token
    finally:
        release_connection()


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def _find(login_id: str) -> BrowserLogin | None:
    stored = redis_client().get(_key(login_id))
    return BrowserLogin(**json.loads(stored)) if isinstance(stored, bytes) else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(login_id: str) -> str:
    return f"platform:browser_login:{login_id}"


def _answer_key(login_id: str) -> str:
    return f"{_key(login_id)}:answer"


def _waiter_key(login_id: str) -> str:
    return f"{_key(login_id)}:waiter"
