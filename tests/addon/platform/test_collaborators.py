"""`heroku access`: who may work with an app that is another's."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from addon.platform.accounts import create_account
from addon.platform.changes import Change, Kind, changed
from addon.platform.models import Account, App, Collaborator
from addon.platform.serializers import actor_json
from addon.platform.teams import create_team
from tests.addon.platform.helpers import Api, api_of

pytestmark = pytest.mark.usefixtures("shop")

PATH = "/apps/shop/collaborators"


@pytest.fixture
def friend(db: None) -> Account:
    return create_account("friend@example.com", "Friend")


@pytest.fixture
def friends_api(friend: Account) -> Api:
    return api_of(friend)


@pytest.fixture
def changes() -> Iterator[list[Change]]:
    told: list[Change] = []

    def tell(change: Change, **kwargs: object) -> None:
        if change.kind == Kind.COLLABORATOR:
            told.append(change)

    changed.connect(tell)
    yield told
    changed.disconnect(tell)


def emails(api: Api, path: str = PATH) -> list[tuple[str, str]]:
    return [(row["user"]["email"], row["role"]) for row in api.get(path).json()]


def test_the_owner_of_an_app_has_access_to_it(api: Api, account: Account, shop: App) -> None:
    answer = api.get(PATH)
    assert answer.status_code == 200
    (owner,) = answer.json()
    assert owner["user"] == {"email": account.email, "federated": False, "id": str(account.id)}
    assert (owner["role"], owner["permissions"]) == ("owner", [])
    assert owner["app"] == {"id": str(shop.id), "name": "shop"}
    assert api.get(f"{PATH}/{owner['id']}").json() == owner


def test_a_collaborator_sees_the_app_from_then_on(
    api: Api, friends_api: Api, friend: Account
) -> None:
    assert friends_api.get("/apps/shop").status_code == 404
    added = api.post(PATH, {"user": "FRIEND@example.com", "silent": True})
    assert added.status_code == 201
    assert added.json()["user"]["id"] == str(friend.id)
    assert emails(api) == [("dev@example.com", "owner"), ("friend@example.com", "collaborator")]
    assert friends_api.get("/apps/shop").status_code == 200
    for path in ("/apps", "/users/~/apps"):
        assert [app["name"] for app in friends_api.get(path).json()] == ["shop"]


@pytest.mark.parametrize("way", ["email", "id", "email object", "id object"])
def test_a_collaborator_is_called_by_email_or_id(api: Api, friend: Account, way: str) -> None:
    user = {
        "email": friend.email,
        "id": str(friend.id),
        "email object": {"email": friend.email},
        "id object": {"id": str(friend.id)},
    }[way]
    added = api.post(PATH, {"user": user}).json()
    for identity in (friend.email, str(friend.id), added["id"]):
        assert api.get(f"{PATH}/{identity}").json() == added


def test_removing_a_collaborator_ends_the_access(api: Api, friends_api: Api) -> None:
    added = api.post(PATH, {"user": "friend@example.com"}).json()
    removed = api.delete(f"{PATH}/friend@example.com")
    assert removed.status_code == 200
    assert removed.json() == added
    assert friends_api.get("/apps/shop").status_code == 404
    again = api.delete(f"{PATH}/friend@example.com")
    assert again.status_code == 404
    assert again.json()["resource"] == "collaborator"


def test_a_collaborator_may_leave_but_remove_nobody_else(api: Api, friends_api: Api) -> None:
    create_account("third@example.com")
    third = api.post(PATH, {"user": "third@example.com"}).json()
    mine = api.post(PATH, {"user": "friend@example.com"}).json()
    for identity in ("third@example.com", third["id"]):
        refused = friends_api.delete(f"{PATH}/{identity}")
        assert refused.status_code == 403
        assert "manage" in refused.json()["message"]
    assert friends_api.post(PATH, {"user": "third@example.com"}).status_code == 403
    assert friends_api.delete(f"{PATH}/{mine['id']}").status_code == 200
    assert emails(api) == [("dev@example.com", "owner"), ("third@example.com", "collaborator")]


def test_somebody_without_an_account_is_not_found_and_who_makes_one_is_said(api: Api) -> None:
    for user in ("nobody@example.com", str(uuid4()), "no address"):
        answer = api.post(PATH, {"user": user})
        assert answer.status_code == 404
        assert answer.json()["resource"] == "user"
        assert f"Couldn't find that user: {user}" in answer.json()["message"]
        assert "create_account" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user"),
        ({"user": None}, "user"),
        ({"user": 7}, "user"),
        ({"user": {"name": "x"}}, "user"),
        ({"user": "friend@example.com", "silent": "yes"}, "silent"),
        ({"user": "friend@example.com", "permissions": ["fly"]}, "permissions"),
        ({"user": "friend@example.com", "permissions": "view"}, "permissions"),
    ],
)
def test_a_wrong_body_is_refused_by_the_name_of_the_field(
    api: Api, friend: Account, body: dict[str, object], field: str
) -> None:
    answer = api.post(PATH, body)
    assert answer.status_code == 422
    assert answer.json()["id"] == "invalid_params"
    assert field in answer.json()["message"]
    assert not Collaborator.objects.exists()


def test_nobody_is_added_twice_nor_the_owner(api: Api, friend: Account) -> None:
    api.post(PATH, {"user": friend.email})
    for user, said in ((friend.email, "already a collaborator"), ("dev@example.com", "the owner")):
        answer = api.post(PATH, {"user": user})
        assert answer.status_code == 422
        assert said in answer.json()["message"]
    refused = api.delete(f"{PATH}/dev@example.com")
    assert refused.status_code == 422
    assert "the owner" in refused.json()["message"]
    assert len(emails(api)) == 2


def test_a_request_that_is_sent_again_finds_what_it_made(api: Api, friend: Account) -> None:
    sent = {"Request-Id": str(uuid4())}
    first, second = (api.call("POST", PATH, {"user": friend.email}, **sent) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert Collaborator.objects.count() == 1


def test_a_persons_app_has_no_permissions_to_choose(api: Api, friend: Account) -> None:
    answer = api.post(PATH, {"user": friend.email, "permissions": ["view"]})
    assert answer.status_code == 422
    assert "an app of a team only" in answer.json()["message"]
    for method, path in (
        ("GET", "/teams/apps/shop"),
        ("GET", "/teams/apps/shop/collaborators"),
        ("PATCH", f"/teams/apps/shop/collaborators/{friend.email}"),
    ):
        body = {"permissions": ["view"]} if method == "PATCH" else None
        assert api.call(method, path, body).json()["resource"] == "app"


def test_every_change_is_told(api: Api, friend: Account, changes: list[Change]) -> None:
    api.post(PATH, {"user": friend.email})
    api.delete(f"{PATH}/{friend.email}")
    told = [
        (change.action, change.app.name, actor_json(change.account)["email"]) for change in changes
    ]
    assert told == [
        ("create", "shop", "dev@example.com"),
        ("destroy", "shop", "dev@example.com"),
    ]
    assert all(change.row.account == friend for change in changes)  # type: ignore[attr-defined]


def test_a_teams_account_cannot_be_a_collaborator(api: Api, account: Account) -> None:
    team = create_team("acme", account, uuid4()).team
    for user in (team.account.email, str(team.account.id)):
        assert api.post(PATH, {"user": user}).status_code == 404
