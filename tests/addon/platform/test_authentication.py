import base64
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from addon.platform.authorizations import create_authorization, find_authorization
from addon.platform.models import Account, Authorization
from tests.addon.platform.helpers import Api


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_is_hrku_and_a_uuid_and_not_stored_in_the_clear(account: Account) -> None:
    token = create_authorization(account, "for tests").token
    assert token.startswith("HRKU-")
    assert len(token) == len("HRKU-") + 36
    assert not Authorization.objects.filter(token_digest__contains=token).exists()
    assert token not in repr(Authorization.objects.get())


def test_issuing_a_token_counts_as_a_login(account: Account) -> None:
    create_authorization(account, "")
    account.refresh_from_db()
    assert account.last_login is not None


def test_bearer_and_basic_with_the_token_as_password_are_taken(api: Api) -> None:
    for authorization in (
        f"Bearer {api.token}",
        f"bearer {api.token}",
        basic("", api.token),
        basic("dev@example.com", api.token),
    ):
        answer = api.get("/account", Authorization=authorization)
        assert answer.status_code == 200
        assert answer.json()["email"] == "dev@example.com"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer HRKU-01234567-89ab-cdef-0123-456789abcdef",
        "Bearer tökn",
        "Basic !!!",
        basic("HRKU-01234567-89ab-cdef-0123-456789abcdef", ""),
        "Digest x",
    ],
)
@pytest.mark.parametrize("path", ["/account", "/apps/nosuch", "/actions/addons/resolve"])
def test_other_credentials_are_a_401_with_the_text_that_heroku_has(
    db: None, authorization: str, path: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = Client().get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"id": "unauthorized", "message": "Invalid credentials provided."}
    assert "WWW-Authenticate" in answer
    assert "Request-Id" in answer


def test_a_revoked_token_is_refused(api: Api) -> None:
    Authorization.objects.update(revoked_at=timezone.now())
    assert api.get("/account").status_code == 401


def test_a_token_is_refused_from_its_expiry_on(account: Account) -> None:
    token = create_authorization(account, "").token
    expires_at = timezone.now()
    Authorization.objects.update(expires_at=expires_at)
    assert find_authorization(token, expires_at - timedelta(seconds=1)) is not None
    assert find_authorization(token, expires_at) is None
