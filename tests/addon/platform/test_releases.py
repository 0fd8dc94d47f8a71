import uuid
from typing import Any

import pytest
from django.utils import timezone

from addon.platform.models import Account, App
from addon.platform.releases import create_release
from tests.addon.platform.helpers import Api


@pytest.fixture
def five(shop: App, account: Account) -> App:
    """An app with the releases 1 to 5."""
    for version in range(2, 6):
        create_release(shop, account, f"change {version}", timezone.now())
    return shop


def versions(answer: Any) -> list[int]:
    return [release["version"] for release in answer.json()]


def test_a_release_has_the_fields_of_the_schema(api: Api, shop: App) -> None:
    (release,) = api.get("/apps/shop/releases").json()
    assert set(release) == {
        "addon_plan_names", "app", "artifacts", "created_at", "current", "description",
        "eligible_for_rollback", "id", "oci_image", "output_stream_url", "slug", "status",
        "updated_at", "user", "version",
    }  # fmt: skip
    assert release["user"]["email"] == "dev@example.com"
    assert release["app"] == {"id": str(shop.id), "name": "shop"}


def test_without_a_range_all_come_in_order(api: Api, five: App) -> None:
    answer = api.get("/apps/shop/releases")
    assert (answer.status_code, versions(answer)) == (200, [1, 2, 3, 4, 5])
    assert [release["current"] for release in answer.json()] == [False] * 4 + [True]
    assert answer["Content-Range"] == "version 1..5; max=200"
    assert "Next-Range" not in answer


@pytest.mark.parametrize(
    "header",
    [
        "version ..; max=1, order=desc",
        "version ..; order=desc,max=1",
        "version ..;order=desc,max=1;",
    ],
)
def test_both_spellings_of_the_cli_give_the_newest(api: Api, five: App, header: str) -> None:
    answer = api.get("/apps/shop/releases", Range=header)
    assert (answer.status_code, versions(answer)) == (206, [5])


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("version ..; max=10, order=desc", 200, [5, 4, 3, 2, 1]),
        ("version ..; max=5", 200, [1, 2, 3, 4, 5]),
        ("version ..; max=4", 206, [1, 2, 3, 4]),
        ("version 2..4", 200, [2, 3, 4]),
        ("version ]2..4", 200, [3, 4]),
        ("version ]4..; order=desc, max=2", 206, [3, 2]),
        ("version 4..2; order=desc", 200, [4, 3, 2]),
        ("version 9999999999..", 200, []),
    ],
)
def test_a_range_is_obeyed(
    api: Api, five: App, header: str, status: int, expected: list[int]
) -> None:
    answer = api.get("/apps/shop/releases", Range=header)
    assert (answer.status_code, versions(answer)) == (status, expected)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_following_next_range_gives_every_release_once(api: Api, five: App, order: str) -> None:
    header: str | None = f"version ..; max=2, order={order}"
    seen: list[int] = []
    while header is not None:
        answer = api.get("/apps/shop/releases", Range=header)
        seen += versions(answer)
        header = answer.get("Next-Range")
    assert seen == sorted([1, 2, 3, 4, 5], reverse=order == "desc")


@pytest.mark.parametrize(
    "header",
    ["bytes=0-5", "name ..", "version", "version ..; max=0", "version ..; max=1001",
     "version ..; order=up", "version ..; max", "version a..b"],
)  # fmt: skip
def test_a_range_that_makes_no_sense_is_a_416(api: Api, shop: App, header: str) -> None:
    answer = api.get("/apps/shop/releases", Range=header)
    assert answer.status_code == 416
    assert answer.json()["id"] == "requested_range_not_satisfiable"


def test_a_release_is_found_by_version_and_by_id(api: Api, five: App) -> None:
    by_version = api.get("/apps/shop/releases/3").json()
    assert by_version["description"] == "change 3"
    assert by_version["current"] is False
    assert api.get(f"/apps/shop/releases/{by_version['id']}").json() == by_version


@pytest.mark.parametrize("identity", ["6", "0", "-1", "99999999999999999999", "x", "²"])
def test_an_unknown_release_is_a_404(api: Api, five: App, identity: str) -> None:
    answer = api.get(f"/apps/shop/releases/{identity}")
    assert (answer.status_code, answer.json()["resource"]) == (404, "release")


def test_a_release_of_another_app_is_a_404(api: Api, five: App, blog: App) -> None:
    other = blog.releases.get().id
    assert api.get(f"/apps/shop/releases/{other}").status_code == 404
    assert api.get(f"/apps/shop/releases/{uuid.uuid4()}").status_code == 404
