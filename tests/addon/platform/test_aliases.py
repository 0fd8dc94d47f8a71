"""What happens when a name is in use: a question, an overwrite that was confirmed, or a refusal."""

import pytest

from addon.platform.models import Addon, AddonService, App, Attachment
from addon.provider.credentials import find_identity
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api

VARS = {"EMBEDDING_KEY": "mine", "EMBEDDING_URL": "mine", "EMBEDDING_OTHER": "stays"}


@pytest.mark.usefixtures("shop", "provider")
class TestVarsOfTheUser:
    def test_they_are_named_in_a_question(self, api: Api) -> None:
        api.patch("/apps/shop/config-vars", VARS)
        answer = api.add("shop", "EMBEDDING")
        assert answer.status_code == 423
        assert answer["X-Confirmation-Required"] == "shop"
        assert answer.json() == {
            "id": "confirmation_required",
            "message": "Adding heroku-inference:standard to app shop would overwrite existing "
            "vars EMBEDDING_KEY, EMBEDDING_URL.",
            "app": {"name": "shop"},
        }
        assert api.config("shop") == VARS
        assert not Addon.objects.exists()

    @pytest.mark.parametrize("confirm", ["other", "", "SHOP"])
    def test_a_wrong_confirmation_is_asked_again(self, api: Api, confirm: str) -> None:
        api.patch("/apps/shop/config-vars", VARS)
        assert api.add("shop", "EMBEDDING", confirm=confirm).status_code == 423

    def test_confirmed_by_name_they_are_overwritten(self, api: Api) -> None:
        api.patch("/apps/shop/config-vars", VARS)
        assert api.add("shop", "EMBEDDING", confirm="shop").status_code == 201
        config = api.config("shop")
        assert find_identity(config["EMBEDDING_KEY"]) is not None
        assert config["EMBEDDING_OTHER"] == "stays"

    def test_confirmed_by_id_too_when_attaching(self, api: Api, blog: App) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        api.patch("/apps/blog/config-vars", VARS)
        answer = api.attach("my-embedder", "blog", "EMBEDDING")
        assert answer.status_code == 423
        assert answer.json()["message"].startswith("Attaching my-embedder to app blog would")
        confirmed = api.attach("my-embedder", "blog", "EMBEDDING", confirm=str(blog.id))
        assert confirmed.status_code == 201


@pytest.mark.usefixtures("shop", "blog", "provider")
class TestAnotherAttachment:
    @pytest.fixture
    def two(self, api: Api, shop: App, blog: App, provider: AddonService) -> None:
        """`first` as EMBEDDING on both apps and `second` as OTHER on shop."""
        api.add("shop", "EMBEDDING", name="first")
        api.attach("first", "blog", "EMBEDDING")
        api.add("shop", "OTHER", name="second")

    def test_it_is_named_in_a_question(self, api: Api, two: None) -> None:
        answer = api.attach("second", "blog", "EMBEDDING")
        assert answer.status_code == 423
        assert answer.json()["message"] == (
            "Attaching second to app blog would overwrite existing attachment EMBEDDING from first."
        )

    def test_confirmed_it_is_replaced_with_one_release(self, api: Api, two: None) -> None:
        old = api.config("blog")["EMBEDDING_KEY"]
        assert api.attach("second", "blog", "EMBEDDING", confirm="blog").status_code == 201
        (attachment,) = api.get("/apps/blog/addon-attachments").json()
        assert attachment["addon"]["name"] == "second"
        new = api.config("blog")["EMBEDDING_KEY"]
        assert new != old
        assert len(api.config("blog")) == 3
        assert api.releases("blog")[2:] == ["Attach EMBEDDING (second)"]
        gone = Attachment.objects.get(addon__name="first", app__name="blog")
        assert (gone.state, gone.next_attempt_at is not None) == ("detaching", True)

    def test_the_last_of_its_addon_is_not_replaced_even_when_confirmed(
        self, api: Api, two: None
    ) -> None:
        answer = api.attach("second", "shop", "EMBEDDING", confirm="shop")
        assert answer.status_code == 422
        assert "only name of first on shop" in answer.json()["message"]

    def test_the_same_addon_is_not_attached_again_under_its_name(self, api: Api, two: None) -> None:
        answer = api.attach("first", "blog", "EMBEDDING", confirm="blog")
        assert answer.status_code == 422
        assert "already attached" in answer.json()["message"]

    def test_a_var_that_it_merely_contains_cannot_be_taken(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        """A_URL of the alias A would be one of the vars of nobody else; A_MODEL's _ID is."""
        api.add("shop", "A", name="first")
        AddonService.objects.filter(name="fast-db").update(config_vars=["FAST_DB_ID"])
        answer = api.add("shop", "A_MODEL", plan="fast-db", confirm="shop")
        assert answer.status_code == 422
        assert answer.json()["message"] == (
            "Cannot destroy or overwrite config var A_MODEL_ID from attached add-on first."
        )


@pytest.mark.usefixtures("shop")
class TestAnAttachmentUnderWay:
    def test_its_name_is_taken(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db", name="my-db")
        answer = api.add("shop", "DB", plan="fast-db", confirm="shop")
        assert answer.status_code == 422
        assert "my-db is just being attached to shop as DB" in answer.json()["message"]

    def test_a_default_name_avoids_it(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", plan="fast-db")
        api.add("shop", plan="fast-db")
        names = [row["name"] for row in api.get("/addon-attachments").json()]
        assert names == ["FAST_DB", "FAST_DB_AQUA"]

    def test_what_it_would_overwrite_stays_until_it_comes(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        api.patch("/apps/shop/config-vars", {"DB_URL": "mine"})
        bad_provider.will("POST", 500)
        assert api.add("shop", "DB", plan="fast-db", confirm="shop").status_code == 201
        assert api.config("shop") == {"DB_URL": "mine"}

    def test_a_refused_overwrite_leaves_the_old_attachment(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        api.add("shop", "DB", plan="fast-db", name="first")
        api.attach("first", "blog", "DB")
        api.add("shop", "OTHER", plan="fast-db", name="second")
        bad_provider.will("PUT", 422, {"message": "No."})
        before = api.config("blog")
        assert api.attach("second", "blog", "DB", confirm="blog").status_code == 422
        assert api.config("blog") == before
        (attachment,) = api.get("/apps/blog/addon-attachments").json()
        assert attachment["addon"]["name"] == "first"
