"""The cohere package, both of its APIs, with nothing set but base URL and key."""

import asyncio
import base64
import struct

import cohere
from attachment import (
    DIMENSIONS,
    KEY,
    MAX_INPUTS,
    MODEL,
    MODEL_WITH_DIMENSIONS,
    TEXTS,
    URL,
    is_same,
    is_unit,
    refusal,
)
from cohere.core import ApiError
from cohere.errors import BadRequestError, NotFoundError, UnauthorizedError

client = cohere.ClientV2(api_key=KEY, base_url=URL)

answer = client.embed(
    model=MODEL,
    texts=TEXTS,
    input_type="search_document",
    embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
)
floats = answer.embeddings.float_
assert len(floats) == len(TEXTS)
assert all(is_unit(vector) for vector in floats)
for text, vector in zip(answer.embeddings.base64, floats, strict=True):
    assert is_same(struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(text)), vector)
for int8, uint8 in zip(answer.embeddings.int8, answer.embeddings.uint8, strict=True):
    assert len(int8) == DIMENSIONS
    assert int8 == [number - 128 for number in uint8]
    assert min(uint8) < 100 < 150 < max(uint8)
for vector, ubinary, binary in zip(
    floats, answer.embeddings.ubinary, answer.embeddings.binary, strict=True
):
    bits = "".join(str(int(number > 0)) for number in vector)
    assert ubinary == [int(bits[i : i + 8], 2) for i in range(0, DIMENSIONS, 8)]
    assert binary == [number - 128 for number in ubinary]
assert answer.texts == TEXTS
assert answer.id
assert answer.meta.api_version.version == "2"
assert answer.meta.billed_units.input_tokens > len(TEXTS)

only_floats = client.embed(
    model=MODEL, texts=TEXTS, input_type="search_query", embedding_types=["float"]
)
assert len(only_floats.embeddings.float_) == len(TEXTS)
assert only_floats.embeddings.int8 is None

for dimensions in (256, 512, 1024, 1536):
    cut = client.embed(
        model=MODEL_WITH_DIMENSIONS,
        inputs=[{"content": [{"type": "text", "text": text}]} for text in TEXTS],
        input_type="clustering",
        output_dimension=dimensions,
        embedding_types=["float", "ubinary"],
    )
    assert all(is_unit(vector, dimensions) for vector in cut.embeddings.float_)
    assert {len(vector) for vector in cut.embeddings.ubinary} == {dimensions // 8}

LONG = "word " * 400
ends = client.embed(
    model=MODEL, texts=[LONG, LONG[:500]], input_type="search_document", max_tokens=50,
    embedding_types=["float"],
)  # fmt: skip
assert is_same(*ends.embeddings.float_)


def invalid(expected: type[ApiError], client: cohere.ClientV2 = client, **parameters: object):
    """What the package raises for a request with these parameters."""
    request = {"model": MODEL, "texts": TEXTS, "input_type": "search_document"}
    return refusal(expected, client.embed, **request | {"embedding_types": ["float"]} | parameters)


assert invalid(NotFoundError, model="no-such-model").status_code == 404
too_many = invalid(BadRequestError, texts=["word"] * (MAX_INPUTS + 1))
assert str(MAX_INPUTS + 1) in too_many.body["message"]
too_long = invalid(BadRequestError, texts=["word", LONG], truncate="NONE")
assert "1" in too_long.body["message"]
assert "300" in str(
    invalid(BadRequestError, model=MODEL_WITH_DIMENSIONS, output_dimension=300).body
)
stranger = cohere.ClientV2(api_key="inf_wrong", base_url=URL)
assert "message" in invalid(UnauthorizedError, client=stranger).body

# The first API: this package splits many texts into requests of 96 and sends them side by side.
first = cohere.Client(api_key=KEY, base_url=URL)
many = [f"text {number}" for number in range(MAX_INPUTS + 4)]
listed = first.embed(model=MODEL, texts=many, input_type="search_document")
assert listed.response_type == "embeddings_floats"
assert len(listed.embeddings) == len(many)
assert all(is_unit(vector) for vector in listed.embeddings)
by_type = first.embed(
    model=MODEL, texts=many, input_type="search_document", embedding_types=["float", "ubinary"]
)
assert by_type.response_type == "embeddings_by_type"
assert all(map(is_same, by_type.embeddings.float_, listed.embeddings))
assert by_type.meta.billed_units.input_tokens == listed.meta.billed_units.input_tokens
assert by_type.meta.api_version.version == "1"


async def embed_side_by_side() -> None:
    async with cohere.AsyncClientV2(api_key=KEY, base_url=URL) as client:
        calls = [
            client.embed(
                model=MODEL, texts=[text], input_type="search_document", embedding_types=["float"]
            )
            for text in TEXTS
        ]
        for one, vector in zip(await asyncio.gather(*calls), floats, strict=True):
            assert is_same(one.embeddings.float_[0], vector)


asyncio.run(embed_side_by_side())
