import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import Client
from pytest_django import Settings
from redis import Redis

from addon.platform import rate_limits
from addon.platform.models import App
from addon.platform.rate_limits import RateLimitReached, count_wrong_token, spend_request
from tests.addon.platform.helpers import Api

ADDRESS = "203.0.113.9"


def remaining(api: Api) -> int:
    answer = api.get("/account/rate-limits")
    assert answer.status_code == 200
    left: int = answer.json()["remaining"]
    assert answer["RateLimit-Remaining"] == str(left)
    return left


def test_each_request_costs_one_and_asking_costs_none(api: Api) -> None:
    assert remaining(api) == 4500
    assert api.get("/apps")["RateLimit-Remaining"] == "4499"
    assert api.get("/apps/nosuch")["RateLimit-Remaining"] == "4498"
    assert remaining(api) == 4498 == remaining(api)


def test_the_limit_is_the_accounts_and_not_the_tokens(api: Api, stranger: Api) -> None:
    api.get("/apps")
    second = Api(token=api.post("/oauth/authorizations", {"scope": ["global"]}).json()[
        "access_token"]["token"])  # fmt: skip
    assert remaining(second) == 4498
    assert remaining(stranger) == 4500


def test_beyond_the_limit_nothing_is_done(api: Api, shop: App, settings: Settings) -> None:
    settings.PLATFORM_REQUESTS_PER_HOUR = 2
    assert api.get("/apps").status_code == 200
    assert api.get("/apps").status_code == 200
    answer = api.delete("/apps/shop")
    assert (answer.status_code, answer.json()["id"]) == (429, "rate_limit")
    assert answer.json()["message"].startswith("Your account reached the API limit.")
    assert 1 <= int(answer["Retry-After"]) <= 1800
    assert answer["RateLimit-Remaining"] == "0"
    assert remaining(api) == 0
    assert App.objects.filter(name="shop", destroyed_at=None).exists()


def test_the_bucket_fills_all_the_time(settings: Settings, redis_client: Redis) -> None:
    settings.PLATFORM_REQUESTS_PER_HOUR = 36_000  # one in 100 ms
    account = uuid.uuid4()
    assert spend_request(account, 36_000) == 0
    key = f"platform:requests:{account}"
    full_at = int(redis_client.get(key) or 0)
    redis_client.set(key, full_at - 1_050_000)  # as it will be in 1.05 s
    left = spend_request(account, 0)
    assert left is not None
    assert 10 <= left < 100


def test_a_full_bucket_leaves_nothing_in_redis(redis_client: Redis) -> None:
    account = uuid.uuid4()
    spend_request(account, 0)
    assert not redis_client.exists(f"platform:requests:{account}")
    spend_request(account)
    assert 0 < redis_client.pttl(f"platform:requests:{account}") <= 800


def test_requests_at_once_are_all_counted() -> None:
    account = uuid.uuid4()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: spend_request(account), range(200)))
    left = spend_request(account, 0)
    assert left is not None
    assert 4300 <= left <= 4302  # it fills by one in 0.8 s


def test_without_redis_requests_are_let_through(
    api: Api, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    answer = api.get("/apps")
    assert answer.status_code == 200
    assert "RateLimit-Remaining" not in answer
    assert "requests are not limited" in caplog.text
    assert api.get("/account/rate-limits").json() == {"remaining": 4500}


def knock(token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return Client(REMOTE_ADDR=ADDRESS).get("/account", headers=headers).status_code


def test_wrong_tokens_are_limited_by_the_address_that_they_come_from(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WRONG_TOKENS_PER_HOUR", 3)
    assert [knock("HRKU-wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert knock(api.token) == 200, "a right one is never held up by others' wrong ones"


def test_a_request_without_a_token_is_no_guess(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "WRONG_TOKENS_PER_HOUR", 1)
    for _ in range(3):
        assert Client(REMOTE_ADDR=ADDRESS).get("/account").status_code == 401


def test_an_ipv6_network_is_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "WRONG_TOKENS_PER_HOUR", 1)
    count_wrong_token("2001:db8::1")
    with pytest.raises(RateLimitReached):
        count_wrong_token("2001:db8::ffff")
    count_wrong_token("2001:db8:0:1::1")
