"""The dialects of `POST /v2/embed` and `POST /v1/embed`: Cohere's parameters, answers and errors.

Contract: Cohere's OpenAPI description of both, and its page of errors. Clients read some of its
messages, so those are worded as Cohere does.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from billing.rate_limits import RateLimitExceeded
from inference.authentication import InvalidKey, MissingKey
from inference.catalogue import INPUT_TYPES, UnknownModel
from inference.dialects import Dialect, Parsed
from inference.dialects.json_bodies import (
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
    shown,
)
from inference.dialects.openai import print_json
from inference.dispatch import EncodeFailed
from inference.embedding_requests import EmbeddingsRequest, FieldNames, TooManyInputs
from inference.embeddings import Embeddings
from inference.failures import Failure
from inference.http import Response, Scope, UnknownPath, json_response
from inference.quantization import EMBEDDING_TYPES, EmbeddingType, pack
from inference.response_headers import answer_headers
from inference.tokenization import Truncate

# Amazon's documents of Cohere's models say LEFT and RIGHT.
TRUNCATE: Mapping[str, Truncate] = {
    "NONE": "none",
    "START": "start",
    "END": "end",
    "LEFT": "start",
    "RIGHT": "end",
}
V2_TYPES = (*EMBEDDING_TYPES, "base64")
V1_PARAMETERS = ("model", "texts", "input_type", "embedding_types", "truncate")
V2_PARAMETERS = (
    *("model", "texts", "inputs", "input_type", "embedding_types", "output_dimension"),
    *("max_tokens", "truncate", "priority", "allow_untrained_dimensions"),
)


class LargeBody(msgspec.Struct):
    """The parameters with their types."""

    model: str | None = None
    texts: list[str] | None = None
    inputs: list[dict[str, list[dict[str, str | dict[str, str]]]]] | None = None
    images: list[str] | None = None
    input_type: str | None = None
    embedding_types: str | list[str] | None = None
    output_dimension: int | None = None
    max_tokens: int | None = None
    truncate: str | None = None
    priority: int | None = None
    allow_untrained_dimensions: bool | None = None


def parse_v2(body: bytes, scope: Scope) -> Parsed:
    """The request in the body. Raises InvalidRequest."""
    fields = decode_fields(body, LargeBody)
    refuse_images(fields)
    refuse_unknown(fields, V2_PARAMETERS)
    return read_v2(fields, model_id=required_string(fields, "model"))


def read_v2(
    fields: Mapping[str, Any],
    *,
    model_id: str | None,
    types_name: str = "embedding_types",
    echoes_texts: bool = True,
) -> Parsed:
    """The request in known `fields`. Raises InvalidRequest."""
    fields = dict(fields)
    input_name, texts = _read_inputs(fields)
    _check_priority(fields)
    if "input_type" not in fields:
        raise InvalidRequest(
            "valid input_type must be provided with the provided model: one of "
            f"{', '.join(INPUT_TYPES)}.",
            "input_type",
            "missing_required_parameter",
        )
    types = choices(fields, types_name, V2_TYPES, "float")
    request = EmbeddingsRequest(
        model_id=model_id,
        texts=texts,
        input_type=choice(fields, "input_type", INPUT_TYPES, "search_document"),
        embedding_types=_computed_types(types),
        output_dimension=integer(fields, "output_dimension", minimum=1),
        allows_untrained_dimension=boolean(fields, "allow_untrained_dimensions"),
        truncate=TRUNCATE[choice(fields, "truncate", tuple(TRUNCATE), "END")],
        max_tokens=integer(fields, "max_tokens", minimum=1),
        names=FieldNames(
            input=input_name, dimension="output_dimension", embedding_types=types_name
        ),
    )
    # Cohere has none for `inputs`.
    texts = request.texts if echoes_texts and input_name == "texts" else ()
    return Parsed(
        request=request, render=partial(_render_v2, request=request, types=types, texts=texts)
    )


def parse_v1(body: bytes, scope: Scope) -> Parsed:
    """The request in the body. Raises InvalidRequest."""
    fields = decode_fields(body, LargeBody)
    refuse_images(fields)
    refuse_unknown(fields, V1_PARAMETERS)
    types = choices(fields, "embedding_types", EMBEDDING_TYPES, "float")
    request = EmbeddingsRequest(
        model_id=required_string(fields, "model") if "model" in fields else None,
        texts=_read_texts(required(fields, "texts")),
        input_type=choice(fields, "input_type", INPUT_TYPES, "search_document"),
        embedding_types=_computed_types(types),
        truncate=TRUNCATE[choice(fields, "truncate", tuple(TRUNCATE), "END")],
        names=FieldNames(
            input="texts", dimension="output_dimension", embedding_types="embedding_types"
        ),
    )
    is_by_type = "embedding_types" in fields
    return Parsed(
        request=request,
        render=partial(_render_v1, request=request, types=types if is_by_type else None),
    )


def refuse_images(fields: Mapping[str, Any]) -> None:
    """Raise InvalidRequest where there are images."""
    if "images" in fields or fields.get("input_type") == "image":
        field = "images" if "images" in fields else "input_type"
        raise InvalidRequest(f"'{field}': images are not embedded here, only text.", field)


def _read_inputs(fields: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The name of the field that has what is to be embedded, and the texts in it."""
    if "texts" in fields and "inputs" in fields:
        raise InvalidRequest("'texts' and 'inputs' cannot both be given.", "inputs")
    if "inputs" not in fields:
        return "texts", _read_texts(required(fields, "texts"))
    inputs = _filled_list(fields["inputs"], "inputs")
    return "inputs", tuple(
        _read_content(item, f"inputs[{index}]") for index, item in enumerate(inputs)
    )


def _read_texts(value: Any) -> tuple[str, ...]:
    texts = _filled_list(value, "texts")
    return tuple(_read_text(text, "texts", index) for index, text in enumerate(texts))


def _read_text(text: Any, field: str, index: int) -> str:
    if text == "":
        raise InvalidRequest(
            f"{field} contains an element that is the empty string at index {index}",
            f"{field}[{index}]",
        )
    return check_text(text, f"{field}[{index}]")


def _read_content(value: Any, place: str) -> str:
    """The text of `{"content": [part, …]}`: its parts, a line feed between them."""
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"'{place}' must be an object with 'content', not {kind_of(value)}.", place
        )
    _refuse_unknown_keys(value, place, ("content",))
    parts = _filled_list(value.get("content"), f"{place}.content")
    return "\n".join(
        _read_part(part, f"{place}.content[{index}]") for index, part in enumerate(parts)
    )


def _read_part(part: Any, place: str) -> str:
    """The text of `{"type": "text", "text": …}`."""
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{place}' must be an object, not {kind_of(part)}.", place)
    match part.get("type"):
        case "text":
            _refuse_unknown_keys(part, place, ("type", "text"))
            return check_text(part.get("text"), f"{place}.text")
        case "image" | "image_url":
            raise InvalidRequest(
                f"'{place}' is an image: images are not embedded here, only text.", place
            )
        case other:
            raise InvalidRequest(
                f"'{place}.type' must be one of text, image_url, not {shown(other)}.",
                f"{place}.type",
            )


def _refuse_unknown_keys(value: dict[str, Any], place: str, allowed: Sequence[str]) -> None:
    given = {f"{place}.{name}": item for name, item in value.items() if item is not None}
    refuse_unknown(given, [f"{place}.{name}" for name in allowed])


def _filled_list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else kind_of(value)
        raise InvalidRequest(f"'{place}' must be a list of at least one, not {found}.", place)
    return value


def _check_priority(fields: dict[str, Any]) -> None:
    if integer(fields, "priority", minimum=0):
        raise InvalidRequest(
            "'priority' must be 0, the default: requests are queued in fair order between keys, "
            "small ones first.",
            "priority",
        )


def _computed_types(types: Sequence[str]) -> tuple[EmbeddingType, ...]:
    """The types to compute for those to answer with: base64 is of floats."""
    computed = dict.fromkeys("float" if kind == "base64" else kind for kind in types)
    return cast(tuple[EmbeddingType, ...], tuple(computed))


def _render_v2(
    embeddings: Embeddings,
    *,
    request: EmbeddingsRequest,
    types: Sequence[str],
    texts: Sequence[str],
) -> Response:
    vectors = _by_type(embeddings, types)
    return _answer(embeddings, request, "2", "embeddings_by_type", vectors, texts)


def _render_v1(
    embeddings: Embeddings, *, request: EmbeddingsRequest, types: Sequence[str] | None
) -> Response:
    """Floats alone where no types were asked for."""
    texts = request.texts
    if types is None:
        vectors = embeddings.typed("float")
        return _answer(embeddings, request, "1", "embeddings_floats", vectors, texts)
    by_type = _by_type(embeddings, types)
    return _answer(embeddings, request, "1", "embeddings_by_type", by_type, texts)


def _by_type(embeddings: Embeddings, types: Sequence[str]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for kind in types:
        if kind == "base64":
            rows[kind] = pack(embeddings.typed("float"))
        else:
            rows[kind] = embeddings.typed(cast(EmbeddingType, kind))
    return rows


def _answer(
    embeddings: Embeddings,
    request: EmbeddingsRequest,
    version: str,
    response_type: str,
    vectors: object,
    texts: Sequence[str],
) -> Response:
    meta: dict[str, object] = {
        "api_version": {"version": version},
        "billed_units": {"input_tokens": embeddings.token_count},
    }
    if warnings := _warnings(embeddings, request):
        meta["warnings"] = warnings
    answer = {
        "id": embeddings.request_id,
        "response_type": response_type,
        "embeddings": vectors,
        "texts": texts,
        "meta": meta,
    }
    return Response(body=print_json(answer), headers=answer_headers(embeddings))


def _warnings(embeddings: Embeddings, request: EmbeddingsRequest) -> list[str]:
    """One for each text that was cut."""
    tokens = embeddings.tokens
    return [
        f"{request.names.input_at(index)} has {tokens.whole_lengths[index]} tokens and was cut at "
        f"its {request.truncate} to {tokens.lengths[index]}"
        for index in tokens.truncated
    ]


def render_failure(failure: Failure, request_id: str) -> Response:
    error = {"id": request_id, "message": _message(failure)}
    return json_response(error, status=failure.status, headers=dict(failure.headers))


def _message(failure: Failure) -> str:
    """In Cohere's words where they are known, followed by what is known here."""
    said = failure.message
    match failure.cause:
        case MissingKey():
            return f"no api key supplied. {said}"
        case InvalidKey():
            return f"invalid api token. {said}"
        case UnknownModel() as error:
            return (
                f"model '{error.model_id[:100]}' not found, make sure the correct model ID was "
                f"used and that you have access to the model. {said}"
            )
        case TooManyInputs() as error:
            return (
                f"invalid request: total number of {error.field} must be at most {error.maximum} "
                f"- received {error.count}"
            )
        case RateLimitExceeded(limit="requests"):
            return (
                "You are past the per minute request limit, please wait and try again later. "
                f"{said}"
            )
        case RateLimitExceeded(limit="tokens") as error:
            limit = error.standing.limits.tokens
            return f"token rate limit exceeded, limit is {limit} tokens per minute. {said}"
        case EncodeFailed() as error:
            which = ", ".join(map(str, error.failed[:5]))
            where = f"the elements at index {which}" if which else "this request"
            return f"the model failed on {where}. Nothing was billed."
        case UnknownPath() as error:
            return f"there is nothing at '{str(error)[:100]}'. There is POST /v2/embed."
        case _:
            return f"invalid request: {said}" if failure.status == 400 else said


V1_DIALECT = Dialect(parse=parse_v1, render_failure=render_failure)
V2_DIALECT = Dialect(parse=parse_v2, render_failure=render_failure)
