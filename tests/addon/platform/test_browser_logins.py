"""`heroku login`: the CLI waits, a person decides on a page."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from addon.platform import browser_logins, web_sessions
from addon.platform.authorizations import LOGIN_LASTS
from addon.platform.login_limits import AN_ADDRESS_MAX
from addon.platform.models import Account, Authorization
from addon.platform.passwords import set_password
from tests.addon.platform.helpers import Api

PASSWORD = "correct horse battery"
DESCRIPTION = "Heroku CLI login from vm"


@pytest.fixture(autouse=True)
def _fast(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr(browser_logins, "POLL_S", 0.01)


@pytest.fixture
def owner(account: Account) -> Account:
    set_password(account, PASSWORD)
    return account


@pytest.fixture
def browser(owner: Account) -> Client:
    """One in which the owner is logged in, and that checks CSRF tokens."""
    browser = Client(enforce_csrf_checks=True)
    submit(browser, "/login", email="dev@example.com", password=PASSWORD)
    return browser


def submit(browser: Client, path: str, **fields: str) -> Any:
    """As the form on the page at `path` does."""
    page = browser.get(path)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.content.decode())
    fields |= {"csrfmiddlewaretoken": token[1]} if token else {}
    return browser.post(path, fields)


def begin() -> dict[str, str]:
    body = json.dumps({"description": DESCRIPTION})
    answer = Client().post("/auth", body, content_type="application/json")
    assert answer.status_code == 200
    begun: dict[str, str] = answer.json()
    return begun


def wait(begun: dict[str, str], secret: str | None = None) -> Any:
    secret = begun["token"] if secret is None else secret
    return Client().get(begun["cli_url"], headers={"Authorization": f"Bearer {secret}"})


def read(answer: Any) -> tuple[bytes, Any]:
    """What the CLI gets, and what it makes of it."""

    async def collect() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    body = async_to_sync(collect)()
    return body, json.loads(body)


def test_the_cli_gets_a_token_when_the_person_agrees(browser: Client) -> None:
    begun = begin()
    page = browser.get(begun["browser_url"]).content.decode()
    assert DESCRIPTION in page
    assert "dev@example.com" in page
    assert "127.0.0.1" in page
    done = submit(browser, begun["browser_url"], decision="allow")
    assert "You can close this window" in done.content.decode()
    _, answer = read(wait(begun))
    assert Api(token=answer["access_token"]).get("/account").json()["email"] == "dev@example.com"
    made = Authorization.objects.get()
    assert (made.description, made.scope) == (DESCRIPTION, ["global"])
    assert made.expires_at is not None
    assert made.expires_at - timezone.now() <= LOGIN_LASTS


def test_until_then_the_connection_is_kept_open_by_spaces(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_logins, "KEEP_ALIVE_S", 0.03)
    begun = begin()
    answer = wait(begun)
    parts: list[bytes] = []

    async def collect() -> None:
        async for part in answer.streaming_content:
            parts.append(part)
            if len(parts) == 2:
                login = browser_logins.get_login(begun["browser_url"].rpartition("/")[2])
                browser_logins.decide(login, None)

    async_to_sync(collect)()
    assert parts[:2] == [b" ", b" "]
    assert json.loads(b"".join(parts)) == {"error": "The login was denied in the browser."}


@pytest.mark.parametrize("decision", ["deny", "", "ALLOW"])
def test_whatever_is_not_yes_denies(browser: Client, decision: str) -> None:
    begun = begin()
    submit(browser, begun["browser_url"], decision=decision)
    _, answer = read(wait(begun))
    assert answer == {"error": "The login was denied in the browser."}
    assert Authorization.objects.count() == 0


def test_an_answer_is_given_once(browser: Client) -> None:
    begun = begin()
    submit(browser, begun["browser_url"], decision="allow")
    read(wait(begun))
    again = wait(begun)
    assert again.status_code == 404
    assert "expired or was used" in again.json()["message"]
    assert browser.get(begun["browser_url"]).status_code == 410
    assert Authorization.objects.count() == 1


def test_the_first_decision_counts(browser: Client) -> None:
    begun = begin()
    submit(browser, begun["browser_url"], decision="deny")
    login_id = begun["browser_url"].rpartition("/")[2]
    csrf = browser.cookies["csrftoken"].value
    second = browser.post(
        f"/auth/browser/{login_id}", {"decision": "allow", "csrfmiddlewaretoken": csrf}
    )
    assert second.status_code == 410
    assert "error" in read(wait(begun))[1]


@pytest.mark.parametrize("secret", ["", "wrong", None])
def test_the_address_of_the_page_does_not_collect_the_token(
    browser: Client, secret: str | None
) -> None:
    begun = begin()
    secret = begun["browser_url"].rpartition("/")[2] if secret is None else secret
    submit(browser, begun["browser_url"], decision="allow")
    assert wait(begun, secret).status_code == 404
    assert "access_token" in read(wait(begun))[1]


def test_of_one_login_only_the_latest_waits(browser: Client) -> None:
    begun = begin()
    broken, latest = wait(begun), wait(begun)

    async def both() -> tuple[bytes, bytes]:
        async def collect(answer: Any) -> bytes:
            return b"".join([part async for part in answer.streaming_content])

        first = asyncio.create_task(collect(broken))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(collect(latest))
        refused = await first
        login = browser_logins.get_login(begun["browser_url"].rpartition("/")[2])
        browser_logins.decide(login, None)
        return refused, await second

    refused, answered = async_to_sync(both)()
    assert b"expired or was used" in refused
    assert b"denied" in answered


def test_an_expired_login_ends_on_both_sides(browser: Client, redis_client: Redis) -> None:
    begun = begin()
    waiting = wait(begun)
    for key in redis_client.keys("platform:browser_login:*"):
        assert 0 < redis_client.ttl(key) <= 600
        redis_client.delete(key)
    assert "expired" in read(waiting)[1]["error"]
    assert browser.get(begun["browser_url"]).status_code == 410
    assert wait(begun).status_code == 404


def test_no_token_and_no_secret_is_in_redis(browser: Client, redis_client: Redis) -> None:
    begun = begin()
    submit(browser, begun["browser_url"], decision="allow")
    keys = redis_client.keys("platform:*")
    texts = [key for key in keys if redis_client.type(key) == b"string"]
    stored = repr(keys) + repr(redis_client.mget(texts))
    assert begun["browser_url"].rpartition("/")[2] in stored
    assert begun["token"] not in stored
    assert "HRKU-" not in stored
    assert browser.cookies[web_sessions.COOKIE].value not in stored


def test_who_is_not_logged_in_logs_in_first_and_comes_back(owner: Account) -> None:
    begun, browser = begin(), Client(enforce_csrf_checks=True)
    to_login = browser.get(begun["browser_url"])
    assert to_login.status_code == 302
    where = urlsplit(to_login["Location"])
    assert where.path == "/login"
    assert parse_qs(where.query)["next"] == [begun["browser_url"]]
    back = submit(
        browser, "/login", email="dev@example.com", password=PASSWORD, next=begun["browser_url"]
    )
    assert back["Location"] == begun["browser_url"]
    assert browser.get(begun["browser_url"]).status_code == 200


def test_nobody_decides_without_being_logged_in(owner: Account) -> None:
    begun = begin()
    answer = Client().post(begun["browser_url"], {"decision": "allow"})
    assert answer.status_code == 302
    assert "/login" in answer["Location"]
    login_id = begun["browser_url"].rpartition("/")[2]
    assert browser_logins.get_login(login_id).description == DESCRIPTION


def test_another_site_cannot_decide_for_a_person(browser: Client) -> None:
    begun = begin()
    assert browser.post(begun["browser_url"], {"decision": "allow"}).status_code == 403


def test_a_description_is_shown_as_text(browser: Client) -> None:
    body = json.dumps({"description": "<script>alert(1)</script>"})
    begun = Client().post("/auth", body, content_type="application/json").json()
    page = browser.get(begun["browser_url"]).content.decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_one_address_begins_only_so_many(db: None) -> None:
    for _ in range(AN_ADDRESS_MAX):
        begin()
    answer = Client().post("/auth", "{}", content_type="application/json")
    assert answer.status_code == 429
    assert answer.json()["id"] == "rate_limit"


@pytest.mark.parametrize("login_id", ["nosuch", "%00", "x" * 500])
def test_a_login_that_never_was_is_over(browser: Client, login_id: str) -> None:
    assert browser.get(f"/auth/browser/{login_id}").status_code == 410
    assert Client().get(f"/auth/cli/{login_id}").status_code == 404


def test_the_cli_is_told_when_redis_goes_while_it_waits(db: None, settings: Settings) -> None:
    waiting = wait(begin())
    settings.REDIS_URL = "redis://127.0.0.1:1"
    body, answer = read(waiting)
    assert "try again" in answer["error"]
    assert b"127.0.0.1" not in body
