"""Calls to one upstream: bounded in number and in time, in fair order, and tried again."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Protocol

import httpx
import numpy as np
from numpy.typing import NDArray

from inference.tokenization import Truncate
from inference.upstream.answers import (
    ANSWER_MAX_BYTES,
    AnswerInvalid,
    find_retry_after_s,
    is_operators_fault,
    is_temporary,
    read_vectors,
)
from inference.upstream.circuit import Circuit
from inference.upstream.entries import CredentialsUnusable
from inference.upstream.slots import Slots

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 4
BACKOFF_S = 0.25
BACKOFF_MAX_S = 4.0
CONNECT_TIMEOUT_S = 5.0
KEEP_ALIVE_S = 30.0
# An upstream that was silent for less than this may only have been asked too late.
SILENCE_S = 5.0
RETRY_AFTER_S = 5.0
# What only an operator can change takes longer.
MISCONFIGURED_RETRY_AFTER_S = 60.0
# The longest wait that a client is told; an upstream may say anything.
RETRY_AFTER_MAX_S = 3600.0


class UpstreamUnavailable(Exception):
    """The upstream does not answer, or not in time; worth trying again in `retry_after_s`."""

    def __init__(self, model_id: str, reason: str, retry_after_s: float = RETRY_AFTER_S) -> None:
        super().__init__(reason)
        self.model_id = model_id
        self.retry_after_s = math.ceil(min(max(retry_after_s, 1.0), RETRY_AFTER_MAX_S))


class UpstreamRejected(Exception):
    """The upstream refuses what it was sent, and would again."""

    def __init__(self, model_id: str, status: int) -> None:
        super().__init__(f"its upstream answered {status}")
        self.model_id = model_id
        self.status = status


class UpstreamFailed(Exception):
    """The upstream answered with something else than the vectors that were asked for."""

    def __init__(self, model_id: str) -> None:
        super().__init__("its upstream answered without the vectors")
        self.model_id = model_id


class _Temporary(Exception):
    """An attempt failed, and the next may not. `wait_s` is what the upstream asks for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Api(Protocol):
    """What differs between kinds of upstreams."""

    body_max_bytes: int

    def body(self, texts: Sequence[str], *, input_type: str, truncate: Truncate) -> bytes:
        """The body of a call."""

    async def address(self, body: bytes) -> tuple[str, dict[str, str]]:
        """Where a body goes, and its headers, the secret among them. Raises CredentialsUnusable."""

    def status(self, status: int, answer: bytes) -> int:
        """The status of a refusal as HTTP means it."""


class Calls:
    """Those of one process to the upstream `api` of one model; `name` is for the log.

    Waiting calls are in the fair queue; one that is to be tried again waits there anew.
    """

    def __init__(
        self,
        api: Api,
        *,
        model_id: str,
        name: str,
        dimensions: int,
        max_concurrent: int,
        tls: SSLContext,
    ) -> None:
        self._api = api
        self._model_id = model_id
        self._name = name
        self._dimensions = dimensions
        self._slots = Slots(max_concurrent)
        self._circuit = Circuit()
        self._client = httpx.AsyncClient(
            headers={
                "accept": "application/json",
                "content-type": "application/json",
                "user-agent": "annex",
            },
            limits=httpx.Limits(
                max_connections=max_concurrent,
                max_keepalive_connections=max_concurrent,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the deadline ends the rest
            verify=tls,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def embed(
        self, body: bytes, texts: int, *, flow_id: str, tokens: int, deadline_at: float
    ) -> NDArray[np.float32]:
        """Vectors (texts, D) float32 of unit length. Raises UpstreamUnavailable, UpstreamRejected,
        UpstreamFailed."""
        attempt = 1
        while True:
            try:
                async with self._slots.take(flow_id, tokens=tokens, deadline_at=deadline_at):
                    answer = await self._attempt(body, deadline_at)
                return read_vectors(answer, (texts, self._dimensions))
            except _Temporary as failure:
                await self._back_off(attempt, failure, deadline_at)
                attempt += 1
            except TimeoutError:
                raise self._unavailable("too much waits for its upstream") from None
            except AnswerInvalid as error:
                raise UpstreamFailed(self._model_id) from error

    async def _back_off(self, attempt: int, failure: _Temporary, deadline_at: float) -> None:
        """Wait until the next attempt. Raises UpstreamUnavailable where there is none."""
        wait_s = failure.wait_s
        if wait_s is None:
            wait_s = min(BACKOFF_MAX_S, BACKOFF_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        if attempt >= MAX_ATTEMPTS or time.time() + wait_s >= deadline_at:
            retry_after_s = failure.wait_s or RETRY_AFTER_S
            raise self._unavailable(str(failure), retry_after_s) from failure.__cause__
        await asyncio.sleep(wait_s)

    async def _attempt(self, body: bytes, deadline_at: float) -> bytes:
        if wait_s := self._circuit.wait_s(now=time.monotonic()):
            raise self._unavailable("its upstream has not answered for a while", wait_s)
        seconds_left = deadline_at - time.time()
        try:
            async with asyncio.timeout(max(0.0, seconds_left)):
                status, headers, answer = await self._post(body)
        except CredentialsUnusable as error:
            logger.error("%s (%s) cannot be called: %s", self._model_id, self._name, error)
            reason = "its upstream is not set up"
            raise self._unavailable(reason, MISCONFIGURED_RETRY_AFTER_S) from None
        except TimeoutError:
            if seconds_left >= SILENCE_S:
                self._circuit.fail(now=time.monotonic())
            raise self._unavailable("its upstream did not answer in time") from None
        except httpx.TransportError as error:
            self._circuit.fail(now=time.monotonic())
            raise _Temporary("its upstream cannot be reached") from error
        except httpx.DecodingError as error:
            raise AnswerInvalid("the answer cannot be decompressed") from error
        if status != 200:
            self._refuse(self._api.status(status, answer), headers)
        self._circuit.succeed()
        return answer

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        url, headers = await self._api.address(body)
        async with self._client.stream("POST", url, content=body, headers=headers) as response:
            answer = bytearray()
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > ANSWER_MAX_BYTES:
                    raise AnswerInvalid(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
        return response.status_code, response.headers, bytes(answer)

    def _refuse(self, status: int, headers: httpx.Headers) -> None:
        """Raise what a status other than 200 means. What the upstream says of it is not repeated:
        it may quote the texts, or the key."""
        if status >= 500:
            self._circuit.fail(now=time.monotonic())
        else:
            self._circuit.succeed()
        if is_temporary(status):
            wait_s = find_retry_after_s(headers, datetime.now(UTC))
            raise _Temporary(f"its upstream answered {status}", wait_s)
        if is_operators_fault(status):
            logger.error(
                "%s (%s) answered %d: its key, its account or the name there is wrong",
                self._model_id,
                self._name,
                status,
            )
            reason = "its upstream does not let us in"
            raise self._unavailable(reason, MISCONFIGURED_RETRY_AFTER_S)
        raise UpstreamRejected(self._model_id, status)

    def _unavailable(
        self, reason: str, retry_after_s: float = RETRY_AFTER_S
    ) -> UpstreamUnavailable:
        return UpstreamUnavailable(self._model_id, reason, retry_after_s)
