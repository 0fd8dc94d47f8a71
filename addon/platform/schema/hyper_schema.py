"""The hyper-schema as one document, its links by route, and the part of it that Annex has."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from django.conf import settings
from django.urls import URLPattern, get_resolver
from django.views import View

from addon.platform.schema.deviations import DEVIATIONS, Deviation

Schema = dict[str, Any]

FOLDER = Path(__file__).parent
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# "~" is the caller itself, the only account that Annex takes in a path.
_VARIABLE = re.compile(r"<[^>]*>|\{[^}]*\}|(?<=/)~(?=/|$)")
_REFERENCE = re.compile(r"#/definitions/([^/\")]+)")


class RouteDescribedTwice(Exception):
    """Two links of the schema are of one route, and nothing says which holds."""


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class Route:
    """`path` has {} for each name or id: /apps/{}/addons."""

    path: str
    method: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What the schema says of a route: a link description object of draft 4.

    `body` is the schema of the request's body, `target` that of the answer's; an answer that is no
    JSON has another `media_type`.
    """

    definition: str
    href: str
    title: str
    description: str
    rel: str
    body: Schema | None
    target: Schema | None
    media_type: str


def route(method: str, path: str) -> Route:
    """Of a path as Django, OpenAPI or the schema write it."""
    blank = _VARIABLE.sub("{}", "/" + path.removeprefix("/"))
    return Route(path=blank, method=method)


@lru_cache(maxsize=1)
def own_routes() -> frozenset[Route]:
    """The routes that Annex has."""
    patterns = cast(list[URLPattern], get_resolver("addon.platform.urls").url_patterns)
    return frozenset(found for pattern in patterns for found in _routes(pattern))


def _routes(pattern: URLPattern) -> Iterator[Route]:
    view: type[View] = pattern.callback.view_class  # type: ignore[attr-defined]
    for method in METHODS:
        if hasattr(view, method.lower()):
            yield route(method, str(pattern.pattern))


def read_schema(deviations: Sequence[Deviation] = DEVIATIONS) -> Schema:
    """Heroku's definitions and Annex's, with `deviations`: a new document at each call."""
    schema: Schema = json.loads((FOLDER / "heroku.json").read_text())
    added = json.loads((FOLDER / "annex.json").read_text())
    schema["definitions"] |= added["definitions"]
    for deviation in deviations:
        _apply(schema, deviation)
    return schema


def _apply(schema: Schema, deviation: Deviation) -> None:
    *way, last = deviation.at.split("/")
    node: Any = schema
    for step in way:
        node = node[_key(node, step)]
    if deviation.value is None:
        del node[_key(node, last)]
    else:
        node[_key(node, last)] = deviation.value


def _key(node: Any, step: str) -> Any:
    if isinstance(node, list):  # of links
        return next(index for index, link in enumerate(node) if link["title"] == step)
    return step


def links_by_route(schema: Schema, routes: Collection[Route]) -> dict[Route, Link]:
    """Those of `routes` that have a link. Raises RouteDescribedTwice."""
    links: dict[Route, Link] = {}
    named = [("schema", schema), *schema["definitions"].items()]
    for name, definition in named:
        for raw in definition.get("links", []):
            found = _route_of(raw)
            if found not in routes:
                continue
            if found in links:
                raise RouteDescribedTwice(f"{found}: {links[found].title}, {raw['title']}")
            links[found] = _link(name, raw)
    return links


def _route_of(link: Schema) -> Route:
    return route(link.get("method", ""), link["href"])


def _link(definition: str, raw: Schema) -> Link:
    return Link(
        definition=definition,
        href=raw["href"],
        title=raw["title"],
        description=raw.get("description", ""),
        rel=raw.get("rel", "self"),
        body=raw.get("schema"),
        target=raw.get("targetSchema"),
        media_type=raw.get("mediaType", "application/json"),
    )


@lru_cache(maxsize=1)
def own_links() -> dict[Route, Link]:
    return links_by_route(read_schema(), own_routes())


@lru_cache(maxsize=1)
def own_schema() -> Schema:
    """What `GET /schema` answers: the links that Annex has, and the definitions they need."""
    schema, routes = read_schema(), own_routes()
    definitions: Schema = schema["definitions"]
    for definition in (schema, *definitions.values()):
        kept = [link for link in definition.get("links", []) if _route_of(link) in routes]
        definition["links"] = kept
    linked = {name for name, definition in definitions.items() if definition["links"]}
    needed = _with_references(definitions, linked | {"error"})
    return {
        **schema,
        "id": f"{settings.PUBLIC_URL}/schema#",
        "title": "Annex Platform API",
        "description": "Heroku's Platform API, as far as Annex has it, and what Annex adds.",
        "links": [
            {"title": "Index", "href": settings.PUBLIC_URL, "rel": "self"},
            *schema["links"],
        ],
        "definitions": {name: definitions[name] for name in definitions if name in needed},
        "properties": {
            name: {"$ref": f"#/definitions/{name}"} for name in definitions if name in linked
        },
    }


def _with_references(definitions: Schema, names: Collection[str]) -> set[str]:
    """`names`, and all that these refer to in turn."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _REFERENCE.findall(unquote(json.dumps(definitions[name])))
    return needed


def strict(schema: Any) -> Any:
    """The same in plain JSON schema: `strictProperties` is a word of Heroku's own, by which all
    properties are required (if `required` does not say which) and no others allowed."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: strict(value) for name, value in schema.items() if name != "strictProperties"}
    if schema.get("strictProperties") is True:
        plain.setdefault("required", list(schema.get("properties", {})))
        plain["additionalProperties"] = False
    return plain
