import pytest

from addon.platform import config_vars
from addon.platform.models import AddonService, App, ConfigVar
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api

PATH = "/apps/shop/config-vars"


def test_vars_are_set_changed_and_unset_with_one_release_each(api: Api, shop: App) -> None:
    assert api.patch(PATH, {"FOO": "bar", "BAZ": "qux=1"}).json() == {"BAZ": "qux=1", "FOO": "bar"}
    assert api.patch(PATH, {"FOO": "other"}).json() == {"BAZ": "qux=1", "FOO": "other"}
    assert api.patch(PATH, {"FOO": None}).json() == {"BAZ": "qux=1"}
    assert api.patch(PATH, {"NEW": "", "BAZ": None}).json() == {"NEW": ""}
    assert api.config("shop") == {"NEW": ""}
    assert api.releases("shop") == [
        "Initial release",
        "Set FOO, BAZ config vars",
        "Set FOO config vars",
        "Remove FOO config vars",
        "Set NEW and Remove BAZ config vars",
    ]


def test_a_release_names_twenty_vars_and_counts_the_rest(api: Api, shop: App) -> None:
    api.patch(PATH, {f"VAR_{number:02}": "x" for number in range(25)})
    description = api.releases("shop")[-1]
    assert description.startswith("Set VAR_00, VAR_01, ")
    assert description.endswith(", VAR_19 and 5 more config vars")


@pytest.mark.parametrize("changes", [{}, {"FOO": "bar"}, {"MISSING": None}, None])
def test_no_release_is_made_when_nothing_changes(api: Api, shop: App, changes: object) -> None:
    api.patch(PATH, {"FOO": "bar"})
    answer = api.patch(PATH, changes)
    assert (answer.status_code, answer.json()) == (200, {"FOO": "bar"})
    assert len(api.releases("shop")) == 2


@pytest.mark.parametrize("name", ["", "A-B", "A B", "ä", "A\n", "$X", "A" * 257])
def test_a_name_that_no_env_var_could_have_is_refused(api: Api, shop: App, name: str) -> None:
    answer = api.patch(PATH, {"GOOD": "1", name: "x"})
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert "letters, digits and underscores" in answer.json()["message"]
    assert api.config("shop") == {}


@pytest.mark.parametrize("value", [5, True, [], {}, 1.5])
def test_a_value_that_is_no_string_is_refused_by_name(api: Api, shop: App, value: object) -> None:
    answer = api.patch(PATH, {"FOO": value})
    assert answer.status_code == 422
    assert "FOO must be a string" in answer.json()["message"]


def test_a_value_has_a_longest_length(api: Api, shop: App) -> None:
    assert api.patch(PATH, {"FOO": "x" * 32_768}).status_code == 200
    answer = api.patch(PATH, {"FOO": "x" * 32_769})
    assert answer.status_code == 422
    assert "FOO" in answer.json()["message"]


def test_all_vars_of_an_app_together_have_a_longest_length(api: Api, shop: App) -> None:
    halves = {"A": "x" * 32_767, "B": "é" * 16_383 + "y"}
    assert api.patch(PATH, halves).status_code == 200
    answer = api.patch(PATH, {"C": ""})
    assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
    assert "at most 65536 bytes together" in answer.json()["message"]
    assert api.patch(PATH, {"A": None, "C": "x" * 32_767}).status_code == 200


def test_an_app_that_has_more_than_that_can_have_less(
    api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.patch(PATH, {"A": "xxxxx", "B": "yyyyy"})
    monkeypatch.setattr(config_vars, "CONFIG_MAX_BYTES", 4)
    assert api.patch(PATH, {"A": "xxxx"}).status_code == 200
    assert api.patch(PATH, {"A": "xxxxx"}).status_code == 422
    assert api.patch(PATH, {"A": None}).status_code == 200


def test_a_body_that_is_no_object_is_a_400(api: Api, shop: App) -> None:
    assert api.patch(PATH, ["FOO"]).status_code == 400


def test_values_are_kept_exactly_and_encrypted(api: Api, shop: App) -> None:
    value = "it's $5\n\ttab ünïcode 🦉 "
    api.patch(PATH, {"ODD": value})
    assert api.config("shop") == {"ODD": value}
    assert value not in str(ConfigVar.objects.values("id", "name").get())


def test_apps_do_not_share_vars(api: Api, shop: App, blog: App) -> None:
    api.patch(PATH, {"FOO": "bar"})
    assert api.config("blog") == {}


class TestVarsOfAnAttachment:
    @pytest.fixture(autouse=True)
    def addon(self, api: Api, shop: App, provider: AddonService) -> str:
        return str(api.add("shop", "EMBEDDING", name="my-embedder").json()["name"])

    @pytest.mark.parametrize("value", ["x", "", None])
    def test_they_are_neither_changed_nor_unset(self, api: Api, value: str | None) -> None:
        before = api.config("shop")
        answer = api.patch(PATH, {"FOO": "bar", "EMBEDDING_KEY": value})
        assert answer.status_code == 422
        assert answer.json() == {
            "id": "invalid_params",
            "message": "Cannot destroy or overwrite config var EMBEDDING_KEY from attached "
            "add-on my-embedder.",
        }
        assert api.config("shop") == before

    def test_sending_everything_back_is_fine(self, api: Api) -> None:
        """As `heroku config:edit` does."""
        config = {**api.config("shop"), "NEW": "x y"}
        answer = api.patch(PATH, config)
        assert (answer.status_code, answer.json()) == (200, config)
        assert api.releases("shop")[-1] == "Set NEW config vars"
        assert api.patch(PATH, {"EMBEDDING_KEY": "x"}).status_code == 422


def test_vars_that_an_attachment_is_about_to_bring_cannot_be_set(
    api: Api, shop: App, bad_provider: BadProvider
) -> None:
    bad_provider.will("POST", 500)
    assert api.add("shop", "DB", plan="fast-db").json()["state"] == "provisioning"
    assert api.patch(PATH, {"DB_URL": "mine"}).status_code == 422
    assert api.patch(PATH, {"DB_URL": None, "DB_NAME": "mine"}).status_code == 200
