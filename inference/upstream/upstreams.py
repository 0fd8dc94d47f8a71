"""The upstreams of a web process, in place of its workers where the catalogue says so.

An upstream is sent text, and puts its own prompts to it. What was cut off a text here is not sent:
it is embedded as far as its answer says. Vectors are asked for as floats of the model's full
dimension; cutting and quantising are done in one place, ours.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from ssl import SSLContext

import httpx
import numpy as np
from numpy.typing import NDArray

from inference.catalogue import Model
from inference.tokenization import TokenBatch, Truncate
from inference.upstream.calls import Api, Calls
from inference.upstream.cohere import CohereApi
from inference.upstream.entries import CohereUpstream, SageMakerUpstream, Upstream


class Upstreams:
    """One per web process, and event loop; `stop` ends its connections."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Api, Calls]] = {}

    async def stop(self) -> None:
        for _, calls in self._calls.values():
            await calls.close()

    async def embed(
        self,
        model: Model,
        texts: Sequence[str],
        batch: TokenBatch,
        *,
        input_type: str,
        truncate: Truncate,
        flow_id: str,
        deadline_at: float,
    ) -> NDArray[np.float32]:
        """Unit vectors (B, D) float32 of B texts, as `batch` counted and cut them.

        `model` has an upstream. `flow_id` is whom it is fair to; `deadline_at` is in unix seconds.
        Raises UpstreamUnavailable, UpstreamRejected, UpstreamFailed.
        """
        api, calls = self._connect(model)
        left = [batch.cut.get(index, text) for index, text in enumerate(texts)]
        # A text that was cut may have a token more when it is tokenised anew: that may go. Where
        # nothing was cut, nothing may go unnoticed.
        end: Truncate = truncate if batch.cut else "none"
        parts = [
            await calls.embed(
                body,
                count,
                flow_id=flow_id,
                tokens=batch.token_count,
                deadline_at=deadline_at,
            )
            for body, count in _bodies(api, left, input_type=input_type, truncate=end)
        ]
        return np.concatenate(parts)

    def _connect(self, model: Model) -> tuple[Api, Calls]:
        if model.id not in self._calls:
            upstream = model.upstream
            if upstream is None:
                raise ValueError(f"{model.id} has no upstream")
            api = _open(upstream)
            self._calls[model.id] = (
                api,
                Calls(
                    api,
                    model_id=model.id,
                    name=str(upstream),
                    dimensions=model.dimensions,
                    max_concurrent=upstream.max_concurrent,
                    tls=_tls(),
                ),
            )
        return self._calls[model.id]


def _open(upstream: Upstream) -> Api:
    match upstream:
        case CohereUpstream():
            return CohereApi(upstream)
        case SageMakerUpstream():
            # Here, because boto3 takes 32 MB of every process that imports it.
            from inference.upstream.sagemaker import SageMakerApi

            return SageMakerApi(upstream)


def _bodies(
    api: Api, texts: Sequence[str], *, input_type: str, truncate: Truncate
) -> Iterator[tuple[bytes, int]]:
    """The calls that texts take, in order, and how many texts are in each: halves, and halves of
    those, where they are more bytes than the upstream takes at once."""
    body = api.body(texts, input_type=input_type, truncate=truncate)
    if len(body) <= api.body_max_bytes or len(texts) == 1:
        yield body, len(texts)
        return
    middle = len(texts) // 2
    for half in (texts[:middle], texts[middle:]):
        yield from _bodies(api, half, input_type=input_type, truncate=truncate)


@cache
def _tls() -> SSLContext:
    return httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds
