"""What an answer says of itself in headers, whatever its dialect."""

from inference.embeddings import Embeddings
from inference.rate_limit_headers import rate_limit_headers


def answer_headers(embeddings: Embeddings) -> dict[str, str]:
    """The standing with the limits, the fingerprint of the vectors, and which texts were cut."""
    headers = {
        **rate_limit_headers(embeddings.standing),
        "x-embedding-fingerprint": embeddings.space.fingerprint,
    }
    if embeddings.tokens.truncated:
        headers["x-truncated-inputs"] = ",".join(map(str, embeddings.tokens.truncated))
    return headers
