"""The bodies of requests and answers. A null in a request counts as absent."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from inference import token_views
from inference.calibration import Calibration
from inference.catalogue import INPUT_TYPES, load_catalogue
from inference.dialects import cohere, openai, sagemaker
from inference.openai_tokens import SPECIAL_TOKENS
from inference.quantization import EMBEDDING_TYPES

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
ERROR_TYPES = (
    *("invalid_request_error", "requests", "tokens", "insufficient_quota"),
    "server_error",
)


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def components() -> dict[str, Schema]:
    """All that is referred to by name."""
    return {
        **_requests(),
        **_answers(),
        **_errors(),
        **msgspec.json.schema_components(
            (Calibration,), ref_template="#/components/schemas/{name}"
        )[1],
    }


def _requests() -> dict[str, Schema]:
    return {
        "ModelId": {"type": "string", "enum": list(load_catalogue())},
        "Text": _text(),
        "TokenIds": {
            "description": "Token ids of OpenAI's cl100k_base, read as the text they stand for.",
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": max(SPECIAL_TOKENS)},
            "minItems": 1,
        },
        "Input": _input(),
        "EmbeddingsRequest": _embeddings_request(),
        "TokenizeRequest": _request(
            _pick(_openai_fields(), token_views.PARAMETERS), ["model", "input"]
        ),
        "ContentInput": _content_input(),
        "EmbedV2Request": {
            **_request(_cohere_fields(cohere.V2_PARAMETERS), ["model", "input_type"]),
            "oneOf": _texts_or_inputs(),
        },
        "EmbedV1Request": _request(
            {
                **_cohere_fields(cohere.V1_PARAMETERS),
                "embedding_types": _types(EMBEDDING_TYPES),
                "input_type": _choice(INPUT_TYPES, "search_document"),
                "model": _optional(reference("ModelId"), "By default that of the key's plan."),
            },
            ["texts"],
        ),
        "InvocationRequest": {
            **_request(_cohere_fields(sagemaker.PARAMETERS), ["input_type"]),
            "allOf": [{"oneOf": _texts_or_inputs()}, {"anyOf": _one_name_of_types()}],
        },
    }


def _answers() -> dict[str, Schema]:
    return {
        "Vector": _array(NUMBER),
        "OneTypesVector": {"anyOf": [reference("Vector"), _base64()]},
        "EmbeddingList": _embedding_list(),
        "EmbeddingsByType": _embeddings_by_type([*EMBEDDING_TYPES, "base64"]),
        "EmbedV2Answer": _embed_answer("2", "embeddings_by_type", reference("EmbeddingsByType")),
        "EmbedV1Answer": {
            "oneOf": [
                _embed_answer("1", "embeddings_floats", _array(reference("Vector"))),
                _embed_answer("1", "embeddings_by_type", reference("EmbeddingsByType")),
            ]
        },
        "TokenList": _token_list(),
        "Usage": _object(prompt_tokens=COUNT, total_tokens=COUNT),
        "Model": _model(),
        "ModelList": _object(object={"const": "list"}, data=_array(reference("Model"))),
        "AvailableModels": _array(
            _object(
                model_id=STRING,
                type=_array({"const": "text-to-embedding"}),
                link=_url(),
                regions=_array(STRING),
                **_service(),
            )
        ),
        "AddonModel": _addon_model(),
        "Document": {"type": "object", "description": "In OpenAPI 3.1."},
        "Health": _object(
            web={"const": "ok"},
            models={"type": "object", "additionalProperties": _object(workers=COUNT)},
        ),
    }


def _errors() -> dict[str, Schema]:
    return {
        "OpenAIError": _object(
            error=_object(
                message=STRING,
                type={"enum": list(ERROR_TYPES)},
                param={"type": ["string", "null"], "description": "The field at fault."},
                code={"type": ["string", "null"]},
            )
        ),
        "CohereError": _object(id=STRING, message=STRING),
        "RuntimeError": _object(Message=STRING, message=STRING),
        "RuntimeModelError": _object(
            Message=STRING,
            OriginalStatusCode={"type": "integer", "minimum": 400, "maximum": 599},
            OriginalMessage={"type": "string", "description": "The container's CohereError."},
        ),
    }


def _embeddings_request() -> Schema:
    fields = _openai_fields()
    only_known = {"properties": dict.fromkeys(fields, True), "additionalProperties": _null()}
    ignores = {
        "properties": {"allow_ignored_params": {"const": True}},
        "required": ["allow_ignored_params"],
    }
    return {
        "type": "object",
        "properties": fields,
        "required": ["model", "input"],
        "anyOf": [only_known, ignores],
    }


def _openai_fields() -> dict[str, Schema]:
    return {
        "model": reference("ModelId"),
        "input": reference("Input"),
        "input_type": _choice(INPUT_TYPES, "search_document"),
        "encoding_format": _choice(openai.ENCODING_FORMATS, "raw", "float is raw."),
        "embedding_type": _types(EMBEDDING_TYPES),
        "dimensions": _dimension(),
        "truncate": _choice(openai.TRUNCATE, "end", "Where a text that is too long is cut."),
        "max_tokens": _max_tokens(),
        "allow_untrained_dimensions": _flag("Allow any length up to the model's own."),
        "allow_ignored_params": _flag("Ignore other parameters, which are refused otherwise."),
        "user": {"description": "Not used."},
    }


def _cohere_fields(names: Iterable[str]) -> dict[str, Schema]:
    types = _types(cohere.V2_TYPES)
    fields: dict[str, Schema] = {
        "model": reference("ModelId"),
        "texts": {**_inputs(reference("Text")), "type": ["array", "null"]},
        "inputs": {**_inputs(reference("ContentInput")), "type": ["array", "null"]},
        "input_type": {"type": "string", "enum": list(INPUT_TYPES)},
        **dict.fromkeys(sagemaker.TYPES_NAMES, types),
        "output_dimension": _dimension(),
        "max_tokens": _max_tokens(),
        "truncate": _choice(list(cohere.TRUNCATE), "END", "LEFT is START, RIGHT is END."),
        "priority": {"enum": [0, None], "default": 0},
        "allow_untrained_dimensions": _flag("Allow any length up to the model's own."),
    }
    if "inputs" not in names:
        fields["texts"] = _inputs(reference("Text"))
    return _pick(fields, names)


def _texts_or_inputs() -> list[Schema]:
    """Exactly one of the two is given."""
    return [
        {
            "required": [given],
            "properties": {given: {"type": "array"}, other: {"type": "null"}},
        }
        for given, other in (("texts", "inputs"), ("inputs", "texts"))
    ]


def _one_name_of_types() -> list[Schema]:
    """The types under one of their names."""
    return [
        {"properties": {other: _null() for other in sagemaker.TYPES_NAMES if other != name}}
        for name in sagemaker.TYPES_NAMES
    ]


def _text() -> Schema:
    return {
        "description": "At most as many characters as the model takes; no NUL.",
        "type": "string",
        "minLength": 1,
        "maxLength": max(model.max_input_characters for model in load_catalogue().values()),
        "pattern": "^[^\\u0000]*$",
    }


def _input() -> Schema:
    return {
        "description": "A text, a list of texts, the token ids of a text, or a list of those.",
        "anyOf": [
            reference("Text"),
            _inputs(reference("Text")),
            reference("TokenIds"),
            _inputs(reference("TokenIds")),
        ],
    }


def _content_input() -> Schema:
    part = _object(type={"const": "text"}, text=reference("Text"))
    part["additionalProperties"] = _null()
    return {
        "description": "Text parts, which make one text with a line feed between them.",
        "type": "object",
        "properties": {"content": {"type": "array", "items": part, "minItems": 1}},
        "required": ["content"],
        "additionalProperties": _null(),
    }


def _inputs(items: Schema) -> Schema:
    max_inputs = max(model.max_inputs for model in load_catalogue().values())
    return {"type": "array", "items": items, "minItems": 1, "maxItems": max_inputs}


def _dimension() -> Schema:
    models = load_catalogue().values()
    return {
        "description": "One that the model was trained for: "
        + "; ".join(
            f"{model.id}: {', '.join(map(str, model.output_dimensions))}" for model in models
        ),
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": max(model.dimensions for model in models),
    }


def _max_tokens() -> Schema:
    return {
        "description": "The longest a text may be, prompt and special tokens included.",
        "type": ["integer", "null"],
        "minimum": 1,
    }


def _types(allowed: Sequence[str]) -> Schema:
    several = {
        "type": "array",
        "items": {"enum": list(allowed)},
        "minItems": 1,
        "uniqueItems": True,
    }
    return {"anyOf": [{"enum": [*allowed, None]}, several], "default": "float"}


def _choice(allowed: Sequence[str], default: str, description: str = "") -> Schema:
    schema: Schema = {"enum": [*allowed, None], "default": default}
    return {"description": description, **schema} if description else schema


def _flag(description: str) -> Schema:
    return {"description": description, "type": ["boolean", "null"], "default": False}


def _optional(schema: Schema, description: str) -> Schema:
    return {"description": description, "anyOf": [schema, _null()]}


def _request(fields: dict[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": _null(),
    }


def _pick(fields: dict[str, Schema], names: Iterable[str]) -> dict[str, Schema]:
    return {name: fields[name] for name in names}


def _embedding_list() -> Schema:
    embedding = {
        "description": "With a list of several types, an object by type.",
        "anyOf": [
            reference("OneTypesVector"),
            {
                "type": "object",
                "properties": dict.fromkeys(EMBEDDING_TYPES, reference("OneTypesVector")),
                "minProperties": 2,
                "additionalProperties": False,
            },
        ],
    }
    item = _object(object={"const": "embedding"}, index=COUNT, embedding=embedding)
    item["properties"]["embeddings"] = {
        **embedding,
        "description": "The same again, for the AI plugin of Heroku's CLI alone.",
    }
    return _object(
        object={"const": "list"},
        data=_array(item),
        model=STRING,
        usage=reference("Usage"),
    )


def _embeddings_by_type(types: Sequence[str]) -> Schema:
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    signed = {"type": "integer", "minimum": -128, "maximum": 127}
    items = {"float": NUMBER, "int8": signed, "uint8": byte, "binary": signed, "ubinary": byte}
    rows = {kind: _array(_array(item)) for kind, item in items.items()}
    rows["base64"] = _array(_base64())
    return {
        "type": "object",
        "properties": {kind: rows[kind] for kind in types},
        "minProperties": 1,
        "additionalProperties": False,
    }


def _embed_answer(version: str, response_type: str, embeddings: Schema) -> Schema:
    meta = _object(
        api_version=_object(version={"const": version}),
        billed_units=_object(input_tokens=COUNT),
    )
    meta["properties"]["warnings"] = {
        "description": "One for each text that was cut.",
        **_array(STRING),
    }
    return _object(
        id=STRING,
        response_type={"const": response_type},
        embeddings=embeddings,
        texts=_array(STRING),
        meta=meta,
    )


def _token_list() -> Schema:
    item = _object(
        object={"const": "tokens"},
        index=COUNT,
        tokens=COUNT,
        cut_tokens=COUNT,
        ids=_array(COUNT),
    )
    item["properties"]["kept_text"] = {"type": "string", "description": "Of a text that is cut."}
    return _object(
        object={"const": "list"},
        model=STRING,
        data=_array(item),
        usage=reference("Usage"),
        price=_object(
            currency=STRING,
            microunits_per_million_tokens=COUNT,
            microunits={"type": "number", "minimum": 0},
        ),
    )


def _model() -> Schema:
    return _object(
        id=STRING,
        object={"const": "model"},
        created={"const": 0},
        owned_by=STRING,
        description=STRING,
        link=_url(),
        dimensions=COUNT,
        output_dimensions=_array(COUNT),
        context_tokens=COUNT,
        max_inputs=COUNT,
        max_input_characters=COUNT,
        max_request_tokens=COUNT,
        price={
            "description": "In the key's plan, if it has one.",
            "anyOf": [_object(currency=STRING, microunits_per_million_tokens=COUNT), _null()],
        },
        **_service(),
    )


def _addon_model() -> Schema:
    schema = _object(
        **{
            "model_id": STRING,
            **_service(),
            "ready": {"enum": ["Yes", "No"]},
            "plan": STRING,
        }
    )
    schema["properties"]["avg_performance"] = {"type": "string", "pattern": r"^\d+ tokens/sec$"}
    return schema


def _service() -> dict[str, Schema]:
    """What stands behind a model's id."""
    return {
        "checkpoint": STRING,
        "revision": {"type": ["string", "null"]},
        "is_upstream": BOOLEAN,
        "installed": BOOLEAN,
        "ready": BOOLEAN,
        "workers": COUNT,
    }


def _object(**properties: Schema) -> Schema:
    """With all of these, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _null() -> Schema:
    return {"type": "null"}


def _base64() -> Schema:
    return {
        "type": "string",
        "contentEncoding": "base64",
        "description": "The vector's little-endian bytes.",
    }


def _url() -> Schema:
    return {"type": "string", "format": "uri"}
