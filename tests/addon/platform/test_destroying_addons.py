import pytest

from addon.lifecycle import State
from addon.platform.models import Addon, AddonService, App, Attachment
from addon.provider.credentials import find_identity
from addon.provider.models import Resource
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, only_addon


@pytest.mark.usefixtures("shop", "blog", "provider")
class TestWithOurOwnProvider:
    @pytest.fixture
    def name(self, api: Api) -> str:
        return str(api.add("shop", "EMBEDDING", name="my-embedder").json()["name"])

    def test_vars_key_and_resource_go_with_the_addon(self, api: Api, name: str) -> None:
        key = api.config("shop")["EMBEDDING_KEY"]
        answer = api.delete(f"/apps/shop/addons/{name}", {"force": False})
        assert answer.status_code == 200
        assert answer.json()["state"] == "deprovisioned"
        assert answer.json()["config_vars"] == []
        assert api.config("shop") == {}
        assert find_identity(key) is None
        assert Resource.objects.get().deprovisioned_at is not None
        assert api.releases("shop")[-1] == "Detach EMBEDDING (my-embedder)"
        assert api.get("/apps/shop/releases/3").json()["addon_plan_names"] == []
        assert not Attachment.objects.exists()

    def test_it_is_not_found_afterwards(self, api: Api, name: str) -> None:
        addon_id = api.get(f"/addons/{name}").json()["id"]
        api.delete(f"/apps/shop/addons/{name}")
        for path in (f"/addons/{name}", f"/addons/{addon_id}", f"/apps/shop/addons/{name}"):
            answer = api.get(path)
            assert (answer.status_code, answer.json()["resource"]) == (404, "add_on")
        assert api.delete(f"/apps/shop/addons/{name}").status_code == 404
        assert api.get("/addons").json() == []

    def test_app_and_addon_may_be_given_by_id_and_the_body_be_absent(
        self, api: Api, shop: App, name: str
    ) -> None:
        answer = api.delete(f"/apps/{shop.id}/addons/{only_addon().id}")
        assert answer.json()["state"] == "deprovisioned"

    def test_one_that_other_apps_use_is_kept_without_force(self, api: Api, name: str) -> None:
        api.attach(name, "blog", "SHARED")
        answer = api.delete(f"/apps/shop/addons/{name}", {"force": False})
        assert (answer.status_code, answer.json()["id"]) == (403, "forbidden")
        assert "blog" in answer.json()["message"]
        assert "--force" in answer.json()["message"]
        assert only_addon().state == State.PROVISIONED
        assert "SHARED_KEY" in api.config("blog")

    def test_force_takes_it_off_every_app_with_a_release_each(self, api: Api, name: str) -> None:
        api.attach(name, "blog", "SHARED")
        api.attach(name, "shop", "AGAIN")
        api.patch("/apps/blog/config-vars", {"OWN": "stays"})
        answer = api.delete(f"/apps/shop/addons/{name}", {"force": True})
        assert answer.json()["state"] == "deprovisioned"
        assert api.config("shop") == {}
        assert api.config("blog") == {"OWN": "stays"}
        assert api.releases("shop")[-1] == "Detach AGAIN, EMBEDDING (my-embedder)"
        assert api.releases("blog")[-1] == "Detach SHARED (my-embedder)"
        assert not Attachment.objects.exists()

    @pytest.mark.parametrize("force", ["yes", 1, []])
    def test_force_is_true_or_false(self, api: Api, name: str, force: object) -> None:
        answer = api.delete(f"/apps/shop/addons/{name}", {"force": force})
        assert answer.status_code == 422
        assert "force" in answer.json()["message"]

    def test_an_addon_is_destroyed_on_the_app_that_owns_it(self, api: Api, name: str) -> None:
        api.attach(name, "blog", "SHARED")
        assert api.delete(f"/apps/blog/addons/{name}").status_code == 404

    def test_another_account_finds_nothing_to_destroy(self, stranger: Api, name: str) -> None:
        assert stranger.delete(f"/apps/shop/addons/{name}").status_code == 404
        assert only_addon().state == State.PROVISIONED


@pytest.mark.usefixtures("shop")
class TestWithAnotherProvider:
    @pytest.mark.parametrize("status", [200, 201, 204, 404, 410])
    def test_these_answers_mean_that_it_is_gone(
        self, api: Api, bad_provider: BadProvider, status: int
    ) -> None:
        addon = api.add("shop", plan="fast-db").json()
        bad_provider.will("DELETE", status)
        answer = api.delete(f"/apps/shop/addons/{addon['name']}")
        assert answer.json()["state"] == "deprovisioned"
        assert bad_provider.calls[-1].path == f"/heroku/resources/{addon['id']}"

    @pytest.mark.parametrize("status", [401, 422, 500, 503])
    def test_after_any_other_it_is_retried_and_its_vars_are_gone(
        self, api: Api, bad_provider: BadProvider, status: int
    ) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("DELETE", status, {"message": "secret"})
        answer = api.delete(f"/apps/shop/addons/{name}")
        assert (answer.status_code, answer.json()["state"]) == (200, "deprovisioning")
        assert api.config("shop") == {}
        assert api.get("/addon-attachments").json() == []
        # `addons:destroy --wait` polls it until it is a 404.
        assert api.get(f"/apps/shop/addons/{name}").json()["state"] == "deprovisioning"
        assert only_addon().next_attempt_at is not None

    def test_destroying_it_again_changes_nothing(self, api: Api, bad_provider: BadProvider) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("DELETE", 500)
        api.delete(f"/apps/shop/addons/{name}")
        releases = api.releases("shop")
        answer = api.delete(f"/apps/shop/addons/{name}")
        assert (answer.status_code, answer.json()["state"]) == (200, "deprovisioning")
        assert api.releases("shop") == releases
        assert bad_provider.methods() == ["POST", "DELETE"]

    def test_its_alias_is_free_at_once(self, api: Api, bad_provider: BadProvider) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("DELETE", 500)
        api.delete(f"/apps/shop/addons/{name}")
        assert api.add("shop", "DB", plan="fast-db").status_code == 201


class TestDestroyingApps:
    def test_addons_go_also_where_they_are_attached_elsewhere(
        self, api: Api, shop: App, blog: App, provider: AddonService
    ) -> None:
        name = api.add("shop", "EMBEDDING").json()["name"]
        api.attach(name, "blog", "SHARED")
        keys = [api.config("shop")["EMBEDDING_KEY"], api.config("blog")["SHARED_KEY"]]
        assert api.delete("/apps/shop").status_code == 200
        assert [find_identity(key) for key in keys] == [None, None]
        assert only_addon().state == State.DEPROVISIONED
        assert api.config("blog") == {}
        assert api.releases("blog")[-1] == f"Detach SHARED ({name})"

    def test_addons_of_other_apps_stay_and_lose_the_attachment(
        self, api: Api, shop: App, blog: App, provider: AddonService
    ) -> None:
        name = api.add("shop", "EMBEDDING").json()["name"]
        api.attach(name, "blog", "SHARED")
        shared = api.config("blog")["SHARED_KEY"]
        api.delete("/apps/blog")
        assert find_identity(shared) is None
        assert find_identity(api.config("shop")["EMBEDDING_KEY"]) is not None
        assert [row["name"] for row in api.get("/addon-attachments").json()] == ["EMBEDDING"]
        assert api.delete(f"/apps/shop/addons/{name}", {"force": False}).status_code == 200

    def test_an_app_is_destroyed_though_a_provider_is_down(
        self, api: Api, shop: App, bad_provider: BadProvider
    ) -> None:
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("DELETE", 500)
        assert api.delete("/apps/shop").status_code == 200
        assert api.post("/apps", {"name": "shop"}).status_code == 201
        assert Addon.objects.get().state == State.DEPROVISIONING
