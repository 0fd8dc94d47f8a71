"""Django under ASGI with one thread for a whole request.

Django's own handler changes thread for each signal, for each middleware that is synchronous, for
the view and for the end of the response, and starts a thread anew for every request. All of the
control plane is synchronous, so here a thread takes the request from its start to its end and is
used again: the connection to the database is given back in it, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeAlias

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import connections
from django.http import HttpResponseBase
from django.urls import set_script_prefix

# As Django's own handler has them.
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]

# More than a web process takes on at once (--backpressure in the Procfile), and started as they are
# needed. An order waits in its thread for the provider, who may be another thread of this process.
THREADS_MAX = 1100


class DjangoHandler(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="django")

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        in_thread = asyncio.get_running_loop().run_in_executor
        response = await in_thread(self._threads, self._answer, scope, body)
        if not response.streaming:
            await self.send_response(response, send)
            return
        try:
            await self._stream(response, receive, send)
        finally:
            await in_thread(self._threads, response.close)

    def _answer(self, scope: dict[str, Any], body: IO[bytes]) -> Any:
        """The response; one that is not streamed is closed already, for nothing more is done."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = refusal if request is None else self.get_response(request)
        response._handler_class = type(self)
        if response.streaming:
            connections.close_all()  # what it streams comes from elsewhere, and may take minutes
        else:
            response.close()
            body.close()
        return response

    async def _stream(self, response: HttpResponseBase, receive: Receive, send: Send) -> None:
        """Until it ends or the client hangs up."""
        sending = asyncio.ensure_future(self.send_response(response, send))
        hanging_up = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait([sending, hanging_up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            hanging_up.cancel()
            sending.cancel()
            outcomes = await asyncio.gather(sending, hanging_up, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, RequestAborted):
                raise outcome
