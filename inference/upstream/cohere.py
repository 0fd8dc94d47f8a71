"""Cohere's API v2 (https://docs.cohere.com/reference/embed)."""

from collections.abc import Sequence

import msgspec

from inference.tokenization import Truncate
from inference.upstream.entries import CohereUpstream, read_secret


class CohereApi:
    body_max_bytes = 20_000_000

    def __init__(self, upstream: CohereUpstream) -> None:
        self._upstream = upstream

    def body(self, texts: Sequence[str], *, input_type: str, truncate: Truncate) -> bytes:
        return msgspec.json.encode(
            {
                "model": self._upstream.model,
                "texts": texts,
                "input_type": input_type,
                "embedding_types": ["float"],
                "truncate": truncate.upper(),
            }
        )

    async def address(self, body: bytes) -> tuple[str, dict[str, str]]:
        """Where the body goes, and its headers. Raises CredentialsUnusable."""
        return f"{self._upstream.url.rstrip('/')}/v2/embed", authorization(self._upstream)

    def status(self, status: int, answer: bytes) -> int:
        return status


def authorization(upstream: CohereUpstream) -> dict[str, str]:
    """Raises CredentialsUnusable."""
    return {"authorization": f"Bearer {read_secret(upstream.key_variable)}"}
