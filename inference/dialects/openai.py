"""The dialect of `POST /v1/embeddings`: OpenAI's parameters and Heroku's, OpenAI's answers.

Contracts: OpenAI's API reference (createEmbedding) and Heroku's `/v1/embeddings` reference.
"""

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import msgspec
import orjson
from numpy.typing import NDArray

from inference.catalogue import INPUT_TYPES
from inference.dialects import Dialect, Parsed
from inference.dialects.json_bodies import (
    SHOWN_MAX_CHARACTERS,
    InvalidRequest,
    boolean,
    check_text,
    choice,
    choices,
    decode_fields,
    integer,
    kind_of,
    refuse_unknown,
    required,
    required_string,
)
from inference.embedding_requests import EmbeddingsRequest, FieldNames
from inference.embeddings import Embeddings
from inference.failures import Failure
from inference.http import Response, Scope, find_header, json_response
from inference.openai_tokens import UnknownToken
from inference.openai_tokens import decode as decode_tokens
from inference.quantization import EMBEDDING_TYPES, EmbeddingType, pack
from inference.response_headers import answer_headers
from inference.tokenization import Truncate

ENCODING_FORMATS = ("raw", "float", "base64")
TRUNCATE = ("none", "start", "end")
PARAMETERS = (
    *("model", "input", "input_type", "encoding_format", "embedding_type", "dimensions", "user"),
    *("truncate", "max_tokens", "allow_untrained_dimensions", "allow_ignored_params"),
)
NAMES = FieldNames(input="input", dimension="dimensions", embedding_types="embedding_type")
# OpenAI's own limit of a request. Decoding as many takes a tenth of a second of everybody's time.
MAX_TOKEN_IDS = 300_000
# The AI plugin of Heroku's CLI prints `embeddings`, which no documented answer has; and of an error
# `message` and `id`, without which it prints the whole body.
PLUGIN = "heroku-cli-plugin-ai/"


class _LargeBody(msgspec.Struct):
    """The parameters with their types; `user` may be anything."""

    model: str | None = None
    input: str | list[str | int | list[int]] | None = None
    input_type: str | None = None
    encoding_format: str | None = None
    embedding_type: str | list[str] | None = None
    dimensions: int | None = None
    truncate: str | None = None
    max_tokens: int | None = None
    allow_untrained_dimensions: bool | None = None
    allow_ignored_params: bool | None = None


def parse(body: bytes, scope: Scope) -> Parsed:
    """The request in the body. Raises InvalidRequest."""
    fields = decode_fields(body, _LargeBody)
    if not boolean(fields, "allow_ignored_params"):
        refuse_unknown(fields, PARAMETERS)
    types = choices(fields, "embedding_type", EMBEDDING_TYPES, "float")
    request = EmbeddingsRequest(
        model_id=required_string(fields, "model"),
        texts=read_input(required(fields, "input")),
        input_type=choice(fields, "input_type", INPUT_TYPES, "search_document"),
        embedding_types=cast(tuple[EmbeddingType, ...], types),
        output_dimension=integer(fields, "dimensions", minimum=1),
        allows_untrained_dimension=boolean(fields, "allow_untrained_dimensions"),
        truncate=cast(Truncate, choice(fields, "truncate", TRUNCATE, "end")),
        max_tokens=integer(fields, "max_tokens", minimum=1),
        names=NAMES,
    )
    render = partial(
        _render,
        is_packed=choice(fields, "encoding_format", ENCODING_FORMATS, "raw") == "base64",
        is_for_plugin=is_from_plugin(scope),
    )
    return Parsed(request=request, render=render)


def is_from_plugin(scope: Scope) -> bool:
    return (find_header(scope, b"user-agent") or "").startswith(PLUGIN)


def read_input(value: Any) -> tuple[str, ...]:
    """The texts of `input`: a string, a list of strings, a list of token ids, or a list of those.

    OpenAI's clients make token ids with cl100k_base, whatever the model; they are read as such.
    """
    if isinstance(value, str):
        return (check_text(value, "input"),)
    if not isinstance(value, list):
        raise InvalidRequest(
            "'input' must be a string, a list of strings, or lists of token ids, not "
            f"{kind_of(value)}.",
            "input",
        )
    if not value:
        raise InvalidRequest("'input' must hold at least one string.", "input")
    if (count := _count_token_ids(value)) > MAX_TOKEN_IDS:
        raise InvalidRequest(
            f"'input' must hold at most {MAX_TOKEN_IDS} token ids, not {count}.", "input"
        )
    if _is_integer(value[0]):
        return (_from_tokens(value, "input"),)
    read: Callable[[Any, str], str] = _from_tokens if isinstance(value[0], list) else check_text
    return tuple(read(item, f"input[{index}]") for index, item in enumerate(value))


def _count_token_ids(value: list[Any]) -> int:
    if _is_integer(value[0]):
        return len(value)
    return sum(len(item) for item in value if isinstance(item, list))


def _from_tokens(ids: Any, place: str) -> str:
    if not isinstance(ids, list):
        raise InvalidRequest(f"'{place}' must be a list of token ids, not {kind_of(ids)}.", place)
    if not ids:
        raise InvalidRequest(f"'{place}' must hold at least one token id.", place)
    for position, id_ in enumerate(ids):
        if not _is_integer(id_):
            spot = f"{place}[{position}]"
            raise InvalidRequest(f"'{spot}' must be a token id, not {kind_of(id_)}.", spot)
    try:
        return check_text(decode_tokens(ids), place)
    except UnknownToken as error:
        spot = f"{place}[{error.position}]"
        wanted = str(error.id)[:SHOWN_MAX_CHARACTERS]
        raise InvalidRequest(
            f"'{spot}' must be a token id of cl100k_base, which {wanted} is not.", spot
        ) from None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _render(embeddings: Embeddings, *, is_packed: bool, is_for_plugin: bool) -> Response:
    """OpenAI's embedding list. One type is the embedding itself; several are an object by type.

    Floats are printed so that both formats decode to the same values; base64 is of the vector's
    little-endian bytes.
    """
    vectors = [_rows(embeddings.typed(kind), is_packed) for kind in embeddings.types]
    data = []
    for index, row in enumerate(zip(*vectors, strict=True)):
        embedding = row[0] if len(row) == 1 else dict(zip(embeddings.types, row, strict=True))
        item = {"object": "embedding", "index": index, "embedding": embedding}
        if is_for_plugin:
            item["embeddings"] = embedding
        data.append(item)
    tokens = embeddings.token_count
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": embeddings.model.id, "usage": usage}
    return Response(body=print_json(answer), headers=answer_headers(embeddings))


def _rows(vectors: NDArray[Any], is_packed: bool) -> Sequence[Any]:
    # An array's rows are as good as a list's.
    return pack(vectors) if is_packed else list(vectors)


def print_json(answer: Any) -> bytes:
    """JSON in which arrays are lists and bytes are base64."""
    # orjson prints float32 in as few digits as it needs; bytes it does not know.
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY, default=_base64)


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode("ascii")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def render_failure(failure: Failure, request_id: str) -> Response:
    body = {"error": _error(failure)}
    return json_response(body, status=failure.status, headers=dict(failure.headers))


def render_failure_for_plugin(failure: Failure, request_id: str) -> Response:
    body = {
        "id": failure.code or failure.kind,
        "message": failure.message,
        "error": _error(failure),
    }
    return json_response(body, status=failure.status, headers=dict(failure.headers))


def _error(failure: Failure) -> dict[str, str | None]:
    return {
        "message": failure.message,
        "type": failure.kind,
        "param": failure.field,
        "code": failure.code,
    }


DIALECT = Dialect(parse=parse, render_failure=render_failure)
PLUGIN_DIALECT = Dialect(parse=parse, render_failure=render_failure_for_plugin)
