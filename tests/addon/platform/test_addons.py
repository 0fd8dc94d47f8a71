"""Listing add-ons, finding one, and resolving whatever the CLI was given."""

import pytest
from pytest_django import DjangoAssertNumQueries

from addon.platform.models import AddonService, App, Attachment
from tests.addon.platform.helpers import Api


@pytest.fixture(autouse=True)
def addon(api: Api, shop: App, blog: App, provider: AddonService) -> str:
    """my-embedder of shop, which blog has attached as SHARED; returns its id."""
    addon = api.add("shop", "EMBEDDING", name="my-embedder").json()
    api.attach("my-embedder", "blog", "SHARED")
    return str(addon["id"])


def resolved(api: Api, identity: str, app: str | None = None) -> list[str]:
    answer = api.post("/actions/addons/resolve", {"addon": identity, "app": app})
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()]


def test_lists_have_owned_addons_only(api: Api, stranger: Api) -> None:
    assert [row["name"] for row in api.get("/addons").json()] == ["my-embedder"]
    assert [row["name"] for row in api.get("/apps/shop/addons").json()] == ["my-embedder"]
    assert api.get("/apps/blog/addons").json() == []
    assert stranger.get("/addons").json() == []


def test_config_vars_are_those_on_the_owning_app(api: Api) -> None:
    api.attach("my-embedder", "shop", "AGAIN")
    (row,) = api.get("/addons").json()
    assert row["config_vars"] == [
        "AGAIN_KEY", "AGAIN_MODEL_ID", "AGAIN_URL",
        "EMBEDDING_KEY", "EMBEDDING_MODEL_ID", "EMBEDDING_URL",
    ]  # fmt: skip


def test_an_addon_is_found_by_name_and_id(api: Api, addon: str) -> None:
    by_name = api.get("/addons/my-embedder").json()
    assert by_name["id"] == addon
    for path in (f"/addons/{addon}", f"/apps/shop/addons/{addon}", "/apps/shop/addons/my-embedder"):
        assert api.get(path).json() == by_name


@pytest.mark.parametrize(
    "path",
    ["/addons/nosuch", "/addons/01234567-89ab-cdef-0123-456789abcdef", "/addons/%00",
     "/apps/shop/addons/nosuch", "/apps/blog/addons/my-embedder",
     "/addons/nosuch/addon-attachments"],
)  # fmt: skip
def test_an_unknown_addon_is_a_404_with_its_resource(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "id": "not_found",
        "message": "Couldn't find that add on.",
        "resource": "add_on",
    }


def test_another_accounts_addon_looks_like_none(stranger: Api, addon: str) -> None:
    for identity in ("my-embedder", addon):
        assert stranger.get(f"/addons/{identity}").status_code == 404
        answer = stranger.post("/actions/addons/resolve", {"addon": identity})
        assert (answer.status_code, answer.json()["resource"]) == (404, "add_on")


def test_everything_that_an_addon_may_be_called_is_resolved(api: Api, addon: str) -> None:
    attachment = str(Attachment.objects.get(name="SHARED").id)
    for identity, app in (
        ("my-embedder", None),
        ("my-embedder", "shop"),
        ("my-embedder", "blog"),  # owned elsewhere: the CLI says so by itself
        (addon, None),
        (addon.upper(), "shop"),
        ("EMBEDDING", "shop"),
        ("embedding", "shop"),
        ("SHARED", "blog"),
        (attachment, None),
        (attachment, "blog"),
        ("heroku-inference", "shop"),
        ("heroku-inference", "blog"),
        ("shop::EMBEDDING", None),
        ("blog::SHARED", None),
    ):
        assert resolved(api, identity, app) == ["my-embedder"], (identity, app)


def test_the_app_may_be_given_by_id_or_left_out(api: Api, shop: App) -> None:
    assert resolved(api, "EMBEDDING", str(shop.id)) == ["my-embedder"]
    assert api.post("/actions/addons/resolve", {"addon": "my-embedder"}).status_code == 200


def test_a_service_that_the_app_has_twice_is_ambiguous(api: Api) -> None:
    api.add("shop", "OTHER", name="other-embedder")
    assert resolved(api, "heroku-inference", "shop") == ["my-embedder", "other-embedder"]


@pytest.mark.parametrize(
    ("identity", "app", "resource"),
    [
        ("nosuch", None, "add_on"),
        ("nosuch", "shop", "add_on"),
        ("EMBEDDING", None, "add_on"),
        ("EMBEDDING", "blog", "add_on"),
        ("heroku-inference", None, "add_on"),
        ("shop::SHARED", None, "add_on"),
        ("nosuch::EMBEDDING", None, "app"),
        ("my-embedder", "nosuch", "app"),
    ],
)
def test_what_means_nothing_is_a_404_with_its_resource(
    api: Api, identity: str, app: str | None, resource: str
) -> None:
    answer = api.post("/actions/addons/resolve", {"addon": identity, "app": app})
    assert (answer.status_code, answer.json()["resource"]) == (404, resource)


@pytest.mark.parametrize("body", [{}, {"addon": None}, {"addon": 5}, {"addon": ""}])
def test_resolving_needs_an_identity(api: Api, body: object) -> None:
    answer = api.post("/actions/addons/resolve", body)
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert "addon" in answer.json()["message"]


def test_a_list_costs_the_same_few_queries_however_long(
    api: Api, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        api.add("shop")
    with django_assert_max_num_queries(4):  # one of them for the plan's prices
        assert len(api.get("/addons").json()) == 4
