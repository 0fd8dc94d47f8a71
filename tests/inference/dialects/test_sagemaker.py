"""SageMaker's dialects: bodies without a model, its headers, and the runtime's errors."""

import json
from typing import Any

import pytest

from inference.authentication import InvalidKey, MissingKey
from inference.catalogue import UnknownModel
from inference.dialects import Dialect, Parsed
from inference.dialects.json_bodies import InvalidRequest
from inference.dialects.sagemaker import CONTAINER_DIALECT, RUNTIME_DIALECT
from inference.dispatch import EncodeFailed, WorkerUnavailable
from inference.errors import describe
from inference.http import BodyTooLarge, Response
from inference.lanes import TooMuchWaiting
from tests.inference.dialects.made import make_embeddings

BASE: dict[str, Any] = {"texts": ["hello", "world"], "input_type": "search_query"}


def parse(
    fields: dict[str, Any], dialect: Dialect = CONTAINER_DIALECT, attributes: str = ""
) -> Parsed:
    headers = [(b"x-amzn-sagemaker-custom-attributes", attributes.encode())] if attributes else []
    return dialect.parse(json.dumps({**BASE, **fields}).encode(), {"headers": headers})


@pytest.mark.parametrize("name", ["embeddings_type", "embedding_types", "embedding_type"])
def test_the_types_have_three_names(name: str) -> None:
    parsed = parse({name: ["ubinary", "float"]})
    assert parsed.request.embedding_types == ("ubinary", "float")
    assert parsed.request.names.embedding_types == name
    assert parse({name: "ubinary"}).request.embedding_types == ("ubinary",)
    with pytest.raises(InvalidRequest) as refusal:
        parse({name: ["int4"]})
    assert refusal.value.field == f"{name}[0]"


def test_the_types_have_one_name_at_a_time() -> None:
    with pytest.raises(InvalidRequest, match="cannot both be given"):
        parse({"embeddings_type": "float", "embedding_type": "int8"})


def test_the_body_names_no_model() -> None:
    assert parse({}).request.model_id is None
    with pytest.raises(InvalidRequest, match="Unknown parameter: 'model'"):
        parse({"model": "m"})


@pytest.mark.parametrize(
    ("given", "meant"), [("NONE", "none"), ("LEFT", "start"), ("RIGHT", "end"), (None, "end")]
)
def test_truncate_has_amazons_words(given: str | None, meant: str) -> None:
    assert parse({"truncate": given}).request.truncate == meant


def test_the_answer_is_v2_with_the_token_counts_in_headers() -> None:
    response = parse({}, attributes="trace-7").render(make_embeddings("float"))
    body = json.loads(response.body)
    assert body["response_type"] == "embeddings_by_type"
    assert len(body["embeddings"]["float"]) == 2
    assert response.headers["x-amzn-bedrock-input-token-count"] == "8"
    assert response.headers["x-amzn-bedrock-output-token-count"] == "0"
    assert response.headers["x-amzn-sagemaker-custom-attributes"] == "trace-7"
    assert "x-amzn-invoked-production-variant" not in response.headers


def test_the_runtimes_answer_names_a_variant() -> None:
    response = parse({}, RUNTIME_DIALECT).render(make_embeddings("float"))
    assert response.headers["x-amzn-invoked-production-variant"] == "AllTraffic"
    assert "x-amzn-sagemaker-custom-attributes" not in response.headers


@pytest.mark.parametrize("attributes", ["x" * 1_025, "two\tcolumns", "é"])
def test_custom_attributes_are_visible_ascii_of_a_kilobyte(attributes: str) -> None:
    with pytest.raises(InvalidRequest, match="at most 1024 visible ASCII"):
        parse({}, attributes=attributes)


def refused(dialect: Dialect, error: Exception) -> tuple[Response, dict[str, Any]]:
    response = dialect.render_failure(describe(error), "request-1")
    body: dict[str, Any] = json.loads(response.body)
    return response, body


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (MissingKey(), 403, "MissingAuthenticationTokenException"),
        (InvalidKey(), 403, "UnrecognizedClientException"),
        (UnknownModel("m", ()), 400, "ValidationError"),
        (BodyTooLarge(6_291_456), 413, "ValidationError"),
        (TooMuchWaiting(wait_s=60, retry_after_s=3), 429, "ThrottlingException"),
        (WorkerUnavailable("m", "there is none"), 503, "ServiceUnavailable"),
    ],
)
def test_the_runtimes_own_failures_have_its_types(error: Exception, status: int, kind: str) -> None:
    response, body = refused(RUNTIME_DIALECT, error)
    assert response.status == status
    assert response.headers["x-amzn-errortype"] == kind
    assert body["Message"] == body["message"] == describe(error).message


def test_the_runtime_says_in_botocores_header_when_to_retry() -> None:
    response, _ = refused(RUNTIME_DIALECT, TooMuchWaiting(wait_s=60, retry_after_s=3))
    assert response.headers["x-amz-retry-after"] == "3000"
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("error", "status", "side"),
    [(InvalidRequest("'texts' is wrong."), 400, "client"), (EncodeFailed((1,)), 500, "server")],
)
def test_the_runtime_wraps_what_the_container_refuses(
    error: Exception, status: int, side: str
) -> None:
    response, body = refused(RUNTIME_DIALECT, error)
    assert response.status == 424
    assert response.headers["x-amzn-errortype"] == "ModelError"
    assert body["OriginalStatusCode"] == status
    container, _ = refused(CONTAINER_DIALECT, error)
    assert body["OriginalMessage"] == container.body.decode()
    assert body["Message"].startswith(f"Received {side} error ({status}) from primary")


def test_the_container_refuses_in_coheres_shape() -> None:
    response, body = refused(CONTAINER_DIALECT, InvalidRequest("'texts' is wrong."))
    assert (response.status, body["message"]) == (400, "invalid request: 'texts' is wrong.")
