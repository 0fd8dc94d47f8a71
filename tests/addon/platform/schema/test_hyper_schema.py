"""The schema against the routes, and against what they answer and take."""

import hashlib
import json
from typing import Any

import jsonschema
import pytest
from django.conf import settings
from django.test import Client

from addon.platform.schema.deviations import DEVIATIONS, Deviation
from addon.platform.schema.hyper_schema import (
    FOLDER,
    Route,
    RouteDescribedTwice,
    links_by_route,
    own_routes,
    own_schema,
    read_schema,
    route,
)
from tests.addon.platform.conformance import FORMATS, Conformance, NotInTheSchema, route_of
from tests.addon.platform.schema.tour import Exchange

pytestmark = pytest.mark.django_db(transaction=True)

# They only ever say that there is none.
ALWAYS_404 = {
    route("GET", "/apps/<app>/pipeline-couplings"),
    route("DELETE", "/oauth/sessions/~"),
}
OF_HEROKU = "f8954a58ad229bf95dcdbb62df1ff5a1414e6a04bdf81422e33e43faca802202"


def check(conformance: Conformance, exchange: Exchange) -> None:
    method, path, answer = exchange.method, exchange.path, exchange.answer
    conformance.check(method, path, answer, sent=exchange.sent)


def test_every_route_is_in_the_schema() -> None:
    assert set(links_by_route(read_schema(), own_routes())) == own_routes()


def test_herokus_schema_is_unchanged() -> None:
    assert hashlib.sha256((FOLDER / "heroku.json").read_bytes()).hexdigest() == OF_HEROKU


def test_every_route_answers_and_takes_what_the_schema_says(exchanges: list[Exchange]) -> None:
    conformance = Conformance()
    succeeded: set[Route | None] = set()
    for exchange in exchanges:
        check(conformance, exchange)
        if exchange.answer.status_code < 300:
            succeeded.add(route_of(exchange.path, exchange.method))
        else:
            assert exchange.answer.status_code == 404, exchange.answer.content
    assert own_routes() - succeeded == ALWAYS_404


def test_every_deviation_is_needed(exchanges: list[Exchange]) -> None:
    unneeded = [one.at for one in DEVIATIONS if not is_needed(one, exchanges)]
    assert not unneeded, "\n".join(unneeded)


def is_needed(deviation: Deviation, exchanges: list[Exchange]) -> bool:
    """Whether an exchange is refused by the schema without `deviation`."""
    others = [each for each in DEVIATIONS if each is not deviation]
    try:
        conformance = Conformance(read_schema(others))
        for exchange in exchanges:
            check(conformance, exchange)
    except (NotInTheSchema, RouteDescribedTwice, jsonschema.exceptions._WrappedReferencingError):
        return True
    return False


def test_a_wrong_field_type_format_or_status_is_found(exchanges: list[Exchange]) -> None:
    conformance = Conformance()
    app = next(each.answer for each in exchanges if each.path == "/apps/shop")
    good = app.json()
    for wrong in (
        {**good, "more": 1},
        {**good, "name": 5},
        {**good, "id": "no uuid"},
        {**good, "created_at": "yesterday"},
        {**good, "web_url": "no url"},
        {name: value for name, value in good.items() if name != "owner"},
    ):
        app.content = json.dumps(wrong).encode()
        with pytest.raises(NotInTheSchema):
            conformance.check("GET", "/apps/shop", app)
    app.content = json.dumps(good).encode()
    conformance.check("GET", "/apps/shop", app)
    app.status_code = 201
    with pytest.raises(NotInTheSchema):
        conformance.check("GET", "/apps/shop", app)


@pytest.mark.parametrize("name", ["date-time", "email", "uri", "uuid"])
def test_formats_are_checked(name: str) -> None:
    assert name in FORMATS.checkers


class TestTheSchemaThatIsServed:
    def get(self) -> Any:
        answer = Client().get("/schema")  # nobody needs a token for it
        assert answer.status_code == 200
        assert "ETag" in answer
        return answer.json()

    def test_it_has_the_links_of_annex_and_no_others(self) -> None:
        schema = self.get()
        assert set(links_by_route(schema, own_routes())) == own_routes()
        links = [link for each in schema["definitions"].values() for link in each["links"]]
        assert len(links) + 1 == len(own_routes())  # the schema's own is at the root
        index, own = schema["links"]
        assert (index["href"], own["href"]) == (settings.PUBLIC_URL, "/schema")

    def test_all_that_it_refers_to_is_in_it(self) -> None:
        schema = self.get()
        for reference in references(schema):
            node = schema
            for step in reference.removeprefix("#/").split("/"):
                node = node[step]

    def test_it_is_a_schema_of_draft_4(self) -> None:
        schema = self.get()
        jsonschema.Draft4Validator.check_schema(schema)
        assert schema["$schema"] == "http://interagent.github.io/interagent-hyper-schema"

    def test_it_is_not_changed_by_who_reads_it(self) -> None:
        assert self.get() == own_schema() == self.get()


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for value in node.values() for found in references(value)]
