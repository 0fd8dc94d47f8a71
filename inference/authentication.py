"""Authentication: the bearer key of a request to the attachment that it belongs to.

Looked-up keys are remembered for KEY_CACHE_S seconds, so a revoked key is refused within that time
in every web process. Keys that are not known are never remembered.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from addon.provider.credentials import Identity, find_identity
from billing.plans import find_plan, worker_pool
from billing.rate_limits import Limits
from inference.database import run_in_database_thread

CACHE_MAX_KEYS = 10_000
LOOK_UP_TIMEOUT_S = 10.0


class MissingKey(Exception):
    """The request carries no bearer key."""


class InvalidKey(Exception):
    """The bearer key is malformed, unknown or revoked."""


class KeysUnavailable(Exception):
    """The database cannot be asked whom a key belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking, and what they may do."""

    identity: Identity
    limits: Limits
    pool: str  # of the workers that compute for it
    model_id: str  # what config vars say, and what answers where a request names none
    serves_all_models: bool

    @property
    def plan_name(self) -> str:
        return f"{self.identity.service_name}:{self.identity.plan_slug}"


_cache: OrderedDict[str, tuple[float, Caller]] = OrderedDict()


async def authenticate(authorization: str | None) -> Caller:
    """The caller that the Authorization header names. Raises MissingKey, InvalidKey,
    KeysUnavailable."""
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise MissingKey
    now = time.monotonic()
    cached = _cache.get(key)
    if cached is not None and cached[0] > now:
        return cached[1]
    _cache.pop(key, None)
    try:
        async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
            caller = await run_in_database_thread(_find_caller, key)
    except (DatabaseError, TimeoutError) as error:
        raise KeysUnavailable("the database cannot be reached") from error
    if caller is None:
        raise InvalidKey
    _cache[key] = (now + settings.KEY_CACHE_S, caller)
    while len(_cache) > CACHE_MAX_KEYS:
        _cache.popitem(last=False)
    return caller


def _find_caller(key: str) -> Caller | None:
    identity = find_identity(key)
    if identity is None:
        return None
    plan = find_plan(identity.service_name, identity.plan_slug)
    if plan is None:
        return None
    limits = Limits(requests=plan.requests_per_minute, tokens=plan.tokens_per_minute)
    pool = worker_pool(plan, identity.resource_id)
    return Caller(
        identity=identity,
        limits=limits,
        pool=pool,
        model_id=plan.model_id,
        serves_all_models=plan.serves_all_models,
    )
