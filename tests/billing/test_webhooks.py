"""Webhooks are signed, delivered within their time, and never into our own network."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings
from standardwebhooks import Webhook

from billing import webhooks
from billing.webhooks import (
    InvalidSecret,
    InvalidURL,
    WebhookFailed,
    WebhookGone,
    check_secret,
    check_url,
    is_public,
    new_secret,
    post,
    sign,
)
from tests.billing.stand_ins import Reply, stand_in

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLwAAAAAAAAAAAAA="
BODY = '{"test": 2432232314}'


@pytest.fixture(autouse=True)
def _stand_ins_may_be_called(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


def send(url: str) -> None:
    asyncio.run(post(url, sign(SECRET, "msg_1", BODY, datetime.now(UTC)), BODY.encode()))


def test_the_receiver_can_verify_it_with_the_specifications_library() -> None:
    with stand_in() as server:
        send(f"{server.url}/hooks?x=1")
    (call,) = server.calls
    assert call.path == "/hooks?x=1"
    assert call.headers["host"] == server.url.removeprefix("http://")
    assert Webhook(SECRET).verify(call.body, call.headers) == {"test": 2432232314}


def test_the_signature_is_that_of_the_specifications_example() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    signed = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, at
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500, 503])
def test_anything_but_success_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    with stand_in() as other:
        reply = Reply(status=status, headers={"location": other.url})
        with (
            stand_in(reply) as server,
            pytest.raises(WebhookFailed, match=str(status)),
        ):
            send(server.url)
        assert not other.calls


def test_410_says_that_it_is_gone() -> None:
    with stand_in(Reply(status=410)) as server, pytest.raises(WebhookGone):
        send(server.url)


def test_a_receiver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 0.2)
    with stand_in(Reply(after_s=60)) as server:
        started = time.monotonic()
        with pytest.raises(WebhookFailed, match="no answer within"):
            send(server.url)
        assert time.monotonic() - started < 30


def test_a_receiver_that_hangs_up_or_does_not_listen_is_a_failure() -> None:
    with stand_in(Reply(is_cut=True)) as server, pytest.raises(WebhookFailed):
        send(server.url)
    with pytest.raises(WebhookFailed):
        send(server.url)


def test_an_endless_answer_is_not_read() -> None:
    with stand_in(Reply(body=b"x" * 50_000_000)) as server:
        send(server.url)
        assert server.hung_up.wait(30)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",  # noqa: S104 - to be refused
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "fec0::1",
        "2002:a9fe:a9fe::1",
        "2001:0:53aa:64c:0:fffe:5601:5601",
    ],
)
def test_addresses_that_are_not_the_internets_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"]
)
def test_addresses_of_the_internet_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"]
)
def test_this_machine_is_not_called_however_it_is_written(settings: Settings, host: str) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with stand_in() as server:
        port = server.url.rpartition(":")[2]
        with pytest.raises(WebhookFailed):
            send(f"http://{host}:{port}/")
    assert not server.calls


def test_a_name_with_one_private_address_is_not_called(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with stand_in() as server:
        resolve(monkeypatch, "93.184.216.34", "127.0.0.1")
        with pytest.raises(WebhookFailed, match="private network"):
            send(server.url.replace("127.0.0.1", "hooks.example.com"))
    assert not server.calls


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stand_in() as server:
        resolve(monkeypatch, "127.0.0.1")
        send(server.url.replace("127.0.0.1", "hooks.example.com"))
    assert server.calls[0].headers["host"].startswith("hooks.example.com:")


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to these, and once only: a second answer could be another."""
    answers = [[(2, 1, 6, "", (address, 0)) for address in addresses]]

    async def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        return answers.pop()

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in() as proxy, stand_in() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        send(server.url)
    assert (len(proxy.calls), len(server.calls)) == (0, 1)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "example.com/hooks",
        "http://",
        "https://user:password@example.com",
        "javascript:alert(1)",
        "http://example.com/" + "x" * 500,
        "http://exa\nmple.com",
        "https://example.com:99999999/",
        "https://example..com/",
        "https://.example.com/",
        f"https://{'a' * 64}.example.com/",
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        check_url(url)


@pytest.mark.parametrize(
    "secret", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "whsec_" + "A" * 200]
)
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidSecret):
        check_secret(secret)


def test_a_new_secret_is_one() -> None:
    check_secret(new_secret())
    assert new_secret() != new_secret()
