"""Requests and answers to show, the product documents' among them; each is sent in the tests.

Contracts: the documents on `/v1/embeddings` of January 2025 and of Cohere Embed v4, as printed; of
the page on AWS Marketplace the input, without its image.
"""

from typing import Any

MULTILINGUAL = "cohere-embed-multilingual"
Examples = dict[str, dict[str, Any]]


def _named(**values: Any) -> Examples:
    return {name.replace("_", "-"): {"value": value} for name, value in values.items()}


EMBEDDINGS = _named(
    reference={
        "model": MULTILINGUAL,
        "input": ["What is the capital of France?", "Paris is the capital of France."],
        "input_type": "search_document",
    },
    pilot={
        "model": MULTILINGUAL,
        "input": "Hello, I am a long string (document) and I want to be turned into a searchable "
        "embedding vector! What fun!",
    },
    embed_v4={
        "input": ["Hello, I am a blob of text.", "How's the weather in Portland?"],
        "model": "cohere-embed-v4",
        "input_type": "search_document",
        "encoding_format": "raw",
    },
    several_types={
        "model": MULTILINGUAL,
        "input": "example string 1",
        "embedding_type": ["float", "ubinary"],
        "encoding_format": "base64",
    },
    token_ids={"model": MULTILINGUAL, "input": [[9906, 1917], [9906]], "dimensions": 256},
    ignored_params={
        "model": MULTILINGUAL,
        "input": "example string 1",
        "temperature": 0.5,
        "allow_ignored_params": True,
    },
)
EMBEDDING_LIST = _named(
    reference={
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.123, -0.456, 0.789]},
            {"object": "embedding", "index": 1, "embedding": [0.234, -0.567, 0.89]},
        ],
        "model": MULTILINGUAL,
        "usage": {"prompt_tokens": 15, "total_tokens": 15},
    }
)
EMBED_V2 = _named(
    texts={
        "model": "cohere-embed-v4",
        "texts": ["hello", "goodbye"],
        "input_type": "search_document",
        "embedding_types": ["float", "ubinary", "base64"],
        "output_dimension": 256,
    },
    inputs={
        "model": "cohere-embed-v4",
        "inputs": [{"content": [{"type": "text", "text": "hello"}]}],
        "input_type": "search_query",
        "max_tokens": 64,
        "truncate": "START",
    },
)
EMBED_V1 = _named(
    floats={"texts": ["hello", "goodbye"]},
    by_type={
        "model": MULTILINGUAL,
        "texts": ["hello", "goodbye"],
        "input_type": "classification",
        "embedding_types": ["float", "binary"],
        "truncate": "NONE",
    },
)
INVOCATIONS = _named(
    texts={
        "texts": ["hello", "goodbye"],
        "input_type": "search_document",
        "embeddings_type": ["float"],
        "truncate": "RIGHT",
    },
    marketplace={
        "inputs": [
            {
                "content": [
                    {"type": "text", "text": "Look at my awesome car!"},
                    {"type": "text", "text": "Do you want to buy it?"},
                ]
            }
        ],
        "input_type": "search_document",
    },
)
TOKENIZE = _named(
    texts={"model": MULTILINGUAL, "input": ["Hello world", "Paris"], "max_tokens": 8},
)
