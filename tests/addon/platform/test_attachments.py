"""Attaching and detaching, and reading what is attached."""

import threading
from typing import Any

import pytest
from django.db import connection

from addon.platform.models import Addon, AddonService, App, Attachment
from addon.provider.credentials import find_identity
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, register_bad


@pytest.fixture
def embedder(api: Api, shop: App, blog: App, provider: AddonService) -> str:
    """An add-on of shop, attached there as EMBEDDING."""
    return str(api.add("shop", "EMBEDDING", name="my-embedder").json()["name"])


@pytest.fixture
def database(api: Api, shop: App, blog: App, bad_provider: BadProvider) -> str:
    return str(api.add("shop", "DB", plan="fast-db", name="my-db").json()["name"])


class TestAttaching:
    def test_each_attachment_has_vars_and_a_key_of_its_own(self, api: Api, embedder: str) -> None:
        answer = api.attach(embedder, "blog", "search")
        assert answer.status_code == 201
        attachment = answer.json()
        assert set(attachment) == {
            "addon", "app", "created_at", "id", "log_input_url", "name", "namespace",
            "updated_at", "web_url",
        }  # fmt: skip
        assert attachment["name"] == "SEARCH"
        assert attachment["app"]["name"] == "blog"
        assert attachment["addon"]["name"] == "my-embedder"
        assert attachment["addon"]["app"]["name"] == "shop"
        config = api.config("blog")
        assert list(config) == ["SEARCH_KEY", "SEARCH_MODEL_ID", "SEARCH_URL"]
        assert config["SEARCH_KEY"] != api.config("shop")["EMBEDDING_KEY"]
        identity = find_identity(config["SEARCH_KEY"])
        assert identity is not None
        assert str(identity.attachment_id) == attachment["id"]
        assert (identity.attachment_name, identity.app_name) == ("SEARCH", "blog")
        assert api.releases("blog") == ["Initial release", "Attach SEARCH (my-embedder)"]
        assert len(api.releases("shop")) == 2

    def test_one_app_may_have_it_twice(self, api: Api, embedder: str) -> None:
        assert api.attach(embedder, "shop", "SEARCH").status_code == 201
        assert len(api.config("shop")) == 6

    def test_addon_and_app_may_be_strings_or_ids(self, api: Api, blog: App, embedder: str) -> None:
        addon_id = str(Addon.objects.get().id)
        for addon, app in (
            (embedder, "blog"),
            ({"id": addon_id}, {"id": str(blog.id)}),
            (addon_id, {"name": "blog"}),
        ):
            answer = api.post("/addon-attachments", {"addon": addon, "app": app})
            assert answer.status_code == 201
        names = [row["name"] for row in api.get("/apps/blog/addon-attachments").json()]
        assert names == ["INFERENCE", "INFERENCE_AQUA", "INFERENCE_BLACK"]

    def test_the_default_name_avoids_vars_that_exist(self, api: Api, embedder: str) -> None:
        api.patch("/apps/blog/config-vars", {"INFERENCE_KEY": "mine"})
        assert api.attach(embedder, "blog").json()["name"] == "INFERENCE_AQUA"

    @pytest.mark.parametrize(
        ("change", "status", "word"),
        [
            ({"addon": "nosuch"}, 404, "add on"),
            ({"app": "nosuch"}, 404, "app"),
            ({"addon": None}, 422, "addon"),
            ({"app": {}}, 422, "app"),
            ({"name": 5}, 422, "name"),
            ({"name": "2ND"}, 422, "start with a letter"),
            ({"namespace": "credential:x"}, 422, "namespace"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, api: Api, embedder: str, change: dict[str, object], status: int, word: str
    ) -> None:
        body = {"addon": embedder, "app": "blog", "name": "SEARCH", **change}
        answer = api.post("/addon-attachments", body)
        assert answer.status_code == status
        assert word in answer.json()["message"]
        assert api.config("blog") == {}

    def test_a_stranger_can_attach_neither_to_nor_from_here(
        self, stranger: Api, embedder: str
    ) -> None:
        stranger.post("/apps", {"name": "theirs"})
        assert stranger.attach(embedder, "theirs").json()["resource"] == "add_on"
        assert stranger.attach(embedder, "shop").json()["resource"] == "add_on"

    def test_a_service_may_forbid_sharing(
        self, api: Api, bad_provider: BadProvider, database: str
    ) -> None:
        register_bad(bad_provider, requires=("many_per_app",))
        answer = api.attach(database, "blog")
        assert answer.status_code == 422
        assert "other apps" in answer.json()["message"]
        assert api.attach(database, "shop", "AGAIN").status_code == 201

    def test_one_without_our_extension_gives_the_same_values_without_a_call(
        self, api: Api, shop: App, blog: App, bad_provider: BadProvider
    ) -> None:
        register_bad(bad_provider, attachment_credentials=False)
        api.add("shop", "DB", plan="fast-db", name="my-db")
        answer = api.attach("my-db", "blog", "COPY")
        assert answer.status_code == 201
        assert api.config("blog") == {"COPY_URL": "db://first"}
        assert api.delete(f"/addon-attachments/{answer.json()['id']}").status_code == 200
        assert api.config("blog") == {}
        assert not Attachment.objects.filter(app=blog).exists()
        assert bad_provider.methods() == ["POST"]

    def test_the_provider_is_called_by_our_extension(
        self, api: Api, bad_provider: BadProvider, database: str
    ) -> None:
        attachment = api.attach(database, "blog", "COPY").json()
        call = bad_provider.calls[-1]
        assert call.method == "PUT"
        addon_id = Addon.objects.get().id
        assert call.path == f"/heroku/resources/{addon_id}/attachments/{attachment['id']}"
        assert call.body == {"name": "COPY", "app": "blog"}

    @pytest.mark.parametrize(
        ("status", "body", "shown"),
        [
            (422, {"message": "Two are enough."}, "Two are enough."),
            (503, {"message": "Later, please."}, "Later, please."),
        ],
    )
    def test_a_refusal_shows_the_providers_message_and_leaves_nothing(
        self,
        api: Api,
        bad_provider: BadProvider,
        database: str,
        status: int,
        body: object,
        shown: str,
    ) -> None:
        bad_provider.will("PUT", status, body)
        answer = api.attach(database, "blog", "COPY")
        assert (answer.status_code, answer.json()["message"]) == (status, shown)
        self.assert_nothing_left(api)

    @pytest.mark.parametrize(
        ("status", "body"),
        [(500, {"message": "secret"}), (404, {}), (410, {}), (200, {}), (200, b"no")],
    )
    def test_an_unclear_answer_is_a_503_and_leaves_nothing(
        self, api: Api, bad_provider: BadProvider, database: str, status: int, body: object
    ) -> None:
        bad_provider.will("PUT", status, body)
        answer = api.attach(database, "blog", "COPY")
        assert answer.status_code == 503
        assert "Nothing was attached" in answer.json()["message"]
        assert "secret" not in answer.content.decode()
        self.assert_nothing_left(api)

    def test_a_202_is_a_503_that_says_so_and_leaves_nothing(
        self, api: Api, bad_provider: BadProvider, database: str
    ) -> None:
        bad_provider.will("PUT", 202, {})
        answer = api.attach(database, "blog", "COPY")
        assert answer.status_code == 503
        assert answer.json()["message"] == (
            "Nothing was attached: the provider of "
            f"{database} answered 202, to do it in the background; it has to attach at once"
        )
        self.assert_nothing_left(api)

    @staticmethod
    def assert_nothing_left(api: Api) -> None:
        assert api.config("blog") == {}
        assert api.releases("blog") == ["Initial release"]
        assert api.get("/apps/blog/addon-attachments").json() == []
        # What the provider may have of it is still to be removed there.
        left = Attachment.objects.filter(app__name="blog").values_list("state", flat=True)
        assert set(left) == {"detaching"}

    def test_an_addon_that_is_not_provisioned_yet_cannot_be_attached(
        self, api: Api, shop: App, blog: App, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 202, {"id": "x"})
        api.add("shop", "DB", plan="fast-db", name="my-db")
        answer = api.attach("my-db", "blog")
        assert answer.status_code == 422
        assert "provisioning" in answer.json()["message"]

    def test_an_addon_that_is_destroyed_meanwhile_is_not_attached(
        self, api: Api, bad_provider: BadProvider, database: str
    ) -> None:
        def destroy() -> None:
            api.delete(f"/apps/shop/addons/{database}", {"force": True})
            connection.close()

        bad_provider.will("PUT", 200, {"config": {"FAST_DB_URL": "x"}}, before=destroy)
        answer = api.attach(database, "blog", "COPY")
        assert (answer.status_code, answer.json()["id"]) == (409, "conflict")
        assert api.config("blog") == {}
        assert api.releases("blog") == ["Initial release"]


class TestDetaching:
    def test_vars_and_key_go_with_the_attachment(self, api: Api, embedder: str) -> None:
        attachment = api.attach(embedder, "blog", "SEARCH").json()
        api.patch("/apps/blog/config-vars", {"SEARCH_OWN": "stays"})
        key = api.config("blog")["SEARCH_KEY"]
        answer = api.delete(f"/addon-attachments/{attachment['id']}")
        assert (answer.status_code, answer.json()["name"]) == (200, "SEARCH")
        assert api.config("blog") == {"SEARCH_OWN": "stays"}
        assert find_identity(key) is None
        assert find_identity(api.config("shop")["EMBEDDING_KEY"]) is not None
        assert api.releases("blog")[-1] == "Detach SEARCH (my-embedder)"
        assert not Attachment.objects.filter(app__name="blog").exists()
        assert api.delete(f"/addon-attachments/{attachment['id']}").status_code == 404

    def test_the_last_one_of_the_owning_app_stays(self, api: Api, embedder: str) -> None:
        api.attach(embedder, "blog", "SHARED")
        attachment = api.get("/apps/shop/addon-attachments/EMBEDDING").json()
        answer = api.delete(f"/addon-attachments/{attachment['id']}")
        assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
        assert "heroku addons:destroy my-embedder -a shop" in answer.json()["message"]
        assert "heroku addons:attach my-embedder -a shop --as" in answer.json()["message"]
        assert "EMBEDDING_KEY" in api.config("shop")

    def test_with_another_name_first_it_goes(self, api: Api, embedder: str) -> None:
        attachment = api.get("/apps/shop/addon-attachments/EMBEDDING").json()
        api.attach(embedder, "shop", "SEARCH")
        assert api.delete(f"/addon-attachments/{attachment['id']}").status_code == 200
        assert list(api.config("shop")) == ["SEARCH_KEY", "SEARCH_MODEL_ID", "SEARCH_URL"]

    def test_two_that_are_detached_in_parallel_leave_one(self, api: Api, embedder: str) -> None:
        api.attach(embedder, "shop", "SEARCH")
        ids = [row["id"] for row in api.get("/apps/shop/addon-attachments").json()]
        barrier = threading.Barrier(2)
        statuses: list[int] = []

        def detach(attachment_id: str) -> None:
            barrier.wait()
            statuses.append(api.delete(f"/addon-attachments/{attachment_id}").status_code)
            connection.close()

        threads = [threading.Thread(target=detach, args=[one]) for one in ids]
        connection.close()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 422]
        assert len(api.get("/apps/shop/addon-attachments").json()) == 1

    def test_the_first_one_of_an_addon_that_is_provisioning_stays(
        self, api: Api, shop: App, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        (attachment,) = api.get("/addon-attachments").json()
        assert api.delete(f"/addon-attachments/{attachment['id']}").status_code == 422

    def test_a_provider_that_is_down_is_told_later(
        self, api: Api, bad_provider: BadProvider, database: str
    ) -> None:
        attachment = api.attach(database, "blog", "COPY").json()
        bad_provider.will("DELETE", 500)
        assert api.delete(f"/addon-attachments/{attachment['id']}").status_code == 200
        assert api.config("blog") == {}
        assert api.get("/apps/blog/addon-attachments").json() == []
        row = Attachment.objects.get(id=attachment["id"])
        assert (row.state, row.next_attempt_at is not None) == ("detaching", True)
        assert api.attach(database, "blog", "COPY").status_code == 201  # the name is free

    def test_a_stranger_finds_nothing_to_detach(
        self, api: Api, stranger: Api, embedder: str
    ) -> None:
        attachment = api.attach(embedder, "blog", "SEARCH").json()
        answer = stranger.delete(f"/addon-attachments/{attachment['id']}")
        assert (answer.status_code, answer.json()["resource"]) == (404, "add_on attachment")


class TestReading:
    @pytest.fixture(autouse=True)
    def shared(self, api: Api, embedder: str) -> dict[str, Any]:
        shared: dict[str, Any] = api.attach(embedder, "blog", "SHARED").json()
        return shared

    def names(self, answer: Any) -> list[str]:
        return [row["name"] for row in answer.json()]

    def test_lists(self, api: Api, stranger: Api) -> None:
        assert self.names(api.get("/addon-attachments")) == ["EMBEDDING", "SHARED"]
        assert self.names(api.get("/apps/blog/addon-attachments")) == ["SHARED"]
        ours = api.get("/addons/my-embedder/addon-attachments")
        assert self.names(ours) == ["EMBEDDING", "SHARED"]
        assert stranger.get("/addon-attachments").json() == []

    def test_one_is_found_by_id_and_on_its_app_by_name(
        self, api: Api, shared: dict[str, Any]
    ) -> None:
        for path in (
            f"/addon-attachments/{shared['id']}",
            f"/apps/blog/addon-attachments/{shared['id']}",
            "/apps/blog/addon-attachments/SHARED",
            "/apps/blog/addon-attachments/shared",
        ):
            assert api.get(path).json() == shared

    @pytest.mark.parametrize(
        "path",
        ["/addon-attachments/SHARED", "/addon-attachments/01234567-89ab-cdef-0123-456789abcdef",
         "/apps/shop/addon-attachments/SHARED", "/apps/shop/addon-attachments/%00"],
    )  # fmt: skip
    def test_an_unknown_one_is_a_404_with_its_resource(self, api: Api, path: str) -> None:
        answer = api.get(path)
        assert answer.status_code == 404
        assert answer.json() == {
            "id": "not_found",
            "message": "Couldn't find that add on attachment.",
            "resource": "add_on attachment",
        }

    def test_resolving(self, api: Api, shared: dict[str, Any]) -> None:
        for identity, app in (
            ("SHARED", "blog"),
            ("shared", "blog"),
            ("SHARED", None),
            ("blog::SHARED", None),
            (shared["id"], None),
            (shared["id"], "blog"),
        ):
            body = {"addon_attachment": identity, "app": app}
            answer = api.post("/actions/addon-attachments/resolve", body)
            assert answer.json() == [shared], (identity, app)

    @pytest.mark.parametrize(
        ("identity", "app", "resource"),
        [
            ("SHARED", "shop", "add_on attachment"),
            ("my-embedder", "shop", "add_on attachment"),
            ("SHARED", "nosuch", "app"),
        ],
    )
    def test_what_means_nothing_is_a_404(
        self, api: Api, identity: str, app: str, resource: str
    ) -> None:
        body = {"addon_attachment": identity, "app": app}
        answer = api.post("/actions/addon-attachments/resolve", body)
        assert (answer.status_code, answer.json()["resource"]) == (404, resource)
