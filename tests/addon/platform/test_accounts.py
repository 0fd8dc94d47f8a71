import pytest

from addon.platform.accounts import AccountExists, InvalidEmail, create_account, find_account
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.django_db


def test_an_account_is_found_by_its_email_in_any_case() -> None:
    account = create_account("Dev@Example.com", "Dev")
    assert find_account("dev@example.COM") == account
    assert find_account("other@example.com") is None


def test_an_email_is_used_once_whatever_its_case() -> None:
    create_account("dev@example.com")
    with pytest.raises(AccountExists, match=r"DEV@example\.com"):
        create_account("DEV@example.com")


@pytest.mark.parametrize("email", ["", "dev", "dev@", "a b@example.com"])
def test_what_is_no_email_is_refused(email: str) -> None:
    with pytest.raises(InvalidEmail):
        create_account(email)


def test_the_account_endpoint_has_the_fields_of_the_schema(api: Api) -> None:
    body = api.get("/account").json()
    assert body["email"] == "dev@example.com"
    assert body["name"] == "Dev"
    assert {"id", "created_at", "updated_at", "last_login", "verified", "federated"} <= set(body)
    assert body["delinquent_at"] is None


def test_a_name_is_changed_removed_and_kept(api: Api) -> None:
    assert api.patch("/account", {"name": "Tina"}).json()["name"] == "Tina"
    assert api.patch("/account", {}).json()["name"] == "Tina"
    assert api.get("/users/~").json()["name"] == "Tina"
    assert api.patch("/account", {"name": None}).json()["name"] is None


@pytest.mark.parametrize(
    "body", [{"name": 7}, {"name": "x" * 201}, {"beta": True}, {"allow_tracking": True}]
)
def test_what_an_account_cannot_have_is_refused(api: Api, body: dict[str, object]) -> None:
    answer = api.patch("/account", body)
    assert answer.status_code == 422
    assert next(iter(body)) in answer.json()["message"]
    assert api.get("/account").json()["name"] == "Dev"
