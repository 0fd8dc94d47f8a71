"""Refusals by hard budgets, told of: what they refuse is never spent, so no sum would show it."""

import asyncio
import logging
import uuid
from collections import OrderedDict
from datetime import datetime

from django.db import Error as DatabaseError
from django.utils import timezone

from billing.budgets import tell_cap_reached
from billing.rate_limits import Cap, SpendCapReached
from inference.database import run_in_database_thread

logger = logging.getLogger(__name__)

TOLD_MAX = 10_000
TIMEOUT_S = 2.0

_told: OrderedDict[tuple[uuid.UUID, Cap, datetime], None] = OrderedDict()


async def tell_of_refusal(customer_id: uuid.UUID, refusal: SpendCapReached) -> None:
    """Once a month, cap and process; the database sees to it that it is once in all. A database
    that fails is asked again at the next refusal."""
    cap = refusal.cap
    key = (customer_id, cap, refusal.resets_at)
    if key in _told:
        return
    _told[key] = None
    if len(_told) > TOLD_MAX:
        _told.popitem(last=False)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await run_in_database_thread(
                tell_cap_reached, customer_id, cap.scope, cap.scope_id, timezone.now()
            )
    except (DatabaseError, TimeoutError) as error:
        _told.pop(key, None)
        logger.warning("could not tell of the cap of %s %s: %r", cap.scope, cap.scope_id, error)
