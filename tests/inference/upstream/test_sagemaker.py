"""Calls to a SageMaker endpoint: signed as AWS wants it, understood as its runtime answers."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator

import boto3
import httpx
import msgspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from inference.catalogue import Model
from inference.upstream.calls import UpstreamRejected, UpstreamUnavailable
from inference.upstream.entries import SageMakerUpstream
from inference.upstream.sagemaker import SageMakerApi
from tests.inference.upstream.conftest import Embed
from tests.inference.upstream.stand_in import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    StandIn,
    answers,
    answers_after,
    unit_vectors,
    vector_of,
)


async def test_a_signed_call_gets_vectors(
    embed: Embed, sagemaker: Model, stand_in: StandIn
) -> None:
    vectors = await embed(sagemaker, ["a cat", "ein Hund 🐕"], input_type="clustering")
    assert np.allclose(vectors, unit_vectors(["a cat", "ein Hund 🐕"]), atol=1e-6)
    (call,) = stand_in.calls
    assert call.path == "/endpoints/embed-4/invocations"
    assert call.body == {
        "texts": ["a cat", "ein Hund 🐕"],
        "input_type": "clustering",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }


async def test_boto3s_own_client_makes_the_same_call(
    embed: Embed, sagemaker: Model, stand_in: StandIn
) -> None:
    await embed(sagemaker, ["a cat"])
    client = boto3.client(
        "sagemaker-runtime",
        region_name="eu-central-1",
        endpoint_url=stand_in.url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )
    answer = await asyncio.to_thread(
        client.invoke_endpoint,
        EndpointName="embed-4",
        ContentType="application/json",
        Accept="application/json",
        Body=json.dumps(stand_in.calls[0].body),
    )
    rows = json.loads(answer["Body"].read())["embeddings"]["float"]
    assert np.allclose(rows[0], vector_of("a cat"))  # the stand-in accepts boto3's signature too
    ours, theirs = stand_in.calls
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    for name in ("content-type", "accept", "host"):
        assert ours.headers[name] == theirs.headers[name]


@pytest.mark.parametrize(("end", "name"), [("start", "LEFT"), ("end", "RIGHT")])
async def test_ends_are_called_as_the_package_calls_them(
    embed: Embed, sagemaker: Model, stand_in: StandIn, end: str, name: str
) -> None:
    await embed(sagemaker, ["a cat"], cut={0: "cat"}, truncate=end)
    assert stand_in.calls[0].body["truncate"] == name
    assert stand_in.calls[0].body["texts"] == ["cat"]


async def test_a_wrong_secret_is_the_operators_to_change(
    embed: Embed,
    sagemaker: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TEST_AWS_SECRET", "another")
    with pytest.raises(UpstreamUnavailable, match="does not let us in"):
        await embed(sagemaker, ["a"])
    assert "SageMaker endpoint embed-4 in eu-central-1) answered 403" in caplog.text


async def test_what_the_container_refuses_is_found_in_the_runtimes_answer(
    embed: Embed, sagemaker: Model, stand_in: StandIn
) -> None:
    body = {"OriginalStatusCode": 422, "OriginalMessage": "no", "Message": "Received client error"}
    stand_in.next.append(answers(424, body, {"x-amzn-errortype": "ModelError"}))
    with pytest.raises(UpstreamRejected, match="422"):
        await embed(sagemaker, ["a"])
    assert len(stand_in.calls) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        answers(424, {"OriginalStatusCode": 500, "Message": "Received server error"}),
        answers(424, "no JSON"),
        answers(429, {"Message": "The model is not ready"}),
        answers(530, {"Message": "an internal dependency"}),
    ],
    ids=["container", "unreadable", "not ready", "dependency"],
)
async def test_a_call_that_failed_is_tried_again(
    embed: Embed, sagemaker: Model, stand_in: StandIn, behaviour: object
) -> None:
    stand_in.next.append(behaviour)  # type: ignore[arg-type]
    assert np.allclose(await embed(sagemaker, ["a"]), unit_vectors(["a"]), atol=1e-6)
    assert len(stand_in.calls) == 2


async def test_an_endpoint_that_is_not_there_is_the_operators_to_change(
    embed: Embed, sagemaker: Model, stand_in: StandIn
) -> None:
    body = {"Message": "Endpoint embed-4 of account 123456789012 not found."}
    stand_in.next.append(answers(400, body, {"x-amzn-errortype": "ValidationError"}))
    with pytest.raises(UpstreamUnavailable, match="does not let us in"):
        await embed(sagemaker, ["a"])


async def test_a_call_ends_with_its_client(
    embed: Embed, sagemaker: Model, stand_in: StandIn
) -> None:
    stand_in.next.append(answers_after(1.5))
    task = asyncio.create_task(embed(sagemaker, ["a"]))
    while not stand_in.calls:  # boto3 is imported by the first call
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1.7)
    assert stand_in.hang_ups == 1


async def test_credentials_are_those_that_boto3_finds(
    embed: Embed, sagemaker: Model, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-a-session")
    upstream = SageMakerUpstream(endpoint="embed-4", region="us-east-1", url=stand_in.url)
    await embed(msgspec.structs.replace(sagemaker, upstream=upstream), ["a"])
    assert stand_in.calls[0].headers["x-amz-security-token"] == "a-token-of-a-session"


async def test_a_process_without_credentials_says_so(
    embed: Embed, sagemaker: Model, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = SageMakerUpstream(endpoint="embed-4", region="us-east-1", url=stand_in.url)
    with pytest.raises(UpstreamUnavailable, match="not set up"):
        await embed(msgspec.structs.replace(sagemaker, upstream=upstream), ["a"])
    assert "boto3 finds no AWS credentials" in caplog.text
    assert stand_in.calls == []


async def test_a_profile_that_is_not_there_says_so(
    embed: Embed,
    sagemaker: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    upstream = SageMakerUpstream(endpoint="embed-4", region="us-east-1")
    with pytest.raises(UpstreamUnavailable, match="not set up"):
        await embed(msgspec.structs.replace(sagemaker, upstream=upstream), ["a"])
    assert "ProfileNotFound" in caplog.text


async def test_the_address_is_that_of_the_region() -> None:
    upstream = SageMakerUpstream(
        endpoint="embed-4",
        region="cn-north-1",
        access_key_id_variable="TEST_AWS_ID",
        secret_access_key_variable="TEST_AWS_SECRET",
    )
    url, _ = await SageMakerApi(upstream).address(b"{}")
    host = "runtime.sagemaker.cn-north-1.amazonaws.com.cn"
    assert url == f"https://{host}/endpoints/embed-4/invocations"


async def test_no_log_line_or_repr_holds_a_secret(
    embed: Embed,
    sagemaker: Model,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With everything on that the settings let a deployment turn on."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-a-session")
    caplog.set_level(logging.DEBUG)
    stand_in.next.append(answers(422))
    upstream = SageMakerUpstream(endpoint="embed-4", region="us-east-1", url=stand_in.url)
    model = msgspec.structs.replace(sagemaker, upstream=upstream)
    with pytest.raises(UpstreamRejected) as raised:
        await embed(model, ["a confidential sentence"])
    shown = caplog.text + repr(raised.value) + repr(model)
    for secret in (SECRET_ACCESS_KEY, "a-token-of-a-session", "confidential", "Signature="):
        assert secret not in shown


@pytest.fixture
def moto() -> Iterator[str]:
    """The address of moto's AWS, which has the endpoint that it is told the answers of."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


async def test_motos_sagemaker_is_called_and_understood(
    embed: Embed, sagemaker: Model, moto: str
) -> None:
    rows = [vector_of(text).tolist() for text in ("a cat", "a dog")]
    result = {"Body": json.dumps({"embeddings": {"float": rows}})}
    for name in ("ContentType", "InvokedProductionVariant", "CustomAttributes"):
        result[name] = "application/json"
    async with httpx.AsyncClient() as client:
        told = await client.post(
            f"{moto}/moto-api/static/sagemaker/endpoint-results",
            json={"results": [result], "region": "eu-central-1"},
        )
    assert told.status_code == 201
    assert isinstance(sagemaker.upstream, SageMakerUpstream)
    upstream = msgspec.structs.replace(sagemaker.upstream, url=moto)
    vectors = await embed(msgspec.structs.replace(sagemaker, upstream=upstream), ["a cat", "a dog"])
    assert np.allclose(vectors, unit_vectors(["a cat", "a dog"]), atol=1e-6)
