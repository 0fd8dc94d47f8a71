"""Every example of the document is answered as the document says, those of the product documents
word for word."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from inference.asgi import InferenceApplication
from inference.openapi import examples
from inference.openapi.document import document
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.openapi.test_document import check, validator

PRODUCT_DOCUMENTS = Path(__file__).parents[2] / "e2e" / "product_documents"
# curl -d posts JSON as a form, and so do the documents.
MEDIA_TYPES = ["application/json", "application/x-www-form-urlencoded"]
REQUESTS = [
    ("/v1/embeddings", examples.EMBEDDINGS),
    ("/v1/tokenize", examples.TOKENIZE),
    ("/v2/embed", examples.EMBED_V2),
    ("/v1/embed", examples.EMBED_V1),
    ("/invocations", examples.INVOCATIONS),
    ("/endpoints/{name}/invocations", examples.INVOCATIONS),
]
READINGS = [path for path, item in document()["paths"].items() if "get" in item]


@pytest.fixture
async def attachment(serving: None, attach: Attach) -> Attachment:
    return await attach()


@pytest.fixture
async def client(
    application: InferenceApplication, attachment: Attachment
) -> AsyncIterator[httpx.AsyncClient]:
    """With the attachment's key; the product documents' models are served."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=application),
        base_url="http://annex",
        headers={"authorization": f"Bearer {attachment.key}"},
    ) as client:
        yield client


def described(path: str, response: httpx.Response) -> dict[str, Any]:
    method = response.request.method.lower()
    found: dict[str, Any] = document()["paths"][path][method]["responses"][
        str(response.status_code)
    ]
    return found


def test_the_product_documents_requests_are_examples_word_for_word() -> None:
    files = list(PRODUCT_DOCUMENTS.glob("*.sh"))
    shown = [example["value"] for example in examples.EMBEDDINGS.values()]
    assert len(files) == 4
    for file in files:
        (printed,) = re.findall(
            r"^ *'?-?d? ?'?(\{.*?^ *\})", file.read_text(), re.MULTILINE | re.DOTALL
        )
        body = printed.replace("$EMBEDDING_MODEL_ID", examples.MULTILINGUAL)
        assert json.loads(body) in shown


@pytest.mark.parametrize(("path", "shown"), REQUESTS, ids=[path for path, _ in REQUESTS])
@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_every_example_of_a_request_is_answered_as_documented(
    client: httpx.AsyncClient, path: str, shown: examples.Examples, media_type: str
) -> None:
    body = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"] == shown
    for example in shown.values():
        validator(body["schema"]).validate(example["value"])
        response = await client.post(
            path.format(name=examples.MULTILINGUAL),
            content=json.dumps(example["value"]),
            headers={"content-type": media_type},
        )
        assert response.status_code == 200, response.text
        check(described(path, response), dict(response.headers), response.content)


@pytest.mark.parametrize("path", READINGS)
async def test_every_reading_is_answered_as_documented(
    client: httpx.AsyncClient, attachment: Attachment, settings: Settings, path: str
) -> None:
    settings.METRICS_KEY = attachment.key  # what this client sends
    response = await client.get(path.format(id=MODEL_ID, addon_id=attachment.resource_id))
    assert response.status_code == 200, response.text
    check(described(path, response), dict(response.headers), response.content)


async def test_what_the_client_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    path = "/v1/models/{id}/quantization"
    etag = (await client.get(path.format(id=MODEL_ID))).headers["etag"]
    response = await client.get(path.format(id=MODEL_ID), headers={"if-none-match": etag})
    assert response.status_code == 304
    check(described(path, response), dict(response.headers), response.content)


async def test_a_repeat_and_a_cut_text_are_answered_as_documented(
    client: httpx.AsyncClient,
) -> None:
    body = {"model": MODEL_ID, "input": "one two three four", "max_tokens": 4}
    for replayed in (None, "true"):
        response = await client.post("/v1/embeddings", json=body, headers={"idempotency-key": "k"})
        assert response.headers.get("idempotent-replayed") == replayed
        assert response.headers["x-truncated-inputs"] == "0"
        check(described("/v1/embeddings", response), dict(response.headers), response.content)


def test_the_printed_answer_is_one() -> None:
    content = document()["paths"]["/v1/embeddings"]["post"]["responses"]["200"]["content"]
    (shown,) = content["application/json"]["examples"].values()
    validator(content["application/json"]["schema"]).validate(shown["value"])
