"""The OpenAPI 3.1 document of the Platform API: drf-spectacular's, with the hyper-schema's words.

drf-spectacular walks the routes; what a route takes and answers is its link in the hyper-schema, so
that nothing is written twice.
"""

import re
from functools import lru_cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry

from addon.platform.schema.hyper_schema import (
    Link,
    Schema,
    own_links,
    own_schema,
    route,
    strict,
)

SECURITY_SCHEME = "token"  # of the settings
# Words of the hyper-schema that mean nothing in OpenAPI.
HYPER_WORDS = frozenset({"$schema", "definitions", "identity", "links", "readonly", "stability"})
VALUES = frozenset({"enum", "examples", "default", "required"})
TITLE_PREFIX = re.compile(r"^(Heroku|Annex) Platform API - ")
SUCCESS = {"create": "201", "empty": "202"}

_PARAMETER = re.compile(r"\{(\w+)\}")
_DEFINITION = re.compile(r"#/definitions/([^/]+)")


@lru_cache(maxsize=1)
def document() -> Schema:
    """The document, as `GET /openapi/platform.json` answers it."""
    generator: Any = SchemaGenerator  # whose methods have no types
    schema: Schema = generator(urlconf="addon.platform.urls").get_schema(request=None, public=True)
    return schema


def no_request(*_: object) -> None:
    """What drf-spectacular gives views instead of a request; a link does not depend on one."""


class LinkSchema(AutoSchema):
    """The operation of a route is made from the route's link."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> Schema:
        link = own_links()[route(method.upper(), path)]
        return operation(link, path, needs_token=bool(self.view.authentication_classes))


def operation(link: Link, path: str, *, needs_token: bool) -> Schema:
    made: Schema = {
        "operationId": _operation_id(f"{link.definition} {link.title}"),
        "summary": link.title,
        "description": link.description,
        "tags": [link.definition],
        "parameters": [_parameter(name) for name in _PARAMETER.findall(path)],
        "responses": {SUCCESS.get(link.rel, "200"): _answer(link), "default": _refusal()},
        "security": [{SECURITY_SCHEME: []}] if needs_token else [],
    }
    if link.body is not None:
        content = {"application/json": {"schema": to_openapi(link.body)}}
        made["requestBody"] = {
            "required": bool(link.body.get("required")),
            "content": content,
        }
    return made


def _operation_id(text: str) -> str:
    """add-on List By App: addOnListByApp"""
    first, *others = re.split(r"[^A-Za-z0-9]+", text)
    return first.lower() + "".join(other.capitalize() for other in others)


def _parameter(name: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": f"What the {name.replace('_', ' ')} is called, or its id.",
        "schema": {"type": "string"},
    }


def _answer(link: Link) -> Schema:
    target = {"type": "string", "format": "binary"} if link.target is None else link.target
    content = {link.media_type: {"schema": to_openapi(target)}}
    return {"description": link.title, "content": content}


def _refusal() -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}
    return {"description": "An error: docs/platform.md lists them.", "content": content}


def add_components(result: Schema, **_: object) -> Schema:
    """The definitions of the hyper-schema, as a hook of drf-spectacular."""
    definitions = own_schema()["definitions"]
    shown = {name: each for name, each in definitions.items() if "properties" in each}
    result.setdefault("components", {})["schemas"] = {
        name: to_openapi(each) for name, each in sorted(shown.items())
    }
    tags = sorted({link.definition for link in own_links().values()})
    result["tags"] = [_tag(name, definitions.get(name, {})) for name in tags]
    return result


def _tag(name: str, definition: Schema) -> Schema:
    return {"name": name, "description": definition.get("description", "")}


def to_openapi(schema: Any) -> Schema:
    """A schema of draft 4 as OpenAPI 3.1 has it.

    Whole definitions become components. Parts of definitions, which OpenAPI has no place for, are
    written out where they are referred to.
    """
    converted: Schema = _convert(strict(schema))
    return converted


def _convert(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_convert(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _refer(schema["$ref"])
    converted: Schema = {}
    for word, value in schema.items():
        if word == "properties":
            converted[word] = {name: _convert(each) for name, each in value.items()}
        elif word == "example":
            converted["examples"] = [value]
        elif word == "title":
            converted[word] = TITLE_PREFIX.sub("", value)
        elif word == "type" and len(value) == 1 and isinstance(value, list):
            converted[word] = value[0]
        elif word not in HYPER_WORDS:
            converted[word] = value if word in VALUES else _convert(value)
    return converted


def _refer(reference: str) -> Any:
    whole = _DEFINITION.fullmatch(reference)
    if whole is not None:
        return {"$ref": f"#/components/schemas/{whole[1]}"}
    part: Any = own_schema()
    for step in reference.removeprefix("#/").split("/"):
        part = part[step]
    return to_openapi(part)
