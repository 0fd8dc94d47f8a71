"""The OpenAI dialect of `POST /v1/embeddings`: a JSON body to a request, vectors to a JSON body."""

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import msgspec
import orjson

from inference.catalogue import INPUT_TYPES, Model
from inference.embeddings import Embeddings, EmbeddingsRequest

# An error quotes what was sent, but not all of it.
SHOWN_MAX_CHARACTERS = 50
SHOWN_MAX_NAMES = 5
ENCODING_FORMATS = ("raw", "float", "base64")
EncodingFormat = Literal["float", "base64"]
PARAMETERS = ("model", "input", "input_type", "encoding_format", "user")

# A value takes two bytes to send and up to a hundred to hold, and nothing else is served meanwhile.
LARGE_BODY_BYTES = 100_000
MAX_STRINGS = 10_000
# The closing quote may lack: a pattern that fails would be tried again from every other quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class _LargeBody(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters with their types: decoding ends at the first value of another type."""

    model: str | None = None
    input: str | list[str] | None = None
    input_type: str | None = None
    encoding_format: str | None = None
    user: msgspec.Raw = msgspec.Raw(b"null")


_decode_large_body = msgspec.json.Decoder(_LargeBody).decode


class InvalidRequest(Exception):
    """The body cannot be served; `message` says what is allowed, `param` names the field."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedBody:
    request: EmbeddingsRequest
    encoding_format: EncodingFormat


def parse_embeddings_body(body: bytes) -> ParsedBody:
    """The request in the body. The content type is ignored: the documented curl call posts JSON as
    a form. A null counts as absent. Raises InvalidRequest."""
    fields = _fields(body)
    return ParsedBody(
        request=EmbeddingsRequest(
            model_id=_required_string(fields, "model"),
            texts=_texts(fields.get("input")),
            input_type=_choice(fields, "input_type", INPUT_TYPES, "search_document"),
        ),
        encoding_format="base64"
        if _choice(fields, "encoding_format", ENCODING_FORMATS, "raw") == "base64"
        else "float",
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        body = body.removeprefix(BOM_UTF8)
        is_large = len(body) > LARGE_BODY_BYTES
        fields = _large_fields(body) if is_large else msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_kind(fields)}.")
    given = {name: value for name, value in fields.items() if value is not None}
    unknown = [name[:SHOWN_MAX_CHARACTERS] for name in given if name not in PARAMETERS]
    if unknown:
        names = ", ".join(repr(name) for name in unknown[:SHOWN_MAX_NAMES])
        allowed = ", ".join(PARAMETERS)
        raise InvalidRequest(
            f"Unknown parameter: {names}. Allowed: {allowed}.", unknown[0], "unknown_parameter"
        )
    return given


def _large_fields(body: bytes) -> dict[str, Any]:
    """The fields of a large body; refuses one with other or more values than a request has before
    they are made. Errors are less exact than those about a small body."""
    if sum(1 for _ in islice(_STRING.finditer(body), MAX_STRINGS + 1)) > MAX_STRINGS:
        raise InvalidRequest(f"The body must hold at most {MAX_STRINGS} strings.", "input")
    try:
        return msgspec.structs.asdict(_decode_large_body(body))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body is not a request for embeddings: {error}.") from None


def _required_string(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise InvalidRequest(f"'{name}' is required.", name, "missing_required_parameter")
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"'{name}' must be a non-empty string, not {_kind(value)}.", name)
    return value


def _choice(fields: dict[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = fields.get(name, default)
    if value not in allowed:
        raise InvalidRequest(
            f"'{name}' must be one of {', '.join(allowed)}, not {_shown(value)}.", name
        )
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        raise InvalidRequest("'input' is required.", "input", "missing_required_parameter")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise InvalidRequest(
            f"'input' must be a string or a list of strings, not {_kind(value)}.", "input"
        )
    if not texts:
        raise InvalidRequest("'input' must hold at least one string.", "input")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest(
                f"'input[{index}]' must be a string, not {_kind(text)}.", f"input[{index}]"
            )
        if not text:
            place = "input" if isinstance(value, str) else f"input[{index}]"
            raise InvalidRequest(f"'{place}' must not be an empty string.", place)
    return tuple(texts)


def render_embeddings(embeddings: Embeddings, encoding_format: EncodingFormat) -> bytes:
    """OpenAI's embedding list. Floats are printed so that both formats decode to the same values;
    base64 is of little-endian float32."""
    vectors = embeddings.vectors  # (B, D)
    # orjson prints float32 as few digits as it needs, msgspec prints bytes in base64.
    packed = encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": vector.astype("<f4").tobytes() if packed else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = embeddings.token_count
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": embeddings.model.id, "usage": usage}
    if packed:
        return msgspec.json.encode(answer)
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def render_model(model: Model) -> dict[str, object]:
    """A model in OpenAI's shape, with the checkpoint that serves it."""
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "annex",
        "checkpoint": model.checkpoint,
        "dimensions": model.dimensions,
        "context_tokens": model.context_tokens,
    }


def _kind(value: Any) -> str:
    """JSON's name for the type of a decoded value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(value: Any) -> str:
    return repr(value[:SHOWN_MAX_CHARACTERS]) if isinstance(value, str) else _kind(value)
