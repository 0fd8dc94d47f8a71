"""Single sign-on at the provider: which forms it believes, and what a browser then sees."""

import hashlib
import logging
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from addon.provider import resource_sessions
from addon.provider.models import Attachment, Credential, Resource
from addon.single_sign_on import resource_token, user_scoped_resource_token
from billing.bulk import record_many
from tests.addon.provider.test_partner_api import call, provision_body
from tests.billing.conftest import new_usage as new_usage

pytestmark = pytest.mark.usefixtures("plans")

SIGN_ON = "/heroku/sso"
WINDOW = timedelta(minutes=5)


def seconds(later: timedelta = timedelta()) -> str:
    return str(int((timezone.now() + later).timestamp()))


def signed(resource_id: str, **changes: str) -> dict[str, str]:
    """The form as a platform posts it today, with every token."""
    form = {
        "resource_id": resource_id,
        "id": resource_id,
        "timestamp": seconds(),
        "user_id": "01234567-89ab-cdef-0123-456789abcdef",
        "email": "dev@example.com",
        "app": "shop",
        "context_app": "blog",
        **changes,
    }
    salt, timestamp = settings.SSO_SALT, form["timestamp"]
    user = form["user_id"], form["email"]
    tokens = {
        "user_scoped_resource_token": user_scoped_resource_token(
            form["resource_id"], salt, timestamp, *user
        ),
        "resource_token": resource_token(form["resource_id"], salt, timestamp),
        "token": resource_token(form["id"], salt, timestamp),
    }
    return {**tokens, **form}


TOKENS = ("user_scoped_resource_token", "resource_token", "token")


def only(form: dict[str, str], token: str) -> dict[str, str]:
    return {name: value for name, value in form.items() if name == token or name not in TOKENS}


def sign_on(form: dict[str, str], browser: Client | None = None) -> Any:
    return (browser or Client()).post(SIGN_ON, form)


def page_of(resource_id: str) -> str:
    return f"/heroku/dashboard/{resource_id}"


@pytest.fixture
def resource() -> str:
    return str(call("POST", "/heroku/resources", provision_body()).json()["id"])


@pytest.fixture
def browser(resource: str) -> Client:
    """One that was signed on."""
    browser = Client()
    assert sign_on(signed(resource), browser).status_code == 303
    return browser


def test_the_vector_of_herokus_article_is_met() -> None:
    token = resource_token("123", "2f97bfa52ca102f8874716e2eb1d3b4920ad0be4", "1267597772")
    assert token == "bb466eb1d6bc345d11072c3cd25c311f21be130d"


def test_the_user_scoped_token_is_the_sha256_of_the_five_joined() -> None:
    expected = hashlib.sha256(b"r:s:1:u:e@example.com").hexdigest()
    assert user_scoped_resource_token("r", "s", "1", "u", "e@example.com") == expected


@pytest.mark.parametrize("token", TOKENS)
def test_each_token_signs_on_by_itself(resource: str, token: str) -> None:
    answer = sign_on(only(signed(resource), token))
    assert (answer.status_code, answer["Location"]) == (303, page_of(resource))


def test_all_tokens_together_sign_on(resource: str) -> None:
    assert sign_on(signed(resource)).status_code == 303


@pytest.mark.parametrize("wrong", ["", "0" * 64, "naïve", "cut", "longer", "capitals"])
@pytest.mark.parametrize("token", TOKENS)
def test_a_wrong_strongest_token_is_refused_whatever_the_weaker_ones_are(
    resource: str, token: str, wrong: str
) -> None:
    weaker = TOKENS[TOKENS.index(token) :]
    form = {name: value for name, value in signed(resource).items() if name not in TOKENS}
    right = signed(resource, timestamp=form["timestamp"])
    changed = {"cut": right[token][:-1], "longer": right[token] + "0",
               "capitals": right[token].upper() + "A"}.get(wrong, wrong)  # fmt: skip
    form |= {name: right[name] for name in weaker} | {token: changed}
    answer = sign_on(form)
    assert answer.status_code == 403
    assert "token is wrong" in answer.content.decode()
    assert not answer.cookies


def test_without_any_token_nobody_is_signed_on(resource: str) -> None:
    form = {name: value for name, value in signed(resource).items() if name not in TOKENS}
    assert sign_on(form).status_code == 403
    assert sign_on({}).status_code == 403


@pytest.mark.parametrize("field", ["resource_id", "timestamp", "user_id", "email"])
def test_what_the_strongest_token_binds_cannot_be_changed(resource: str, field: str) -> None:
    other = {"resource_id": str(uuid.uuid4()), "timestamp": seconds(timedelta(seconds=-9))}
    changed = other.get(field, "someone-else")
    assert sign_on({**signed(resource), field: changed}).status_code == 403


def test_a_token_of_version_1_opens_no_resource_that_it_does_not_name(resource: str) -> None:
    own = str(uuid.uuid4())
    form = only(signed(own), "token") | {"resource_id": resource}
    answer = sign_on(form)
    assert answer.status_code == 404
    assert not answer.cookies


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (WINDOW - timedelta(seconds=5), 303),
        (WINDOW + timedelta(seconds=5), 403),
        (timedelta(seconds=5) - WINDOW, 303),
        (-WINDOW - timedelta(seconds=5), 403),
    ],
)
def test_a_form_counts_for_five_minutes_on_either_side(
    resource: str, age: timedelta, status: int
) -> None:
    assert sign_on(signed(resource, timestamp=seconds(-age))).status_code == status


@pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1e9", "١٢٣", "9" * 30, " 1"])
def test_a_timestamp_that_is_none_is_refused(resource: str, timestamp: str) -> None:
    assert sign_on(signed(resource, timestamp=timestamp)).status_code == 403


@pytest.mark.parametrize("token", TOKENS)
def test_a_form_is_used_once(resource: str, token: str) -> None:
    form = only(signed(resource), token)
    assert sign_on(form).status_code == 303
    again = sign_on(form)
    assert again.status_code == 403
    assert "used before" in again.content.decode()


@pytest.mark.parametrize("token", ["resource_token", "token"])
def test_leaving_the_strong_token_out_is_no_second_use(resource: str, token: str) -> None:
    form = signed(resource)
    assert sign_on(form).status_code == 303
    assert sign_on(only(form, token)).status_code == 403


@pytest.mark.parametrize("token", TOKENS[1:])
def test_a_form_whose_weak_token_came_alone_is_used(resource: str, token: str) -> None:
    form = signed(resource)
    assert sign_on(only(form, token)).status_code == 303
    assert sign_on(form).status_code == 403


def test_two_users_may_come_within_the_same_second(resource: str) -> None:
    first = signed(resource)
    assert sign_on(first).status_code == 303
    other = signed(resource, timestamp=first["timestamp"], email="other@example.com")
    assert sign_on(other).status_code == 303


def test_what_was_used_is_forgotten_when_it_is_too_old_anyway(
    resource: str, redis_client: Redis
) -> None:
    sign_on(signed(resource, timestamp=seconds(WINDOW - timedelta(seconds=5))))
    keys = redis_client.keys("provider:sign_on:*")
    assert len(keys) == 2
    assert all(500 < redis_client.ttl(key) <= 602 for key in keys)


def test_an_unknown_resource_is_a_page_that_says_so() -> None:
    answer = sign_on(signed(str(uuid.uuid4())))
    assert answer.status_code == 404
    assert "no such add-on" in answer.content.decode()


def test_a_deprovisioned_resource_cannot_be_opened_and_its_sessions_end(
    resource: str, browser: Client
) -> None:
    call("DELETE", f"/heroku/resources/{resource}")
    assert sign_on(signed(resource, email="other@example.com")).status_code == 404
    assert browser.get(page_of(resource)).status_code == 404


def test_a_signed_id_that_is_no_uuid_is_refused() -> None:
    assert sign_on(signed("123")).status_code == 403


def test_without_a_salt_there_is_no_single_sign_on(resource: str, settings: Settings) -> None:
    form = signed(resource)
    settings.SSO_SALT = ""
    assert sign_on(form).status_code == 404
    assert sign_on(signed(resource)).status_code == 404  # signed with no salt at all


def test_a_look_at_the_address_is_told_how_to_come() -> None:
    answer = Client().get(SIGN_ON)
    assert answer.status_code == 405
    assert "heroku addons:open" in answer.content.decode()


def test_neither_a_token_nor_the_salt_is_logged(
    resource: str, caplog: pytest.LogCaptureFixture
) -> None:
    form = signed(resource)
    with caplog.at_level(logging.DEBUG):
        sign_on(form)
        sign_on(form)
        sign_on({**form, "user_scoped_resource_token": "wrong"})
    assert "refused" in caplog.text
    for secret in (settings.SSO_SALT, *(form[token] for token in TOKENS)):
        assert secret not in caplog.text


def test_without_redis_nobody_is_signed_on(resource: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Redis:
        raise RedisConnectionError

    monkeypatch.setattr("addon.provider.sign_ons.redis_client", gone)
    assert sign_on(signed(resource)).status_code == 503


class TestTheSession:
    def test_its_cookie_goes_to_that_resource_only_and_no_script_sees_it(
        self, resource: str, settings: Settings
    ) -> None:
        settings.SESSION_COOKIE_SECURE = True
        cookie = sign_on(signed(resource)).cookies[resource_sessions.COOKIE]
        assert cookie["path"] == page_of(resource)
        assert cookie["httponly"]
        assert cookie["secure"]
        assert cookie["samesite"] == "Lax"
        assert cookie["max-age"] == resource_sessions.LASTS_S

    def test_it_opens_no_other_resource(self, resource: str, browser: Client) -> None:
        other = call("POST", "/heroku/resources", provision_body()).json()["id"]
        # A test client sends a cookie whatever its path.
        assert browser.get(page_of(resource)).status_code == 200
        assert browser.get(page_of(other)).status_code == 403
        attachment = Attachment.objects.get(resource_id=other)
        path = f"{page_of(other)}/attachments/{attachment.id}/rotate"
        assert browser.post(path).status_code == 403
        mine = f"{page_of(resource)}/attachments/{attachment.id}/rotate"
        assert browser.post(mine).status_code == 404
        assert not Credential.objects.exclude(expires_at=None).exists()

    def test_it_is_neither_a_session_of_the_platform_nor_one_of_the_admin(
        self, browser: Client
    ) -> None:
        assert browser.get("/dashboard")["Location"].startswith("/login")
        assert browser.get("/admin/")["Location"].startswith("/admin/login/")

    def test_without_one_the_page_says_how_to_get_one(self, resource: str) -> None:
        for browser in (Client(), Client()):
            answer = browser.get(page_of(resource))
            assert answer.status_code == 403
            assert "heroku addons:open" in answer.content.decode()
            browser.cookies[resource_sessions.COOKIE] = "guessed"

    def test_it_is_new_at_each_sign_on_and_only_its_digest_is_kept(
        self, resource: str, browser: Client, redis_client: Redis
    ) -> None:
        first = browser.cookies[resource_sessions.COOKIE].value
        sign_on(signed(resource, email="other@example.com"), browser)
        assert browser.cookies[resource_sessions.COOKIE].value != first
        keys = redis_client.keys("provider:session:*")
        assert len(keys) == 2
        assert first not in repr(keys) + repr(redis_client.mget(keys))
        assert all(0 < redis_client.ttl(key) <= 3_600 for key in keys)

    def test_signing_out_ends_it(self, resource: str, browser: Client) -> None:
        secret = browser.cookies[resource_sessions.COOKIE].value
        assert browser.post(f"{page_of(resource)}/sign-out").status_code == 200
        browser.cookies[resource_sessions.COOKIE] = secret
        assert browser.get(page_of(resource)).status_code == 403


class TestNavData:
    def test_it_is_a_cookie_for_all_pages_as_kensa_checks(self, resource: str) -> None:
        answer = sign_on(signed(resource, **{"nav-data": "eyJhcHAiOiJzaG9wIn0"}))
        cookie = answer.cookies["heroku-nav-data"]
        assert (cookie.value, cookie["path"]) == ("eyJhcHAiOiJzaG9wIn0", "/")

    @pytest.mark.parametrize("value", ["", "a b", "a;Path=/", "x" * 4_000, "a\r\nSet-Cookie: b=c"])
    def test_what_is_no_base64url_sets_none(self, resource: str, value: str) -> None:
        answer = sign_on(signed(resource, **{"nav-data": value}))
        assert answer.status_code == 303
        assert "heroku-nav-data" not in answer.cookies


class TestThePage:
    def test_it_says_what_the_resource_is_and_no_key(self, resource: str, browser: Client) -> None:
        attachment = {"name": "SEARCH", "app": "blog"}
        call("PUT", f"/heroku/resources/{resource}/attachments/{uuid.uuid4()}", attachment)
        page = browser.get(page_of(resource)).content.decode()
        for told in ("inference-acute-10001", "Standard", "all-minilm-l6-v2",
                     "<td>us</td>", "provisioned", "SEARCH", "on blog",
                     "INFERENCE_KEY", "SEARCH_KEY", "$INFERENCE_URL/v1/embeddings",
                     "dev@example.com", 'id="heroku-header"', "Nothing was used yet"):  # fmt: skip
            assert told in page, told
        for credential in Credential.objects.all():
            assert credential.hint in page
            assert credential.key not in page

    def test_it_shows_the_usage_of_the_month_of_this_resource_only(
        self, resource: str, browser: Client, new_usage: Any
    ) -> None:
        other = uuid.uuid4()
        ids = {"customer_id": uuid.UUID(resource)}
        record_many([
            new_usage(resource_id=uuid.UUID(resource), text_tokens=1_234_567, inputs=8, **ids),
            new_usage(resource_id=other, text_tokens=9_876_543, **ids),
        ])  # fmt: skip
        page = browser.get(page_of(resource)).content.decode()
        assert "1,234,567" in page
        assert "9,876,543" not in page

    def test_nobody_frames_keeps_or_scripts_it(self, resource: str, browser: Client) -> None:
        for answer in (browser.get(page_of(resource)), sign_on({})):
            assert answer["X-Frame-Options"] == "DENY"
            assert answer["Cache-Control"] == "no-store"
            assert answer["Referrer-Policy"] == "same-origin"
            policy = answer["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy

    def test_what_a_platform_wrote_is_no_html(self, resource: str) -> None:
        Resource.objects.update(name="<script>alert(1)</script>")
        browser = Client()
        sign_on(signed(resource, email="<b>@example.com", context_app="<i>"), browser)
        page = browser.get(page_of(resource)).content.decode()
        for tag in ("<script", "<b>", "<i>"):
            assert tag not in page

    def test_the_button_gives_the_attachment_another_key(
        self, resource: str, browser: Client
    ) -> None:
        attachment = Attachment.objects.get()
        old = Credential.objects.get()
        path = f"{page_of(resource)}/attachments/{attachment.id}/rotate"
        answer = browser.post(path)
        assert (answer.status_code, answer["Location"]) == (303, page_of(resource))
        old.refresh_from_db()
        assert old.expires_at is not None
        assert Credential.objects.filter(expires_at=None).count() == 1
        page = browser.get(page_of(resource)).content.decode()
        assert "until" in page

    def test_a_form_of_another_site_presses_no_button(self, resource: str) -> None:
        browser = Client(enforce_csrf_checks=True)
        assert sign_on(signed(resource), browser).status_code == 303  # that one may
        path = f"{page_of(resource)}/attachments/{resource}/rotate"
        assert browser.post(path, {}).status_code == 403
        assert browser.post(f"{page_of(resource)}/sign-out", {}).status_code == 403
        assert Credential.objects.count() == 1
