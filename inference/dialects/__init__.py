"""Dialects: the request, response and error shapes of the APIs that clients speak.

A dialect turns a body into a request of no dialect, the embeddings into its answer, and a failure
into its error body. It is chosen by the route; see inference/urls.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from inference.embedding_requests import EmbeddingsRequest
from inference.embeddings import Embeddings
from inference.failures import Failure
from inference.http import Response, Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """What a body asks for, and how its answer is to be written."""

    request: EmbeddingsRequest
    render: Callable[[Embeddings], Response]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """parse: a body, and the scope for its headers, to what it asks for; raises InvalidRequest.
    render_failure: a failure and the request's id to the error body."""

    parse: Callable[[bytes, Scope], Parsed]
    render_failure: Callable[[Failure, str], Response]
