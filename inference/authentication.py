"""Authentication: the bearer key of a request to the attachment that it belongs to.

Looked-up keys are remembered for KEY_CACHE_S seconds, so a revoked key is refused within that time
in every web process, and other limits and caps hold. Keys that are not known are never remembered.
A key in use is looked up again before that time has passed, so that its requests wait for no query;
those that come while it is looked up wait for the one that is under way.
"""

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from addon.provider.credentials import Identity, find_identity
from billing.limits import effective_limits, find_caps, find_overrides
from billing.models import LimitOverride, Plan
from billing.plans import default_model_id, find_plan, worker_pool
from billing.prices import PriceVersion, price_at, prices_of
from billing.rate_limits import Cap, Limits
from billing.subscriptions import find_customer_id
from inference.catalogue import load_catalogue
from inference.database import run_in_database_thread
from inference.pools import pool_name, served_regions

logger = logging.getLogger(__name__)

CACHE_MAX_KEYS = 10_000
LOOK_UP_TIMEOUT_S = 10.0
# In the last part of KEY_CACHE_S a key that is used is looked up again.
RENEWED_IN_LAST = 0.25


class MissingKey(Exception):
    """The request carries no bearer key."""


class InvalidKey(Exception):
    """The bearer key is malformed, unknown or revoked."""


class WrongRegion(Exception):
    """The key's resource is in a region that this process does not serve."""

    def __init__(self, region: str) -> None:
        super().__init__(region)
        self.region = region


class KeysUnavailable(Exception):
    """The database cannot be asked whom a key belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A plan with its prices, as PostgreSQL had them at `read_at` by its clock, `read_s` by our
    monotonic one."""

    plan: Plan
    prices: tuple[PriceVersion, ...]
    read_at: datetime
    read_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking, who pays, and what they may do."""

    identity: Identity
    customer_id: uuid.UUID
    offer: Offer
    overrides: tuple[LimitOverride, ...]
    caps: tuple[Cap, ...]

    @property
    def plan_name(self) -> str:
        return self.offer.plan.name

    @property
    def pool(self) -> str:
        """Of the workers that compute for it."""
        name = worker_pool(self.offer.plan, self.identity.resource_id)
        return pool_name(self.identity.region, name)

    @property
    def model_id(self) -> str:
        """What config vars say, and what answers where a request names none."""
        return default_model_id(self.offer.plan, self.identity.options)

    @property
    def serves_all_models(self) -> bool:
        return self.offer.plan.serves_all_models

    def now(self) -> datetime:
        """By PostgreSQL's clock, so that this host's does not decide what a request costs."""
        return self.offer.read_at + timedelta(seconds=time.monotonic() - self.offer.read_s)

    def price(self, at: datetime) -> PriceVersion:
        """The version of the plan's price at that time. Raises PlanHasNoPrice."""
        return price_at(self.offer.prices, at)

    def limits_for(self, model_id: str) -> Limits:
        model = load_catalogue().get(model_id)
        defaults = (self.offer.plan,) if model is None else (model, self.offer.plan)
        return effective_limits(model_id, self.overrides, *defaults)


@dataclass(kw_only=True, slots=True)
class _Known:
    """A key that is remembered `until` then, in monotonic seconds."""

    caller: Caller
    until: float
    is_renewed: bool = False  # or it was tried, which is enough


@dataclass(frozen=True, kw_only=True, slots=True)
class _LookUp:
    """One under way. What it finds may have been so at its start, and is good `until` then."""

    task: "asyncio.Task[Caller | None]"
    until: float


_cache: OrderedDict[str, _Known] = OrderedDict()
_looking_up: dict[str, _LookUp] = {}
_offers: dict[tuple[str, str], Offer] = {}


async def authenticate(authorization: str | None) -> Caller:
    """The caller that the Authorization header names. Raises MissingKey, InvalidKey, WrongRegion,
    KeysUnavailable."""
    caller = await _identify(authorization)
    if caller.identity.region not in served_regions():
        raise WrongRegion(caller.identity.region)
    return caller


async def _identify(authorization: str | None) -> Caller:
    """The caller, wherever it belongs. Raises as `authenticate`."""
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise MissingKey
    known = _cache.get(key)
    left_s = known.until - time.monotonic() if known is not None else 0.0
    if known is not None and left_s > 0:
        if left_s < settings.KEY_CACHE_S * RENEWED_IN_LAST and not known.is_renewed:
            known.is_renewed = True
            _look_up(key).add_done_callback(_note_failure)
        return known.caller
    try:
        caller = await asyncio.shield(_look_up(key))
    except (DatabaseError, TimeoutError) as error:
        raise KeysUnavailable("the database cannot be reached") from error
    if caller is None:
        raise InvalidKey
    return caller


def _look_up(key: str) -> "asyncio.Task[Caller | None]":
    """Whose key it is, to be remembered; one look-up for all who ask at about the same time."""
    now = time.monotonic()
    under_way = _looking_up.get(key)
    if under_way is not None and now < under_way.until:
        return under_way.task
    until = now + settings.KEY_CACHE_S
    task = asyncio.create_task(_find_and_remember(key, until))
    _looking_up[key] = _LookUp(task=task, until=until)
    task.add_done_callback(partial(_has_looked_up, key))
    return task


async def _find_and_remember(key: str, until: float) -> Caller | None:
    async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
        caller = await run_in_database_thread(_find_caller, key)
    if caller is None:
        _cache.pop(key, None)
        return None
    until = min(until, caller.offer.read_s + settings.KEY_CACHE_S)
    known = _cache.pop(key, None)
    if known is None or known.until < until:
        known = _Known(caller=caller, until=until)
    _cache[key] = known
    while len(_cache) > CACHE_MAX_KEYS:
        _cache.popitem(last=False)
    return caller


def _has_looked_up(key: str, task: "asyncio.Task[Caller | None]") -> None:
    under_way = _looking_up.get(key)
    if under_way is not None and under_way.task is task:  # else a later one took its place
        del _looking_up[key]
    if not task.cancelled():
        task.exception()  # is raised to those who wait; there may be none


def _note_failure(task: "asyncio.Task[Caller | None]") -> None:
    """What is remembered stays good until its end."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("a key could not be looked up again: %r", error)


def _find_caller(key: str) -> Caller | None:
    identity = find_identity(key)
    if identity is None:
        return None
    offer = _find_offer(identity.service_name, identity.plan_slug)
    if offer is None:
        return None
    customer_id = find_customer_id(identity.resource_id) or identity.resource_id
    return Caller(
        identity=identity,
        customer_id=customer_id,
        offer=offer,
        overrides=find_overrides(identity.attachment_id, customer_id),
        caps=find_caps(customer_id, identity.app_name, identity.attachment_id),
    )


def _find_offer(service_name: str, slug: str) -> Offer | None:
    """Read for all keys together: there are few plans. A key is not remembered for longer than its
    offer, so one that is half as old is read anew."""
    known = _offers.get((service_name, slug))
    if known is not None and time.monotonic() - known.read_s < settings.KEY_CACHE_S / 2:
        return known
    plan = find_plan(service_name, slug)
    if plan is None:
        return None
    prices = prices_of(plan)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (read_at,) = cursor.fetchone()
    offer = Offer(plan=plan, prices=prices, read_at=read_at, read_s=time.monotonic())
    _offers[service_name, slug] = offer
    return offer
