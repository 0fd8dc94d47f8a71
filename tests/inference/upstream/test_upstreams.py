"""Calls to a stand-in of Cohere's API: what is sent, retried, refused, and how much at once."""

import asyncio
import logging
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from inference.catalogue import Model
from inference.upstream.calls import (
    MAX_ATTEMPTS,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamUnavailable,
)
from inference.upstream.circuit import FAILURES_TO_OPEN
from inference.upstream.entries import CohereUpstream
from tests.inference.upstream.conftest import Embed
from tests.inference.upstream.stand_in import (
    DIMENSIONS,
    KEY,
    StandIn,
    answers,
    answers_after,
    answers_half,
    drops,
    unit_vectors,
)


async def test_texts_become_unit_vectors_in_order(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    texts = ["a cat", "тест 🙂", 'a "quoted" \n line']
    vectors = await embed(cohere, texts, input_type="search_query")
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, unit_vectors(texts), atol=1e-6)
    (call,) = stand_in.calls
    assert call.path == "/v2/embed"
    assert call.body == {
        "model": "embed-v4.0",
        "texts": texts,
        "input_type": "search_query",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }


async def test_what_was_cut_off_is_not_sent(embed: Embed, cohere: Model, stand_in: StandIn) -> None:
    vectors = await embed(cohere, ["a cat", "law is long"], cut={1: "long"}, truncate="start")
    assert np.allclose(vectors, unit_vectors(["a cat", "long"]), atol=1e-6)
    assert stand_in.calls[0].body["truncate"] == "START"


async def test_calls_in_turn_share_a_connection(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    for _ in range(3):
        await embed(cohere, ["a"])
    assert (len(stand_in.calls), stand_in.connections) == (3, 1)


@pytest.mark.parametrize(
    "behaviour",
    [
        answers(408),
        answers(429, {"message": "slow down"}, {"retry-after": "0"}),
        answers(500, "<html>"),
        answers(503),
        drops,
        answers_half,
    ],
    ids=["408", "429", "500", "503", "dropped", "half"],
)
async def test_a_call_that_failed_is_tried_again(
    embed: Embed, cohere: Model, stand_in: StandIn, behaviour: object
) -> None:
    stand_in.next.append(behaviour)  # type: ignore[arg-type]
    assert np.allclose(await embed(cohere, ["a"]), unit_vectors(["a"]), atol=1e-6)
    assert len(stand_in.calls) == 2


async def test_retry_after_is_waited_for(embed: Embed, cohere: Model, stand_in: StandIn) -> None:
    stand_in.next.append(answers(429, headers={"retry-after": "1"}))
    started = time.monotonic()
    await embed(cohere, ["a"])
    assert time.monotonic() - started >= 1.0


async def test_no_retry_comes_after_the_deadline(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    stand_in.next.append(answers(429, headers={"retry-after": "30"}))
    started = time.monotonic()
    with pytest.raises(UpstreamUnavailable, match="429") as refused:
        await embed(cohere, ["a"], within_s=20.0)
    assert refused.value.retry_after_s == 30
    assert time.monotonic() - started < 15.0
    assert len(stand_in.calls) == 1


async def test_attempts_are_bounded(embed: Embed, cohere: Model, stand_in: StandIn) -> None:
    stand_in.next.extend([answers(429, headers={"retry-after-ms": "5"})] * 20)
    with pytest.raises(UpstreamUnavailable, match="its upstream answered 429"):
        await embed(cohere, ["a"])
    assert len(stand_in.calls) == MAX_ATTEMPTS


async def test_an_upstream_that_is_not_there_is_unavailable(embed: Embed, cohere: Model) -> None:
    upstream = CohereUpstream(model="embed-v4.0", url="http://127.0.0.1:1")
    model = msgspec.structs.replace(cohere, upstream=upstream)
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await embed(model, ["a"])


async def test_an_answer_after_the_deadline_is_not_waited_for(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    stand_in.next.append(answers_after(30.0))
    started = time.monotonic()
    with pytest.raises(UpstreamUnavailable, match="did not answer in time"):
        await embed(cohere, ["a"], within_s=0.3)
    assert time.monotonic() - started < 15.0


async def test_an_upstream_that_is_down_is_not_asked_for_a_while(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    stand_in.next.extend([answers(503, headers={"retry-after": "0"})] * 50)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await embed(cohere, ["a"])
    assert len(stand_in.calls) == FAILURES_TO_OPEN
    with pytest.raises(UpstreamUnavailable, match="has not answered for a while") as refused:
        await embed(cohere, ["a"])
    assert 1 <= refused.value.retry_after_s <= 5
    assert len(stand_in.calls) == FAILURES_TO_OPEN


@pytest.mark.parametrize(("silence_s", "is_down"), [(0.05, True), (5.0, False)])
async def test_an_upstream_is_down_when_it_is_silent_for_long(
    embed: Embed,
    cohere: Model,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    silence_s: float,
    is_down: bool,
) -> None:
    monkeypatch.setattr("inference.upstream.calls.SILENCE_S", silence_s)
    stand_in.next.extend([answers_after(0.6)] * FAILURES_TO_OPEN)
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(UpstreamUnavailable, match="in time"):
            await embed(cohere, ["a"], within_s=0.3)
    if is_down:
        with pytest.raises(UpstreamUnavailable, match="for a while"):
            await embed(cohere, ["a"])
    else:
        assert np.allclose(await embed(cohere, ["a"]), unit_vectors(["a"]), atol=1e-6)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_upstream_refuses_is_not_tried_again(
    embed: Embed, cohere: Model, stand_in: StandIn, status: int
) -> None:
    stand_in.next.append(answers(status, {"message": f"invalid: {KEY} and a cat"}))
    with pytest.raises(UpstreamRejected) as refused:
        await embed(cohere, ["a cat"])
    assert refused.value.status == status
    assert str(refused.value) == f"its upstream answered {status}"
    assert len(stand_in.calls) == 1


async def test_a_wrong_key_is_the_operators_to_change(
    embed: Embed,
    cohere: Model,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("COHERE_API_KEY", "another")
    with pytest.raises(UpstreamUnavailable, match="does not let us in"):
        await embed(cohere, ["a"])
    assert f"cohere-embed-v4 (embed-v4.0 at {stand_in.url}) answered 401" in caplog.text
    assert len(stand_in.calls) == 1


@pytest.mark.parametrize("key", ["", "two words", "naïve", "line\nbreak", "nul\0"])
async def test_a_key_that_cannot_be_sent_is_named_and_not_shown(
    embed: Embed,
    cohere: Model,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    key: str,
) -> None:
    # os.environ takes no NUL, which a mapping of the tests' does
    monkeypatch.setattr("os.environ", {"COHERE_API_KEY": key})
    with pytest.raises(UpstreamUnavailable, match="not set up") as refused:
        await embed(cohere, ["a"])
    assert stand_in.calls == []
    assert "COHERE_API_KEY" in caplog.text
    if key:
        assert key not in caplog.text + repr(refused.value)


BAD_VECTORS = {
    "too few": {"embeddings": {"float": []}},
    "too many": {"embeddings": {"float": [[0.5] * DIMENSIONS] * 2}},
    "too short": {"embeddings": {"float": [[0.5] * (DIMENSIONS - 1)]}},
    "zero": {"embeddings": {"float": [[0.0] * DIMENSIONS]}},
    "null": {"embeddings": {"float": [[None] * DIMENSIONS]}},
    "another type": {"embeddings": {"int8": [[1] * DIMENSIONS]}},
    "infinite": '{"embeddings": {"float": [[1e999' + ", 1" * (DIMENSIONS - 1) + "]]}}",
    "too large": '{"embeddings": {"float": [[1e308' + ", 1e308" * (DIMENSIONS - 1) + "]]}}",
    "NaN": '{"embeddings": {"float": [[NaN' + ", 1" * (DIMENSIONS - 1) + "]]}}",
    "a page": "<html>",
    "nothing": "",
    "no UTF-8": b'{"embeddings": {"\xff": 1}}',
}


@pytest.mark.parametrize("body", BAD_VECTORS.values(), ids=BAD_VECTORS.keys())
async def test_an_answer_without_the_vectors_is_a_failure(
    embed: Embed, cohere: Model, stand_in: StandIn, body: object
) -> None:
    stand_in.next.append(answers(200, body))
    with pytest.raises(UpstreamFailed):
        await embed(cohere, ["a cat"])
    assert len(stand_in.calls) == 1


async def test_an_answer_of_api_v1_is_read(embed: Embed, cohere: Model, stand_in: StandIn) -> None:
    rows = [(2 * unit_vectors(["a"])[0]).tolist()]
    stand_in.next.append(answers(200, {"embeddings": rows, "response_type": "embeddings_floats"}))
    assert np.allclose(await embed(cohere, ["a"]), unit_vectors(["a"]), atol=1e-6)


async def test_an_answer_without_end_is_not_read_to_the_end(
    embed: Embed, cohere: Model, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.upstream.calls.ANSWER_MAX_BYTES", 1000)
    stand_in.next.append(answers(200, {"embeddings": "x" * 5000}))
    with pytest.raises(UpstreamFailed):
        await embed(cohere, ["a"])


async def test_texts_of_too_many_bytes_go_in_several_calls(
    embed: Embed, cohere: Model, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.upstream.cohere.CohereApi.body_max_bytes", 400)
    texts = [f"text {index} " + "é" * 40 for index in range(11)]
    vectors = await embed(cohere, texts)
    assert np.allclose(vectors, unit_vectors(texts), atol=1e-6)
    assert len(stand_in.calls) > 3
    assert [text for call in stand_in.calls for text in call.body["texts"]] == texts


async def test_calls_at_once_are_bounded_and_all_are_answered(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    upstream = CohereUpstream(model="embed-v4.0", url=stand_in.url, max_concurrent=3)
    model = msgspec.structs.replace(cohere, upstream=upstream)
    stand_in.next.extend([answers_after(0.05)] * 12)
    vectors = await asyncio.gather(*(embed(model, [f"{index}"]) for index in range(12)))
    expected = unit_vectors([f"{index}" for index in range(12)])
    assert np.allclose(np.concatenate(vectors), expected, atol=1e-6)
    assert stand_in.most_at_once == 3


async def test_a_newcomer_does_not_wait_for_the_backlog_of_another(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    upstream = CohereUpstream(model="embed-v4.0", url=stand_in.url, max_concurrent=1)
    model = msgspec.structs.replace(cohere, upstream=upstream)
    stand_in.next.extend([answers_after(0.05)] * 11)
    backlog = [asyncio.create_task(embed(model, ["much"] * 300)) for _ in range(10)]
    await asyncio.sleep(0.02)
    await embed(model, ["little"], flow_id="another")
    assert sum(task.done() for task in backlog) <= 3
    await asyncio.gather(*backlog)


async def test_one_that_waits_in_vain_is_refused_at_its_deadline(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    upstream = CohereUpstream(model="embed-v4.0", url=stand_in.url, max_concurrent=1)
    model = msgspec.structs.replace(cohere, upstream=upstream)
    stand_in.next.append(answers_after(1.0))
    first = asyncio.create_task(embed(model, ["a"]))
    while not stand_in.calls:
        await asyncio.sleep(0.01)
    with pytest.raises(UpstreamUnavailable, match="too much waits"):
        await embed(model, ["b"], within_s=0.1)
    await first
    assert len(stand_in.calls) == 1


async def test_a_client_that_hangs_up_ends_the_call_and_frees_its_place(
    embed: Embed, cohere: Model, stand_in: StandIn
) -> None:
    upstream = CohereUpstream(model="embed-v4.0", url=stand_in.url, max_concurrent=1)
    model = msgspec.structs.replace(cohere, upstream=upstream)
    stand_in.next.append(answers_after(2.0))
    called = asyncio.create_task(embed(model, ["a"]))
    waiting = asyncio.create_task(embed(model, ["b"]))
    await asyncio.sleep(0.1)
    for task in (called, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    started = time.monotonic()
    await embed(model, ["c"])
    assert time.monotonic() - started < 1.5
    await asyncio.sleep(2.2)
    assert stand_in.hang_ups == 1


async def test_no_log_line_exception_or_repr_holds_the_key_or_a_text(
    embed: Embed, cohere: Model, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "a confidential sentence"
    echo = {"message": f"invalid request: {text}, {KEY}"}
    errors = []
    for status in (200, 400, 401, 404, 429, 500):
        stand_in.next.extend([answers(status, echo, {"retry-after": "0"})] * MAX_ATTEMPTS)
        with pytest.raises((UpstreamUnavailable, UpstreamRejected, UpstreamFailed)) as raised:
            await embed(cohere, [text])
        errors.append(raised.value)
        stand_in.next.clear()
    causes = [error.__cause__ for error in errors]
    shown = caplog.text + repr(errors) + repr(causes) + repr(cohere) + str(cohere.upstream)
    assert KEY not in shown
    assert text not in shown


def test_a_process_without_sagemaker_does_not_import_boto3() -> None:
    program = "import inference.upstream.upstreams, sys; sys.exit('botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
