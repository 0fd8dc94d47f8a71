"""What a release keeps of the config vars, and going back to it."""

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from addon.platform.models import AddonService, App, Release
from tests.addon.platform.helpers import Api

CONFIG = "/apps/shop/config-vars"
RELEASES = "/apps/shop/releases"


@pytest.fixture(autouse=True)
def releases(api: Api, shop: App) -> None:
    """v2 sets FOO=1, v3 sets FOO=2 and BAR, v4 unsets FOO."""
    api.patch(CONFIG, {"FOO": "1"})
    api.patch(CONFIG, {"FOO": "2", "BAR": "x"})
    api.patch(CONFIG, {"FOO": None})


def test_a_release_has_the_config_vars_as_they_were(api: Api) -> None:
    kept = [api.get(f"{RELEASES}/{version}/config-vars").json() for version in (1, 2, 3, 4)]
    assert kept == [{}, {"FOO": "1"}, {"BAR": "x", "FOO": "2"}, {"BAR": "x"}]


def test_a_releases_config_vars_are_encrypted(api: Api) -> None:
    api.patch(CONFIG, {"TOKEN": "the-secret-value"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT config_vars FROM platform_release ORDER BY version DESC")
        assert not any("the-secret-value" in stored for (stored,) in cursor.fetchall())


def test_a_rollback_brings_the_values_back_by_a_new_release(api: Api) -> None:
    third = api.get(f"{RELEASES}/3").json()
    answer = api.post(RELEASES, {"release": third["id"]})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["version"], made["description"], made["current"]) == (5, "Rollback to v3", True)
    assert api.config("shop") == {"BAR": "x", "FOO": "2"}
    assert api.post(RELEASES, {"release": "1"}).json()["version"] == 6
    assert api.config("shop") == {}


def test_a_rollback_that_is_sent_again_is_made_once(api: Api) -> None:
    sent = {"Request-Id": str(uuid.uuid4())}
    first, again = (api.call("POST", RELEASES, {"release": "2"}, **sent) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert len(api.get(RELEASES).json()) == 5


def test_a_rollback_leaves_addons_and_their_config_vars(api: Api, provider: AddonService) -> None:
    api.patch(CONFIG, {"EMBEDDING_URL": "mine"})
    api.add("shop", "EMBEDDING", confirm="shop")
    attached = api.config("shop")
    assert api.get(f"{RELEASES}/6/config-vars").json() == attached
    api.post(RELEASES, {"release": "5"})
    assert api.config("shop") == attached
    api.post(RELEASES, {"release": "3"})
    assert api.config("shop") == {**attached, "BAR": "x", "FOO": "2"}


def test_a_list_does_not_read_what_releases_keep(
    api: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with connection.cursor() as cursor:  # as if the key of old rows were gone
        cursor.execute("UPDATE platform_release SET config_vars = 'no ciphertext'")
    with CaptureQueriesContext(connection) as before:
        assert len(api.get(RELEASES, Range="version ..; max=1").json()) == 1
    with django_assert_num_queries(len(before)):
        assert len(api.get(RELEASES).json()) == 4


def test_only_an_older_release_is_eligible(api: Api) -> None:
    eligible = [row["eligible_for_rollback"] for row in api.get(RELEASES).json()]
    # The current one too, though going back to it is refused: the CLI takes the second of these.
    assert eligible == [True, True, True, True]
    answer = api.post(RELEASES, {"release": "4"})
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "v4 is the current release already",
    )
    Release.objects.filter(version__lte=2).update(config_vars=None)  # from before they were kept
    eligible = [row["eligible_for_rollback"] for row in api.get(RELEASES).json()]
    assert eligible == [False, False, True, True]
    assert api.get(f"{RELEASES}/2").json()["eligible_for_rollback"] is False
    for answer in (api.post(RELEASES, {"release": "2"}), api.get(f"{RELEASES}/2/config-vars")):
        assert (answer.status_code, answer.json()["message"]) == (
            422,
            "The config vars of v2 were not kept",
        )


@pytest.mark.parametrize("release", ["9", "nosuch", "01234567-89ab-cdef-0123-456789abcdef"])
def test_a_release_that_there_is_not_is_a_404(api: Api, release: str) -> None:
    answer = api.post(RELEASES, {"release": release})
    assert (answer.status_code, answer.json()["resource"]) == (404, "release")


def test_the_release_must_be_named(api: Api) -> None:
    for body in ({}, {"release": None}, {"release": 3}):
        answer = api.post(RELEASES, body)
        assert answer.status_code == 422
        assert "release" in answer.json()["message"]
