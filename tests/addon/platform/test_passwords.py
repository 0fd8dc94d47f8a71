"""Passwords: `heroku login -i`, and who tries to guess one."""

import base64
from typing import Any

import pytest
from django.contrib.auth import hashers
from pytest_django import Settings
from redis import Redis

from addon.platform import login_limits
from addon.platform.accounts import create_account
from addon.platform.login_limits import AN_ACCOUNT_MAX, AN_ADDRESS_MAX, TooManyLogins
from addon.platform.models import Account, Authorization
from addon.platform.passwords import InvalidPassword, WrongPassword, log_in, set_password
from tests.addon.platform.helpers import Api

PASSWORD = "correct horse battery"
HERE = "203.0.113.7"
# @heroku-cli/command 13.2.0, lib/login.js
CLI_BODY = {
    "description": "Heroku CLI login from vm",
    "expires_in": 2592000,
    "scope": ["global"],
}


@pytest.fixture(autouse=True)
def _fast_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def owner(account: Account) -> Account:
    set_password(account, PASSWORD)
    return account


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def login(email: str, password: str, method: str = "POST", **headers: str) -> Any:
    api = Api(token="")
    headers["Authorization"] = basic(email, password)
    body = CLI_BODY if method == "POST" else None
    return api.call(method, "/oauth/authorizations", body, **headers)


def test_the_cli_logs_in_with_email_and_password(owner: Account) -> None:
    answer = login("dev@example.com", PASSWORD)
    assert answer.status_code == 201
    made = answer.json()
    assert made["user"]["email"] == "dev@example.com"
    assert made["description"] == "Heroku CLI login from vm"
    assert made["access_token"]["expires_in"] > 2_590_000
    token = made["access_token"]["token"]
    assert Api(token=token).get("/account").status_code == 200
    assert Authorization.objects.count() == 1


def test_an_email_is_taken_in_any_case_and_a_password_in_any_letters(owner: Account) -> None:
    set_password(owner, "pässwörd:with:colons")
    assert login("DEV@Example.com", "pässwörd:with:colons").status_code == 201


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("dev@example.com", "wrong"),
        ("dev@example.com", ""),
        ("dev@example.com", PASSWORD.upper()),
        ("nobody@example.com", PASSWORD),
        ("dev@example.com\0", PASSWORD),
        ("dev@example.com", "x" * 5_000),
    ],
)
def test_wrong_credentials_are_a_401_that_does_not_say_what_was_wrong(
    owner: Account, email: str, password: str
) -> None:
    answer = login(email, password)
    assert answer.status_code == 401
    assert answer.json() == {"id": "unauthorized", "message": "Invalid credentials provided."}
    assert Authorization.objects.count() == 0


@pytest.mark.parametrize("password", ["", "!", "md5$", "pbkdf2_sha256$1$a$b"])
def test_an_account_without_a_password_cannot_log_in(account: Account, password: str) -> None:
    assert account.password == ""
    assert login("dev@example.com", password).status_code == 401


def test_a_password_is_good_for_making_a_token_only(owner: Account) -> None:
    assert login("dev@example.com", PASSWORD, method="GET").status_code == 401
    header = {"Authorization": basic("dev@example.com", PASSWORD)}
    assert Api(token="").get("/account", **header).status_code == 401


def test_a_team_cannot_log_in(db: None) -> None:
    team = Account.objects.create(email="crew@herokumanager.com")
    set_password(team, PASSWORD)
    assert login("crew@herokumanager.com", PASSWORD).status_code == 401


def test_a_password_is_hashed_once_whether_there_is_such_an_account_or_not(
    owner: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    encode = hashers.MD5PasswordHasher.encode

    def counted(hasher: hashers.MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(salt)
        return encode(hasher, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", counted)
    Account.objects.create(email="keys@example.com")
    for email in ("dev@example.com", "nobody@example.com", "keys@example.com"):
        hashed.clear()
        with pytest.raises(WrongPassword):
            log_in(email, "wrong", HERE)
        assert len(hashed) == 1, email


def test_guessing_one_accounts_password_is_ended_wherever_it_comes_from(owner: Account) -> None:
    for number in range(AN_ACCOUNT_MAX):
        with pytest.raises(WrongPassword):
            log_in("dev@example.com", "wrong", f"198.51.100.{number}")
    with pytest.raises(TooManyLogins):
        log_in("DEV@example.com", PASSWORD, HERE)


def test_no_spelling_of_an_address_has_attempts_of_its_own(owner: Account) -> None:
    insider = create_account("insider@example.com")
    set_password(insider, PASSWORD)
    for spelling in ("insider", "in\u017fider", "\u0131nsider", "\u0131n\u017fider", "INSIDER"):
        for _ in range(AN_ACCOUNT_MAX // 5):
            with pytest.raises(WrongPassword):
                log_in(f"{spelling}@example.com", "wrong", HERE)
    with pytest.raises(TooManyLogins):
        log_in("ins\u0131der@example.com", PASSWORD, HERE)


def test_the_refusal_says_when_to_try_again(owner: Account) -> None:
    for _ in range(AN_ACCOUNT_MAX):
        login("dev@example.com", "wrong")
    answer = login("dev@example.com", PASSWORD)
    assert answer.status_code == 429
    assert answer.json()["id"] == "rate_limit"
    assert 0 < int(answer["Retry-After"]) <= login_limits.WINDOW_S
    assert "15 minutes" in answer.json()["message"]


def test_an_unknown_email_is_limited_like_a_known_one(owner: Account) -> None:
    for _ in range(AN_ACCOUNT_MAX):
        assert login("nobody@example.com", "wrong").status_code == 401
    assert login("nobody@example.com", "wrong").status_code == 429


def test_keys_go_on_working_while_passwords_do_not(owner: Account, api: Api) -> None:
    for _ in range(AN_ACCOUNT_MAX + 1):
        login("dev@example.com", "wrong")
    assert api.get("/account").status_code == 200
    assert api.post("/oauth/authorizations", {}).status_code == 201


def test_one_address_tries_only_so_many_accounts(owner: Account) -> None:
    for number in range(AN_ADDRESS_MAX):
        with pytest.raises(WrongPassword):
            log_in(f"person{number}@example.com", "wrong", HERE)
    with pytest.raises(TooManyLogins):
        log_in("dev@example.com", PASSWORD, HERE)
    assert log_in("dev@example.com", PASSWORD, "203.0.113.8") == owner


def test_the_addresses_of_one_ipv6_network_count_together(owner: Account) -> None:
    for number in range(AN_ADDRESS_MAX):
        login_limits.count_address(f"2001:db8:0:1::{number:x}")
    with pytest.raises(TooManyLogins):
        login_limits.count_address("2001:db8:0:1:ffff::1")
    login_limits.count_address("2001:db8:0:2::1")


def test_logging_in_forgets_the_accounts_mistakes_and_not_its_addresses(owner: Account) -> None:
    for _ in range(AN_ACCOUNT_MAX - 1):
        with pytest.raises(WrongPassword):
            log_in("dev@example.com", "wrong", HERE)
    assert log_in("dev@example.com", PASSWORD, HERE) == owner
    assert log_in("dev@example.com", PASSWORD, HERE) == owner
    for _ in range(AN_ADDRESS_MAX - AN_ACCOUNT_MAX - 1):
        login_limits.count_address(HERE)
    with pytest.raises(TooManyLogins):
        login_limits.count_address(HERE)


def test_every_count_ends_by_itself_and_names_nobody(owner: Account, redis_client: Redis) -> None:
    with pytest.raises(WrongPassword):
        log_in("dev@example.com", "wrong", HERE)
    keys = redis_client.keys("platform:logins:*")
    assert len(keys) == 2
    assert all(0 < redis_client.ttl(key) <= login_limits.WINDOW_S for key in keys)
    assert not any(b"dev@example.com" in key for key in keys)


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        (0, "1.1.1.1", "127.0.0.1"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        (2, "9.9.9.9, 1.1.1.1, 10.0.0.1", "1.1.1.1"),
        (2, "1.1.1.1", "127.0.0.1"),
        (1, "", "127.0.0.1"),
    ],
)
def test_an_address_is_believed_only_from_a_proxy_of_ours(
    owner: Account, settings: Settings, redis_client: Redis,
    trusted: int, forwarded: str, expected: str,
) -> None:  # fmt: skip
    settings.TRUSTED_PROXIES = trusted
    login("dev@example.com", "wrong", **{"X-Forwarded-For": forwarded})
    assert redis_client.exists(f"platform:logins:address:{expected}")


def test_a_hash_of_old_strength_is_made_anew_at_a_login(owner: Account, settings: Settings) -> None:
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    log_in("dev@example.com", PASSWORD, HERE)
    owner.refresh_from_db()
    assert owner.password.startswith("scrypt$")
    assert log_in("dev@example.com", PASSWORD, HERE) == owner


@pytest.mark.parametrize("password", ["", "short", "password123", "x" * 1_001])
def test_a_weak_password_is_refused(account: Account, password: str) -> None:
    with pytest.raises(InvalidPassword, match="password"):
        set_password(account, password)
    account.refresh_from_db()
    assert account.password == ""


def test_a_password_is_stored_as_a_hash_only(owner: Account) -> None:
    owner.refresh_from_db()
    assert PASSWORD not in owner.password
    assert hashers.check_password(PASSWORD, owner.password)


def test_without_redis_nobody_logs_in_and_nobody_is_told_why(
    owner: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=1)
    monkeypatch.setattr(login_limits, "redis_client", lambda: gone)
    answer = login("dev@example.com", PASSWORD)
    assert answer.status_code == 503
    assert answer.json()["id"] == "service_unavailable"
    assert "127.0.0.1" not in answer.content.decode()
