"""What the pages for people have in common, whichever side serves them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views import View
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# Nothing but our own style sheet is loaded, and forms are sent to nobody else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """How a page tells a person of an exception; `text` may have {error}, what that says."""

    status: int
    title: str
    text: str


class BasePage(View):
    """Never kept, never framed; a page in the side's own style for every exception of `refusals`,
    and where the database or Redis cannot be reached."""

    message_template: str
    refusals: Mapping[type[Exception], Refusal] = {}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = super().dispatch(request, *args, **kwargs)
        except tuple(self.refusals) as error:
            refusal = self.refusals[type(error)]
            text = refusal.text.format(error=error)
            response = self.say(request, refusal.title, text, refusal.status)
        except (RedisError, OperationalError, InterfaceError):
            logger.exception("a page cannot be shown")
            response = self.say(request, "Not available", "Please try again in a minute.", 503)
        response["Cache-Control"] = "no-store"
        response.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    @classmethod
    def say(cls, request: HttpRequest, title: str, text: str, status: int = 200) -> HttpResponse:
        """A page with nothing to do on it."""
        context = {"title": title, "text": text, "account": None}
        return render(request, cls.message_template, context, status=status)
