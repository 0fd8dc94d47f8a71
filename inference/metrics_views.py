"""`GET /metrics`: what a Prometheus reads; there only where METRICS_KEY is set."""

import asyncio
import hmac

from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone

from billing.metrics import CONTENT_TYPE, render_metrics
from inference.authentication import InvalidKey, KeysUnavailable, MissingKey
from inference.database import run_in_database_thread
from inference.http import Response, UnknownPath, find_header
from inference.views import Request

READ_TIMEOUT_S = 10.0


async def get_metrics(request: Request) -> Response:
    """Raises UnknownPath, MissingKey, InvalidKey, KeysUnavailable."""
    if not settings.METRICS_KEY:
        raise UnknownPath(request.scope["path"])
    given = find_header(request.scope, b"authorization")
    if given is None:
        raise MissingKey
    if not hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_KEY}".encode()):
        raise InvalidKey
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            body = await run_in_database_thread(render_metrics, timezone.now())
    except (DatabaseError, TimeoutError) as error:
        raise KeysUnavailable("the database cannot be asked") from error
    return Response(body=body, headers={"content-type": CONTENT_TYPE})
