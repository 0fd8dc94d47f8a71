"""The standing of a caller whose request is refused: its answer has the headers of a good one."""

import asyncio
import logging
from dataclasses import dataclass

from redis.exceptions import RedisError

from billing.rate_limits import Limiter, LimiterUnavailable, Standing, subject_of
from inference.authentication import Caller
from inference.catalogue import load_catalogue
from inference.dialects.json_bodies import find_model_id

logger = logging.getLogger(__name__)

# A refusal waits no longer for its headers.
TIMEOUT_S = 0.5


@dataclass(kw_only=True, slots=True)
class Asked:
    """Who asks for which model, as far as it is known yet. `model_id` is what the route says, where
    it does; else the body says it."""

    caller: Caller | None = None
    model_id: str | None = None
    body: bytes = b""


async def find_standing(asked: Asked, limiter: Limiter) -> Standing | None:
    """The caller's with the model; None where nobody is known, or the limiter does not answer."""
    caller = asked.caller
    if caller is None:
        return None
    model_id = _served_model_id(asked, caller)
    subject = subject_of(caller.identity.attachment_id, model_id)
    limits = caller.limits_for(model_id)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await limiter.standing(caller.customer_id, subject, limits)
    except (RedisError, LimiterUnavailable, TimeoutError) as error:
        logger.warning("%s: how it stands is not known (%r)", subject, error)
        return None


def _served_model_id(asked: Asked, caller: Caller) -> str:
    """The model asked for; that of the caller's plan where the plan serves no such model."""
    wanted = asked.model_id or find_model_id(asked.body)
    is_served = wanted in load_catalogue() and caller.serves_all_models
    return wanted if wanted and is_served else caller.model_id
