"""The web process with a clock at each stage of a request: `granian … bench.timed_web:application`.

For one request at a time; never to be served for real.
"""

import inspect
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from config.asgi import application as annex  # sets Django up, which the others need

# isort: split

from bench.spans import LOG_VARIABLE, WebSpans
from billing.metering import Ledger
from billing.rate_limits import Limiter
from inference import embeddings, views
from inference.dialects import openai
from inference.dispatch import Dispatcher

_log = Path(os.environ[LOG_VARIABLE] + ".web").open("ab", buffering=0)  # noqa: SIM115 - as long as the process
_spans: dict[str, tuple[float, float]] = {}


def _time(owner: Any, name: str, stage: str) -> None:
    """Note when the stage began and ended, whether its function is asynchronous or not."""
    function: Callable[..., Any] = getattr(owner, name)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        answer = await function(*args, **kwargs)
        _spans[stage] = started, time.perf_counter()
        return answer

    def called(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        answer = function(*args, **kwargs)
        _spans[stage] = started, time.perf_counter()
        return answer

    setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


_time(views, "authenticate", "authenticate")
_time(views, "read_body", "read body")
_time(openai, "decode_fields", "parse")
_time(embeddings, "tokenize_texts", "tokenise")
_time(Limiter, "reserve", "reserve")
_time(Dispatcher, "encode", "encode")
_time(openai, "_render", "render")
_time(Ledger, "record", "meter")


async def application(scope: Any, receive: Any, send: Any) -> None:
    _spans.clear()
    started = time.perf_counter()
    await annex(scope, receive, send)
    if "meter" in _spans:
        spans = WebSpans(total=(started, time.perf_counter()), stages=_spans)
        with suppress(OSError):
            _log.write(msgspec.json.encode(spans) + b"\n")
