"""LlamaIndex's OpenAIEmbedding, with nothing set but base URL and key."""

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
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.openai import OpenAIEmbedding
from openai import AuthenticationError

embedding = OpenAIEmbedding(model_name=MODEL, api_base=f"{URL}/v1", api_key=KEY)
vectors = embedding.get_text_embedding_batch(TEXTS)
assert len(vectors) == len(TEXTS)
assert all(is_unit(vector) for vector in vectors)
assert is_same(embedding.get_text_embedding(TEXTS[1]), vectors[1])
assert is_same(embedding.get_query_embedding(TEXTS[1]), vectors[1])

batches = OpenAIEmbedding(
    model_name=MODEL, api_base=f"{URL}/v1", api_key=KEY, embed_batch_size=MAX_INPUTS
)
many = [f"text {number}" for number in range(MAX_INPUTS + 4)]
assert len(batches.get_text_embedding_batch(many)) == len(many)

short = OpenAIEmbedding(
    model_name=MODEL_WITH_DIMENSIONS, api_base=f"{URL}/v1", api_key=KEY, dimensions=512
)
assert is_unit(short.get_query_embedding(TEXTS[0]), 512)


async def embed_side_by_side() -> None:
    batch, query = await asyncio.gather(
        embedding.aget_text_embedding_batch(TEXTS), embedding.aget_query_embedding(TEXTS[2])
    )
    assert all(map(is_same, batch, vectors))
    assert is_same(query, vectors[2])


asyncio.run(embed_side_by_side())

nodes = [TextNode(text="A cat sits on the mat"), TextNode(text="Interest rates were raised")]
index = VectorStoreIndex(nodes, embed_model=embedding)
found = index.as_retriever(similarity_top_k=1).retrieve("Where does the kitten lie?")
assert [hit.text for hit in found] == ["A cat sits on the mat"]

stranger = OpenAIEmbedding(
    model_name=MODEL, api_base=f"{URL}/v1", api_key="inf_wrong", max_retries=0
)
assert refusal(AuthenticationError, stranger.get_query_embedding, "x").code == "invalid_api_key"
