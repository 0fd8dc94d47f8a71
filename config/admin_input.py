"""What Django's admin looks up in the database as it came, and the database cannot look for.

An id that is none of its table's, or NUL in a filter, ends in an exception there. That is the
request's fault, so it is a 400; the log has the exception all the same.
"""

import logging
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase

logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, ValidationError, DataError, RecursionError)


class AdminInput:
    """Middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not request.path.startswith("/admin/") or not isinstance(error, UNREADABLE):
            return None
        logger.error("the admin could not carry out %s", request.path, exc_info=error)
        return HttpResponseBadRequest(
            "The admin could not read this: an id, a filter or a field is not of the form that its "
            "table has.",
            content_type="text/plain",
        )
