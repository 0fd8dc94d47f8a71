"""Logging in on the page, and what nobody else can do with a session."""

import pytest
from django.test import Client
from pytest_django import Settings
from redis import Redis

from addon.platform import web_sessions
from addon.platform.login_limits import AN_ACCOUNT_MAX
from addon.platform.models import Account
from addon.platform.passwords import set_password
from addon.platform.views import pages

PASSWORD = "correct horse battery"
CREDENTIALS = {"email": "dev@example.com", "password": PASSWORD}


@pytest.fixture(autouse=True)
def _fast_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def owner(account: Account) -> Account:
    set_password(account, PASSWORD)
    return account


def test_logging_in_leads_to_the_dashboard_and_logging_out_ends_it(owner: Account) -> None:
    browser = Client()
    assert browser.get("/dashboard").status_code == 302
    assert browser.post("/login", CREDENTIALS)["Location"] == "/dashboard"
    assert "dev@example.com" in browser.get("/dashboard").content.decode()
    secret = browser.cookies[web_sessions.COOKIE].value
    browser.post("/logout")
    browser.cookies[web_sessions.COOKIE] = secret
    assert browser.get("/dashboard").status_code == 302


def test_logging_out_takes_a_post(owner: Account) -> None:
    browser = Client()
    browser.post("/login", CREDENTIALS)
    assert browser.get("/logout").status_code == 405
    assert browser.get("/dashboard").status_code == 200


@pytest.mark.parametrize("is_secure", [True, False])
def test_the_cookie_is_for_no_script_and_no_other_site(
    owner: Account, settings: Settings, is_secure: bool
) -> None:
    settings.SESSION_COOKIE_SECURE = is_secure
    cookie = Client().post("/login", CREDENTIALS).cookies[web_sessions.COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert bool(cookie["secure"]) == is_secure


def test_a_session_that_somebody_else_chose_is_not_used(owner: Account) -> None:
    browser = Client()
    browser.cookies[web_sessions.COOKIE] = "chosen-by-an-attacker"
    browser.post("/login", CREDENTIALS)
    assert browser.cookies[web_sessions.COOKIE].value != "chosen-by-an-attacker"
    assert web_sessions.find_account("chosen-by-an-attacker") is None


def test_each_login_is_a_session_of_its_own(owner: Account) -> None:
    first, second = web_sessions.open_session(owner), web_sessions.open_session(owner)
    web_sessions.close_session(first)
    web_sessions.close_session(first)
    assert web_sessions.find_account(first) is None
    assert web_sessions.find_account(second) == owner


def test_a_new_password_ends_every_session(owner: Account) -> None:
    secret = web_sessions.open_session(owner)
    set_password(owner, "another good password")
    assert web_sessions.find_account(secret) is None


def test_a_session_is_stored_by_its_digest_and_ends_by_itself(
    owner: Account, redis_client: Redis
) -> None:
    secret = web_sessions.open_session(owner)
    (key,) = redis_client.keys("platform:web_session:*")
    assert secret.encode() not in key
    assert owner.password not in str(redis_client.get(key))
    assert 0 < redis_client.ttl(key) <= web_sessions.LASTS_S


def test_the_admins_session_is_another(owner: Account, admin_client: Client) -> None:
    assert admin_client.get("/dashboard").status_code == 302
    browser = Client()
    browser.post("/login", CREDENTIALS)
    assert browser.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    ("email", "password"),
    [("dev@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("", ""), ("\0", "x")],
)
def test_a_wrong_login_says_the_same_whatever_was_wrong(
    owner: Account, email: str, password: str
) -> None:
    answer = Client().post("/login", {"email": email, "password": password})
    assert answer.status_code == 401
    assert "There is no account with this e-mail and password." in answer.content.decode()
    assert web_sessions.COOKIE not in answer.cookies


def test_guessing_on_the_page_is_ended_too(owner: Account) -> None:
    for _ in range(AN_ACCOUNT_MAX):
        Client().post("/login", CREDENTIALS | {"password": "wrong"})
    answer = Client().post("/login", CREDENTIALS)
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()


def test_another_site_cannot_log_somebody_in(owner: Account) -> None:
    browser = Client(enforce_csrf_checks=True)
    assert browser.post("/login", CREDENTIALS).status_code == 403


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example.com",
        "//evil.example.com",
        "///evil.example.com",
        "/\\evil.example.com",
        "\\\\evil.example.com",
        "http:evil",
        "javascript:alert(1)",
        " /dashboard",
        "\n//evil.example.com",
        "dashboard",
        "",
    ],
)
def test_a_login_leads_to_no_other_site(owner: Account, wanted: str) -> None:
    answer = Client().post("/login", CREDENTIALS | {"next": wanted})
    assert answer["Location"] == "/dashboard"


def test_a_login_leads_back_to_a_path_of_ours() -> None:
    assert pages.safe_next("/auth/browser/abc") == "/auth/browser/abc"


def test_who_is_logged_in_is_not_asked_again(owner: Account) -> None:
    browser = Client()
    browser.post("/login", CREDENTIALS)
    answer = browser.get("/login?next=/dashboard/addons/x")
    assert answer["Location"] == "/dashboard/addons/x"


def test_the_email_that_was_typed_is_shown_as_text(owner: Account) -> None:
    answer = Client().post("/login", {"email": '"><script>', "password": "x"})
    assert "<script>" not in answer.content.decode()


@pytest.mark.parametrize("path", ["/login", "/dashboard"])
def test_a_page_is_kept_by_nobody_framed_by_nobody_and_loads_nothing_foreign(
    owner: Account, path: str
) -> None:
    browser = Client()
    if path == "/dashboard":
        browser.post("/login", CREDENTIALS)
    answer = browser.get(path)
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "http" not in answer.content.decode().replace("<!doctype html>", "")


def test_the_style_sheet_is_there(db: None) -> None:
    answer = Client().get("/static/platform/pages.css")
    assert answer.status_code == 200
    assert b"".join(answer).startswith(b":root")


def test_without_redis_a_page_says_so(owner: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=1)
    monkeypatch.setattr(web_sessions, "redis_client", lambda: gone)
    browser = Client()
    browser.cookies[web_sessions.COOKIE] = "secret"
    answer = browser.get("/dashboard")
    assert answer.status_code == 503
    assert "try again" in answer.content.decode()
