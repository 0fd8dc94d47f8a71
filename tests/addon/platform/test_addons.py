"""Listing add-ons, finding one, and resolving whatever the CLI was given."""

import pytest
from pytest_django import DjangoAssertNumQueries

from addon.platform.models import Account, AddonService, App, Attachment
from billing.models import Subscription
from tests.addon.platform.helpers import Api, new_app


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


def test_an_apps_list_has_what_it_owns_and_what_is_attached_to_it(
    api: Api, stranger: Api, blog: App
) -> None:
    assert [row["name"] for row in api.get("/addons").json()] == ["my-embedder"]
    assert [row["name"] for row in api.get("/apps/shop/addons").json()] == ["my-embedder"]
    assert [row["name"] for row in api.get("/apps/blog/addons").json()] == ["my-embedder"]
    assert stranger.get("/addons").json() == []
    api.delete(f"/addon-attachments/{_attachment_id(api, 'blog')}")
    assert api.get("/apps/blog/addons").json() == []


def _attachment_id(api: Api, app: str) -> str:
    (attachment,) = api.get(f"/apps/{app}/addon-attachments").json()
    attachment_id: str = attachment["id"]
    return attachment_id


def test_an_addon_is_renamed_and_everything_else_stays(api: Api, addon: str) -> None:
    before = api.get("/addons/my-embedder").json()
    answer = api.patch("/apps/shop/addons/my-embedder", {"name": "searcher"})
    assert answer.status_code == 200
    same = {"name": "searcher", "updated_at": answer.json()["updated_at"]}
    assert answer.json() == {**before, **same}
    assert api.get("/addons/searcher").json()["id"] == addon
    assert api.get("/addons/my-embedder").status_code == 404
    assert Subscription.objects.get(resource_id=addon).resource_name == "searcher"


@pytest.mark.parametrize(
    "name", ["", "1st", "a", "a b", "x" * 257, "01234567-89ab-cdef-0123-456789abcdef"]
)
def test_an_addon_cannot_have_every_name(api: Api, name: str) -> None:
    answer = api.patch("/apps/shop/addons/my-embedder", {"name": name})
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert "name must start with a letter" in answer.json()["message"]


def test_a_name_that_another_addon_has_is_refused(api: Api) -> None:
    api.add("shop", name="searcher")
    answer = api.patch("/apps/shop/addons/my-embedder", {"name": "searcher"})
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "Name searcher is already taken",
    )


def test_a_change_must_name_something(api: Api) -> None:
    answer = api.patch("/apps/shop/addons/my-embedder", {})
    assert answer.status_code == 422
    assert "name or plan must be given" in answer.json()["message"]


def test_plan_and_name_may_change_at_once(api: Api) -> None:
    change = {"name": "searcher", "plan": {"name": "heroku-inference:all-minilm-l6-v2"}}
    changed = api.patch("/apps/shop/addons/my-embedder", change).json()
    assert (changed["name"], changed["plan"]["name"]) == (
        "searcher",
        "heroku-inference:all-minilm-l6-v2",
    )


@pytest.mark.parametrize("identity", ["shop::EMBEDDING", "blog::shared", "EMBEDDING", "SHARED"])
def test_an_addon_is_found_by_what_it_is_attached_as(api: Api, addon: str, identity: str) -> None:
    assert api.get(f"/addons/{identity}").json()["id"] == addon
    assert api.get(f"/addons/{identity}/addon-attachments").status_code == 200


def test_an_attachments_name_that_means_several_is_ambiguous(api: Api, account: Account) -> None:
    new_app(account, "third")
    api.add("third", alias="EMBEDDING", name="another")
    answer = api.get("/addons/EMBEDDING")
    assert (answer.status_code, answer.json()) == (
        422,
        {
            "id": "multiple_matches",
            "message": "Ambiguous identifier; multiple matching add-ons found: my-embedder, "
            "another.",
        },
    )
    found = api.post("/actions/addons/resolve", {"addon": "EMBEDDING", "app": None}).json()
    assert [row["name"] for row in found] == ["my-embedder", "another"]


def test_an_addon_is_changed_and_destroyed_at_the_app_that_owns_it_only(api: Api) -> None:
    assert api.get("/apps/blog/addons/my-embedder").status_code == 200
    for answer in (
        api.patch("/apps/blog/addons/my-embedder", {"name": "searcher"}),
        api.delete("/apps/blog/addons/my-embedder", {"force": True}),
    ):
        assert (answer.status_code, answer.json()["resource"]) == (404, "add_on")


def test_the_config_of_an_addon_has_the_manifests_names(api: Api) -> None:
    config = {row["name"]: row["value"] for row in api.get("/addons/my-embedder/config").json()}
    assert config == {
        f"INFERENCE_{name}": api.config("shop")[f"EMBEDDING_{name}"]
        for name in ("KEY", "MODEL_ID", "URL")
    }
    assert api.get("/addons/my-embedder/config/credential:readonly").json() == []


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
     "/apps/shop/addons/nosuch", "/apps/shop/addons/heroku-inference",
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
    with django_assert_max_num_queries(5):  # one of them for the plan's prices
        assert len(api.get("/addons").json()) == 4
