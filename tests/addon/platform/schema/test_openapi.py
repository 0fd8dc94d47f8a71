"""The OpenAPI document of the Platform API: valid, whole, and the hyper-schema's own words."""

from typing import Any

import openapi_spec_validator
import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client

from addon.platform.schema.hyper_schema import METHODS, own_links, own_routes, route

pytestmark = pytest.mark.django_db


@pytest.fixture
def document() -> Any:
    answer = Client().get("/openapi/platform.json")  # nobody needs a token for it
    assert answer.status_code == 200
    assert "ETag" in answer
    return answer.json()


def operations(document: Any) -> dict[Any, Any]:
    return {
        route(method, path): operation
        for path, item in document["paths"].items()
        for method, operation in ((name.upper(), each) for name, each in item.items())
        if method in METHODS
    }


def test_it_is_a_document_of_openapi_3_1(document: Any) -> None:
    openapi_spec_validator.validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": settings.PUBLIC_URL}]


def test_it_has_every_route_but_the_page_itself(document: Any) -> None:
    assert own_routes() - set(operations(document)) == {route("GET", "/openapi/platform")}
    assert set(operations(document)) < own_routes()


def test_each_operation_says_what_the_link_says(document: Any) -> None:
    for found, operation in operations(document).items():
        link = own_links()[found]
        assert operation["summary"] == link.title
        assert operation["description"] == link.description
        assert ("requestBody" in operation) == (link.body is not None)
        assert "default" in operation["responses"]
        assert len(operation["responses"]) == 2


def test_ids_of_operations_are_unique(document: Any) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids)


def test_parts_of_definitions_are_written_out(document: Any) -> None:
    schemas = document["components"]["schemas"]
    state = schemas["add-on"]["properties"]["state"]
    assert state["enum"] == ["provisioning", "provisioned", "deprovisioning", "deprovisioned"]
    assert schemas["add-on"]["properties"]["plan"] == {"$ref": "#/components/schemas/plan"}
    assert set(schemas["plan"]["required"]) == set(schemas["plan"]["properties"])
    assert schemas["plan"]["additionalProperties"] is False
    assert schemas["error"]["required"] == ["id", "message"]


def test_what_is_public_says_so(document: Any) -> None:
    public = {found for found, each in operations(document).items() if each["security"] == []}
    assert route("GET", "/schema") in public
    assert route("GET", "/apps") not in public


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = Client().get("/openapi/platform")
    assert page.status_code == 200
    assert b"://" not in page.content
    assert "'self'" in page["Content-Security-Policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        assert finders.find(f"drf_spectacular_sidecar/swagger-ui-dist/{name}")
    assert finders.find("platform/openapi.js")
