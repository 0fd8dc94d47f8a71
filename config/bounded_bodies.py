"""A limit on bodies for Django, which stores one whole before any view can refuse it."""

from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

from inference.http import ASGIApplication, Receive, Scope, Send, find_header, json_response


class BoundedBodies:
    """Refuses bodies over `max_bytes` with 413, those of undeclared length once they pass it."""

    def __init__(self, application: ASGIApplication, *, max_bytes: int) -> None:
        self._application = application
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = find_header(scope, b"content-length") if scope["type"] == "http" else None
        if declared is not None and declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(send)
            return
        size = 0

        async def bounded_receive() -> MutableMapping[str, Any]:
            nonlocal size
            event = await receive()
            size += len(event.get("body", b""))
            return {"type": "http.disconnect"} if size > self._max_bytes else event

        await self._application(scope, bounded_receive, send)
        if size > self._max_bytes:  # to Django it looked like a client that hung up
            await self._refuse(send)

    async def _refuse(self, send: Send) -> None:
        message = f"The body must have at most {self._max_bytes} bytes."
        content = {"id": "request_entity_too_large", "message": message}
        headers = {"connection": "close", "request-id": str(uuid4())}
        await json_response(content, status=413, headers=headers).send(send)
