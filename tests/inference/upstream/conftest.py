"""Entries that a stand-in serves, and what calls them."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.catalogue import Model
from inference.tokenization import TokenBatch, Truncate
from inference.upstream.entries import CohereUpstream, SageMakerUpstream, Upstream
from inference.upstream.upstreams import Upstreams
from tests.inference.upstream.stand_in import (
    ACCESS_KEY_ID,
    DIMENSIONS,
    KEY,
    SECRET_ACCESS_KEY,
    StandIn,
    running_stand_in,
)

Embed = Callable[..., Coroutine[Any, Any, NDArray[np.float32]]]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with running_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    monkeypatch.setenv("TEST_AWS_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("TEST_AWS_SECRET", SECRET_ACCESS_KEY)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Without these, boto3 would look for a file of the developer's, and for an EC2 machine.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def model_of(upstream: Upstream) -> Model:
    return Model(
        id="cohere-embed-v4",
        checkpoint="embed-v4.0",
        dimensions=DIMENSIONS,
        context_tokens=128,
        max_input_characters=1_000_000,
        upstream=upstream,
    )


@pytest.fixture
def cohere(stand_in: StandIn) -> Model:
    return model_of(CohereUpstream(model="embed-v4.0", url=stand_in.url))


@pytest.fixture
def sagemaker(stand_in: StandIn) -> Model:
    return model_of(
        SageMakerUpstream(
            endpoint="embed-4",
            region="eu-central-1",
            url=stand_in.url,
            access_key_id_variable="TEST_AWS_ID",
            secret_access_key_variable="TEST_AWS_SECRET",
        )
    )


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    upstreams = Upstreams()
    yield upstreams
    await upstreams.stop()


@pytest.fixture
def embed(upstreams: Upstreams) -> Embed:
    """`Upstreams.embed` of texts of one token each, of which `cut` says what is left of some."""

    async def embed_now(
        model: Model,
        texts: Sequence[str],
        *,
        cut: dict[int, str] | None = None,
        input_type: str = "search_document",
        truncate: Truncate = "end",
        flow_id: str = "one",
        within_s: float = 10.0,
    ) -> NDArray[np.float32]:
        ones = np.ones(len(texts), dtype=np.int32)
        return await upstreams.embed(
            model,
            texts,
            TokenBatch(ids=ones, lengths=ones, whole_lengths=ones, cut=cut or {}),
            input_type=input_type,
            truncate=truncate,
            flow_id=flow_id,
            deadline_at=time.time() + within_s,
        )

    return embed_now
