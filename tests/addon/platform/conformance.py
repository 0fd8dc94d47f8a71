"""Whether an answer of the Platform API is what Heroku's schema, or Annex's beside it, says."""

import json
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
from django.urls import Resolver404, resolve

from addon.platform.schema.hyper_schema import (
    METHODS,
    Link,
    Route,
    Schema,
    links_by_route,
    own_routes,
    read_schema,
    route,
    strict,
)

FORMATS = jsonschema.FormatChecker(formats=("date-time", "email", "uri", "uuid"))


class NotInTheSchema(AssertionError):
    """The answer has another status, type or body than the schema says."""


class Conformance:
    """Checks against one schema; the one with all deviations by default."""

    def __init__(self, schema: Schema | None = None) -> None:
        schema = read_schema() if schema is None else schema
        self.links = links_by_route(schema, own_routes())
        self.definitions = strict(schema["definitions"])

    def check(self, method: str, path: str, answer: Any, sent: object = None) -> None:
        """`sent` is the request's body, when that is to be checked too. Raises NotInTheSchema."""
        called = route_of(path, method)
        if called is None:
            return
        if answer.status_code >= 400:
            self._check_body({"$ref": "#/definitions/error"}, answer, f"{method} {path}")
        elif called not in self.links:
            raise NotInTheSchema(f"no link of the schema is of {called}")
        else:
            link = self.links[called]
            if link.body is not None and sent is not None:
                self._validate(link.body, sent, f"the body of {method} {path}")
            self._check_answer(link, answer, f"{method} {path}")

    def _check_answer(self, link: Link, answer: Any, what: str) -> None:
        if answer.status_code not in statuses_of(link):
            raise NotInTheSchema(f"{what}: {answer.status_code} of {link.rel} {link.title}")
        if answer.status_code in {202, 204, 304} and not answer.content:
            return
        if not answer["Content-Type"].startswith(link.media_type):
            raise NotInTheSchema(f"{what}: {answer['Content-Type']} is not {link.media_type}")
        if link.target is not None and link.media_type == "application/json":
            self._check_body(link.target, answer, what)

    def _check_body(self, target: Schema, answer: Any, what: str) -> None:
        if not answer["Content-Type"].startswith("application/json"):
            raise NotInTheSchema(f"{what}: {answer['Content-Type']} is not JSON")
        self._validate(target, json.loads(answer.content), what)

    def _validate(self, schema: Schema, value: Any, what: str) -> None:
        whole = {**strict(schema), "definitions": self.definitions}
        errors = jsonschema.Draft4Validator(whole, format_checker=FORMATS).iter_errors(value)
        said = [f"{error.json_path}: {error.message[:500]}" for error in errors]
        if said:
            raise NotInTheSchema(f"{what}: " + "; ".join(said))


def route_of(path: str, method: str) -> Route | None:
    """None of what is no route of the Platform API, such as the admin's."""
    try:
        match = resolve(unquote(urlsplit(path).path))
    except Resolver404:
        return None
    called = route(method, match.route)
    return called if any(called.path == each.path for each in own_routes()) else None


def statuses_of(link: Link) -> frozenset[int]:
    match link.rel:
        case "create":
            return frozenset({201})
        case "empty":
            return frozenset({202, 204})
        case _:
            return frozenset({200, 206, 304})


@lru_cache(maxsize=1)
def conformance() -> Conformance:
    return Conformance()


def check_call(method: str, path: str, answer: Any) -> None:
    """Of any call of django's test client; others than the Platform API's are let through."""
    if method in METHODS:
        conformance().check(method, path, answer)
