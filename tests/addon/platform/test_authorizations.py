"""`/oauth/authorizations`: API tokens that are made, listed, changed and revoked."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from addon.json_api import find_uuid
from addon.platform import authorizations
from addon.platform.authorizations import (
    TeamHasNoTokens,
    create_authorization,
    digest,
    find_authorization,
)
from addon.platform.models import Account, Authorization
from tests.addon.platform.helpers import Api


def test_what_the_cli_sends_makes_a_token_that_works_and_expires(api: Api) -> None:
    body = {"description": "ci key", "expires_in": "3600", "scope": ["read", "write"]}
    answer = api.post("/oauth/authorizations", body)
    assert answer.status_code == 201
    made = answer.json()
    assert made["description"] == "ci key"
    assert made["scope"] == ["read", "write"]
    assert 3590 <= made["access_token"]["expires_in"] <= 3600
    assert made["user"]["email"] == "dev@example.com"
    token = made["access_token"]["token"]
    assert Api(token=token).get("/account").json()["email"] == "dev@example.com"
    assert find_authorization(token, timezone.now() + timedelta(seconds=3601)) is None


def test_without_wishes_it_is_global_and_for_good(api: Api) -> None:
    made = api.post("/oauth/authorizations", {}).json()
    assert made["description"] == "Long-lived user authorization"
    assert made["scope"] == ["global"]
    assert made["access_token"]["expires_in"] is None


@pytest.mark.parametrize(
    "expires_in", [0, -1, "0", "", "-5", "1h", 1.5, True, [], 10**12, "9" * 99]
)
def test_an_expiry_that_is_none_is_refused(api: Api, expires_in: object) -> None:
    answer = api.post("/oauth/authorizations", {"expires_in": expires_in})
    assert answer.status_code == 422
    assert "expires_in must be" in answer.json()["message"]


@pytest.mark.parametrize("scope", ["global", [], ["all"], ["read", 7], [["read"]], {"read": True}])
def test_scopes_that_there_are_not_are_refused_with_those_that_there_are(
    api: Api, scope: object
) -> None:
    answer = api.post("/oauth/authorizations", {"scope": scope})
    assert answer.status_code == 422
    assert (
        "global, identity, read, write, read-protected, write-protected" in answer.json()["message"]
    )


def test_a_client_is_refused(api: Api) -> None:
    answer = api.post("/oauth/authorizations", {"client": str(uuid4())})
    assert answer.status_code == 422
    assert "client must be absent" in answer.json()["message"]


def test_a_token_is_shown_once_and_hinted_at_later(api: Api) -> None:
    made = api.post("/oauth/authorizations", {"description": "ci"}).json()
    token, path = made["access_token"]["token"], f"/oauth/authorizations/{made['id']}"
    hint = f"{token[:9]}**********{token[-4:]}"
    for answer in (api.get(path), api.get("/oauth/authorizations"), api.patch(path, {}),
                   api.delete(path)):  # fmt: skip
        assert hint in answer.content.decode()
        assert token not in answer.content.decode()


def test_whoever_asks_finds_the_own_token_as_auth_token_needs_it(api: Api) -> None:
    (own,) = api.get("/oauth/authorizations").json()
    assert own["access_token"]["token"] == api.token


def test_the_access_token_has_an_id_of_its_own(api: Api) -> None:
    made = api.post("/oauth/authorizations", {}).json()
    assert find_uuid(made["access_token"]["id"]) is not None
    assert made["access_token"]["id"] != made["id"]


def test_a_description_is_changed_and_stays_without_one(api: Api) -> None:
    made = api.post("/oauth/authorizations", {"description": "ci"}).json()
    path = f"/oauth/authorizations/{made['id']}"
    assert api.patch(path, {"description": "cd"}).json()["description"] == "cd"
    assert api.patch(path, {}).json()["description"] == "cd"
    assert api.get(path).json()["description"] == "cd"


def test_revoking_is_effective_at_once(api: Api) -> None:
    made = api.post("/oauth/authorizations", {"description": "ci"}).json()
    other = Api(token=made["access_token"]["token"])
    assert other.get("/account").status_code == 200
    answer = api.delete(f"/oauth/authorizations/{made['id']}")
    assert (answer.status_code, answer.json()["description"]) == (200, "ci")
    assert other.get("/account").status_code == 401
    assert api.delete(f"/oauth/authorizations/{made['id']}").status_code == 404


def test_a_regenerated_token_ends_the_one_before_and_keeps_the_rest(api: Api) -> None:
    body = {"description": "ci", "scope": ["read"], "expires_in": 60}
    made = api.post("/oauth/authorizations", body).json()
    again = api.post(f"/oauth/authorizations/{made['id']}/actions/regenerate-tokens", None).json()
    assert (again["id"], again["scope"]) == (made["id"], ["read"])
    assert again["access_token"]["expires_in"] <= 60
    assert again["access_token"]["id"] != made["access_token"]["id"]
    assert Api(token=made["access_token"]["token"]).get("/apps").status_code == 401
    assert Api(token=again["access_token"]["token"]).get("/apps").status_code == 200


def test_an_expired_one_is_not_there_any_more(api: Api, account: Account) -> None:
    expired = create_authorization(account, "old", expires_at=timezone.now()).authorization
    assert [row["description"] for row in api.get("/oauth/authorizations").json()] == ["tests"]
    path = f"/oauth/authorizations/{expired.id}"
    assert api.get(path).status_code == 404
    assert api.post(f"{path}/actions/regenerate-tokens", None).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
def test_another_account_finds_none_of_it(api: Api, stranger: Api, method: str) -> None:
    made = api.post("/oauth/authorizations", {"description": "ci"}).json()
    path = f"/oauth/authorizations/{made['id']}"
    path += "/actions/regenerate-tokens" if method == "POST" else ""
    answer = stranger.call(method, path, {"description": "theirs"})
    assert (answer.status_code, answer.json()["resource"]) == (404, "authorization")
    assert Api(token=made["access_token"]["token"]).get("/account").status_code == 200
    assert [row["description"] for row in stranger.get("/oauth/authorizations").json()] == ["tests"]


@pytest.mark.parametrize("identity", ["~", "nosuch", "%00", "0" * 300])
def test_what_is_no_id_is_not_found(api: Api, identity: str) -> None:
    answer = api.get(f"/oauth/authorizations/{identity}")
    assert answer.status_code == 404
    assert answer.json()["resource"] == "authorization"


def test_the_clis_logout_ends_its_token_and_no_other(api: Api, account: Account) -> None:
    """@heroku-cli/command 13.2.0, lib/login.js: logout()."""
    cli = Api(token=create_authorization(account, "Heroku CLI login").token)
    session = cli.delete("/oauth/sessions/~")
    assert (session.status_code, session.json()["resource"]) == (404, "session")
    default = cli.get("/oauth/authorizations/~")
    assert (default.status_code, default.json()["resource"]) == (404, "authorization")
    for row in cli.get("/oauth/authorizations").json():
        prefix, _, suffix = row["access_token"]["token"].partition("*" * 10)
        if cli.token == prefix or (
            suffix and cli.token.startswith(prefix) and cli.token.endswith(suffix)
        ):
            assert cli.delete(f"/oauth/authorizations/{row['id']}").status_code == 200
    assert cli.get("/account").status_code == 401
    assert api.get("/account").status_code == 200


def test_a_list_is_read_a_page_at_a_time(api: Api) -> None:
    for number in range(3):
        api.post("/oauth/authorizations", {"description": f"key {number}"})
    answer = api.get("/oauth/authorizations", Range="created_at ..; max=2")
    assert answer.status_code == 206
    rest = api.get("/oauth/authorizations", Range=answer["Next-Range"])
    described = [row["description"] for row in [*answer.json(), *rest.json()]]
    assert described == ["tests", "key 0", "key 1", "key 2"]


def test_an_account_has_a_bounded_number_of_them(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizations, "AN_ACCOUNT_MAX", 2)
    assert api.post("/oauth/authorizations", {}).status_code == 201
    answer = api.post("/oauth/authorizations", {})
    assert answer.status_code == 422
    assert "authorizations:revoke" in answer.json()["message"]
    assert Authorization.objects.count() == 2


def test_a_teams_account_gets_no_token(account: Account) -> None:
    team = Account.objects.create(email="crew@herokumanager.com")
    with pytest.raises(TeamHasNoTokens):
        create_authorization(team, "")


def test_only_the_digest_is_stored(api: Api) -> None:
    token = api.post("/oauth/authorizations", {}).json()["access_token"]["token"]
    row = Authorization.objects.get(token_digest=digest(token))
    stored = " ".join(str(value) for value in vars(row).values())
    assert token not in stored
