"""LangChain's OpenAIEmbeddings and CohereEmbeddings, with nothing set but base URL and key."""

import asyncio

from attachment import (
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
from cohere.errors import NotFoundError, UnauthorizedError
from langchain_cohere import CohereEmbeddings
from langchain_openai import OpenAIEmbeddings
from openai import AuthenticationError

# As it is, it sends cl100k_base's token ids in place of the texts.
by_tokens = OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key=KEY)
documents = by_tokens.embed_documents(TEXTS)
assert len(documents) == len(TEXTS)
assert all(is_unit(vector) for vector in documents)
assert is_same(by_tokens.embed_query(TEXTS[0]), documents[0])

by_texts = OpenAIEmbeddings(
    model=MODEL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
)
assert all(map(is_same, by_texts.embed_documents(TEXTS), documents))

# What is longer than 8,191 tokens it sends in pieces, which here are cut inside a character.
long = "\N{LEFT-POINTING MAGNIFYING GLASS}" * 3_000
assert is_unit(by_tokens.embed_query(long))

batches = OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, chunk_size=MAX_INPUTS)
assert len(batches.embed_documents([f"text {number}" for number in range(MAX_INPUTS + 4)])) == 100

short = OpenAIEmbeddings(
    model=MODEL_WITH_DIMENSIONS, base_url=f"{URL}/v1", api_key=KEY, dimensions=256
)
assert is_unit(short.embed_query(TEXTS[0]), 256)

cohere = CohereEmbeddings(model=MODEL, base_url=URL, cohere_api_key=KEY)
assert all(map(is_same, cohere.embed_documents(TEXTS), documents))
assert is_same(cohere.embed_query(TEXTS[0]), documents[0])  # this model has no prompts
assert len(cohere.embed_documents([f"text {number}" for number in range(MAX_INPUTS + 4)])) == 100


async def embed_side_by_side() -> None:
    for client in (by_tokens, cohere):
        answers = await asyncio.gather(
            client.aembed_documents(TEXTS), client.aembed_query(TEXTS[1])
        )
        assert all(map(is_same, answers[0], documents))
        assert is_same(answers[1], documents[1])


asyncio.run(embed_side_by_side())

stranger = OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key="inf_wrong")
assert refusal(AuthenticationError, stranger.embed_query, "x").code == "invalid_api_key"
stranger = CohereEmbeddings(model=MODEL, base_url=URL, cohere_api_key="inf_wrong", max_retries=1)
assert refusal(UnauthorizedError, stranger.embed_query, "x").status_code == 401
mistyped = CohereEmbeddings(model="no-such-model", base_url=URL, cohere_api_key=KEY, max_retries=1)
assert refusal(NotFoundError, mistyped.embed_query, "x").status_code == 404
