"""The openai package, with nothing set but base URL and key."""

import asyncio

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
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
)

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)

# Without an encoding_format this package asks for base64, and decodes it.
packed = client.embeddings.create(model=MODEL, input=TEXTS)
assert [item.index for item in packed.data] == [0, 1, 2]
assert all(is_unit(item.embedding) for item in packed.data)
assert packed.model == MODEL
assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(TEXTS)

numbers = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float", user="u1")
for one, other in zip(packed.data, numbers.data, strict=True):
    assert is_same(one.embedding, other.embedding)
assert numbers.usage == packed.usage

single = client.embeddings.create(model=MODEL, input=TEXTS[0])
assert is_same(single.data[0].embedding, packed.data[0].embedding)
text = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="base64")
assert isinstance(text.data[0].embedding, str)

tokens = client.embeddings.create(model=MODEL, input=[[9906, 1917], [9906]])  # of cl100k_base
words = client.embeddings.create(model=MODEL, input=["Hello world", "Hello"])
for one, other in zip(tokens.data, words.data, strict=True):
    assert is_same(one.embedding, other.embedding)
one_array = client.embeddings.create(model=MODEL, input=[9906, 1917])
assert is_same(one_array.data[0].embedding, words.data[0].embedding)

for dimensions in (256, 512, 1024, 1536):
    cut = client.embeddings.create(
        model=MODEL_WITH_DIMENSIONS, input=TEXTS, dimensions=dimensions, encoding_format="float"
    )
    assert all(is_unit(item.embedding, dimensions) for item in cut.data)

raw = client.embeddings.with_raw_response.create(model=MODEL, input="a header or two")
assert raw.headers["x-request-id"] == raw.parse()._request_id
assert int(raw.headers["openai-processing-ms"]) >= 0
assert int(raw.headers["x-ratelimit-remaining-requests"]) < int(
    raw.headers["x-ratelimit-limit-requests"]
)

models = {model.id: model for model in client.models.list()}
assert {MODEL, MODEL_WITH_DIMENSIONS} <= models.keys()
assert client.models.retrieve(MODEL) == models[MODEL]


def invalid(expected: type[APIStatusError], **parameters: object) -> APIStatusError:
    request = {"model": MODEL, "input": TEXTS} | parameters
    return refusal(expected, client.embeddings.create, **request)


unknown = invalid(NotFoundError, model="no-such-model")
assert (unknown.code, unknown.param, unknown.status_code) == ("model_not_found", "model", 404)
too_many = invalid(BadRequestError, input=["word"] * (MAX_INPUTS + 1))
assert too_many.param == "input"
assert str(MAX_INPUTS) in too_many.message
empty = invalid(BadRequestError, input=["word", ""])
assert empty.param == "input[1]"
untrained = invalid(BadRequestError, model=MODEL_WITH_DIMENSIONS, dimensions=300)
assert untrained.param == "dimensions"
assert "1536" in untrained.message
unknown_field = invalid(BadRequestError, extra_body={"colour": "blue"})
assert unknown_field.param == "colour"
ignored = client.embeddings.create(
    model=MODEL, input="x", extra_body={"colour": "blue", "allow_ignored_params": True}
)
assert len(ignored.data) == 1
assert refusal(NotFoundError, client.models.retrieve, "no-such-model").code == "model_not_found"

client = OpenAI(base_url=f"{URL}/v1", api_key="inf_wrong")
wrong_key = invalid(AuthenticationError)
assert (wrong_key.code, wrong_key.status_code) == ("invalid_api_key", 401)


async def embed_side_by_side() -> None:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as client:
        calls = [client.embeddings.create(model=MODEL, input=text) for text in TEXTS]
        for answer, item in zip(await asyncio.gather(*calls), packed.data, strict=True):
            assert len(answer.data[0].embedding) == DIMENSIONS
            assert is_same(answer.data[0].embedding, item.embedding)


asyncio.run(embed_side_by_side())
