"""Request ids: what we call a request, in its answer and in the log.

A client may send ids too, as a list separated by commas: the heroku CLI puts a UUID of its own
first, and then those of our earlier answers. Needs nothing of Django's apps: logging starts first.
"""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from uuid import uuid4

from django.http import HttpRequest, HttpResponseBase

HEADER = "Request-Id"

_mark: ContextVar[str] = ContextVar("request_mark", default="")


class RequestIds:
    """Middleware: a new id for every request, in its answer and in what is logged meanwhile."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = str(uuid4())
        token = _mark.set(_mark_of(request_id, request.headers.get(HEADER, "")))
        try:
            answer = self._get_response(request)
        finally:
            _mark.reset(token)
        answer[HEADER] = request_id
        return answer


class RequestMark(logging.Filter):
    """Gives log records a `request_mark`: "" or the ids of the request that they are about."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_mark = _mark.get()
        return True


def _mark_of(request_id: str, sent: str) -> str:
    """What the client sent is only repeated where it can do no harm in a log."""
    first = sent.partition(",")[0].strip()
    client = f", the client's {first}" if re.fullmatch(r"[\w-]{1,64}", first, re.ASCII) else ""
    return f"[request {request_id}{client}] "
