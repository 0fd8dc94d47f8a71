"""Answers that are only wanted if: ETag, If-None-Match, If-Match."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import http_date
from rest_framework.request import Request


class PreconditionFailed(Exception):
    def __init__(self) -> None:
        super().__init__(
            "The ETag in If-Match is not, or that in If-None-Match is, the one of what is here "
            "now: GET it again"
        )


def note_version(answer: HttpResponse) -> None:
    """Give `answer`, which is rendered, its ETag, and its Last-Modified where it says when."""
    answer["ETag"] = f'"{sha256(answer.content).hexdigest()}"'
    # A stored answer must be asked about: what Last-Modified alone allows is too much for config.
    answer["Cache-Control"] = "private, no-cache"
    data = getattr(answer, "data", None)
    if isinstance(data, Mapping) and isinstance(updated_at := data.get("updated_at"), str):
        answer["Last-Modified"] = http_date(datetime.fromisoformat(updated_at).timestamp())


def apply_to(request: Request, current: HttpResponse) -> HttpResponse:
    """`current`, or a 304 for a client that has it. Raises PreconditionFailed.

    `current` is what a GET answers. Only ETags are compared: within one second, the step of
    If-Modified-Since, much may change.
    """
    # Looks at the method, the headers and the path, which are those of Django's request.
    found = get_conditional_response(request._request, current["ETag"], response=current)
    if found is None or found.status_code == 412:
        raise PreconditionFailed
    return found
