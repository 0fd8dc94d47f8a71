"""Clients of a round: with an idempotency key one repeats its request until it is answered; without
one it never does."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.chaos.faults import HEADER, encode
from tests.chaos.schedule import MODEL_ID, Request

# What a client waits for one answer, far beyond the deadline of the service.
ATTEMPT_MAX_S = 20.0
ANSWERED_WITHIN_S = 60.0
PAUSE_S = 0.1
REPEATED_STATUSES = (409, 429, 500, 502, 503)

# "unreached": no connection was made; "broken": one was made, and ended without an answer; "hung":
# neither an answer nor an end came.
Outcome = Literal["answered", "refused", "broken", "unreached", "hung"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """`at`, `took_s`: unix seconds, seconds. `event_id`: that of the usage event it names."""

    at: float
    took_s: float
    outcome: Outcome
    url: str
    status: int = 0
    body: bytes = b""
    request_id: str = ""
    original_request_id: str = ""

    @property
    def event_id(self) -> str:
        return self.original_request_id or self.request_id

    def __str__(self) -> str:
        return f"{self.outcome} {self.status or ''} {self.request_id} in {self.took_s:.3f} s"


@dataclass(kw_only=True)
class Exchange:
    """A request and all that was tried; the answers of a keyed one are all the same."""

    request: Request
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def answers(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.outcome == "answered"]

    def vectors(self) -> NDArray[np.float64]:
        """(B, D), of the first answer."""
        data = httpx.Response(200, content=self.answers[0].body).json()["data"]
        return np.array([row["embedding"] for row in data])

    def __str__(self) -> str:
        tried = "; ".join(map(str, self.attempts))
        return f"request {self.request.number}: {tried}"


class Client:
    """Sends requests with one bearer key, each attempt to another of the web processes."""

    def __init__(self, http: httpx.AsyncClient, urls: Sequence[str], key: str, seed: int) -> None:
        self._http = http
        self._urls = urls
        self._key = key
        self._seed = seed

    async def exchange(self, request: Request) -> Exchange:
        """The whole exchange of a request; ends within ANSWERED_WITHIN_S, answered or not."""
        rng = random.Random(f"{self._seed} {request.number}")
        exchange = Exchange(request=request)
        await asyncio.sleep(request.start_s)
        give_up_at = time.monotonic() + ANSWERED_WITHIN_S
        first_url = rng.randrange(len(self._urls))
        wanted = 2 if request.asks_again else 1
        while len(exchange.answers) < wanted and time.monotonic() < give_up_at:
            url = self._urls[(first_url + len(exchange.attempts)) % len(self._urls)]
            exchange.attempts.append(await self._attempt(url, request))
            last = exchange.attempts[-1]
            is_final = last.outcome == "refused" and last.status not in REPEATED_STATUSES
            if is_final or (request.key is None and last.outcome != "unreached"):
                break
            if len(exchange.answers) < wanted:
                await asyncio.sleep(PAUSE_S * rng.uniform(0.5, 1.5))
        return exchange

    async def _attempt(self, url: str, request: Request) -> Attempt:
        headers = {"authorization": f"Bearer {self._key}"}
        if request.key is not None:
            headers["idempotency-key"] = request.key
        if request.faults:
            headers[HEADER] = encode(request.faults).decode()
        body = {"model": MODEL_ID, "input": request.texts, "encoding_format": "float"}
        at, began = time.time(), time.monotonic()

        def attempt(outcome: Outcome, response: httpx.Response | None = None) -> Attempt:
            return Attempt(
                at=at,
                took_s=time.monotonic() - began,
                outcome=outcome,
                url=url,
                status=response.status_code if response else 0,
                body=response.content if response else b"",
                request_id=response.headers["x-request-id"] if response else "",
                original_request_id=response.headers.get("original-request-id", "")
                if response
                else "",
            )

        try:
            response = await self._http.post(f"{url}/v1/embeddings", json=body, headers=headers)
        except httpx.ConnectError:
            return attempt("unreached")
        except httpx.TimeoutException:
            return attempt("hung")
        except httpx.TransportError:
            return attempt("broken")
        return attempt("answered" if response.status_code == 200 else "refused", response)


def open_http() -> httpx.AsyncClient:
    """Connections that are never used twice: a client cannot know that of a dead process."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(limits=limits, timeout=ATTEMPT_MAX_S, trust_env=False)
