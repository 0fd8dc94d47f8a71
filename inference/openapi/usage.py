"""What the document says of `GET /v1/usage`: its parameters and its page of rows."""

from typing import Any

from billing.usage_reports import DIMENSIONS
from inference.usage_views import (
    BUCKET_WIDTHS,
    DEFAULT_LIMIT,
    FILTER_MAX_VALUES,
    FORMATS,
    MAX_LIMIT,
    MAX_SPANS,
)

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "description": "Negative where corrections took more off."}
TIME: Schema = {"type": "string", "format": "date-time"}
UUID: Schema = {"type": "string", "format": "uuid"}
GROUPS: dict[str, Schema] = {
    "model": STRING,
    "attachment": UUID,
    "attachment_name": {"type": "string", "description": "With `attachment`."},
    "app": STRING,
    "key": {**UUID, "description": "The id of the key."},
}
AMOUNTS: dict[str, Schema] = {
    "requests": {**COUNT, "description": "Those that were answered."},
    "inputs": {**COUNT, "description": "Texts and images."},
    "text_tokens": COUNT,
    "image_tokens": {**COUNT, "description": "Pixels / 784."},
    "total_tokens": COUNT,
}


def components() -> dict[str, Schema]:
    times: dict[str, Schema] = {"start_time": TIME, "end_time": TIME}
    cost: Schema = {
        "type": "string",
        "pattern": r"^-?\d+\.\d{6}$",
        "description": "Exact, in millionths of the currency.",
    }
    row = {"object": {"const": "usage"}, **times, **AMOUNTS, "currency": STRING}
    row["cost_microunits"] = cost
    page: dict[str, Schema] = {
        "object": {"const": "page"},
        **times,
        "bucket_width": {"enum": list(BUCKET_WIDTHS)},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/UsageRow"}},
        "has_more": {"type": "boolean"},
        "next_page": {"type": ["string", "null"], "description": "For the parameter `page`."},
    }
    return {
        "UsageRow": {
            "type": "object",
            "properties": {**row, **GROUPS},
            "required": list(row),
            "additionalProperties": False,
        },
        "UsagePage": {
            "type": "object",
            "properties": page,
            "required": list(page),
            "additionalProperties": False,
        },
    }


def parameters() -> list[Schema]:
    spans = ", ".join(
        f"{MAX_SPANS[granularity].days} days with {width}"
        for width, granularity in BUCKET_WIDTHS.items()
    )
    time: Schema = {
        "anyOf": [TIME, {"type": "string", "format": "date"}, {"type": "integer", "minimum": 0}]
    }
    return [
        _parameter("start_time", time, f"Rounded down to a bucket's start; at most {spans}."),
        _parameter("end_time", time, "Rounded up to a bucket's end; by default now."),
        _parameter("bucket_width", {"enum": list(BUCKET_WIDTHS), "default": "1d"}, "In UTC."),
        _list("group_by", {"enum": list(DIMENSIONS)}, "One row each in a bucket."),
        _list("model", STRING, "Only these models."),
        _list("attachment", STRING, "Only these attachments, by id or name."),
        _list("app", STRING, "Only these apps, by name."),
        _parameter(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            "How many rows a page has.",
        ),
        _parameter("page", STRING, "`next_page` of the page before."),
        _parameter("format", {"enum": list(FORMATS)}, "By default what Accept says, or json."),
    ]


def _parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _list(name: str, items: Schema, description: str) -> Schema:
    """Separated by commas, or given several times."""
    schema = {"type": "array", "items": items, "maxItems": FILTER_MAX_VALUES}
    return {**_parameter(name, schema, description), "style": "form", "explode": False}
