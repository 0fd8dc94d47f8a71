"""How often the database is asked whose key it is, and who waits for it."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django.fixtures import Settings

from addon.provider.provisioning import detach
from inference import authentication
from inference.authentication import Caller, InvalidKey, KeysUnavailable, authenticate
from inference.database import run_in_database_thread
from tests.inference.conftest import Attach

REMEMBERED_S = 0.8


@dataclass
class LookUps:
    """Those of this test; each waits for `may_go_on`, and then raises `error`."""

    count: int = 0
    may_go_on: Event = field(default_factory=Event)
    error: Exception | None = None


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[LookUps]:
    settings.KEY_CACHE_S = REMEMBERED_S
    counted, find_caller = LookUps(), authentication._find_caller

    def find_and_count(key: str) -> Caller | None:
        counted.count += 1
        assert counted.may_go_on.wait(10)
        if counted.error is not None:
            raise counted.error
        return find_caller(key)

    monkeypatch.setattr(authentication, "_find_caller", find_and_count)
    counted.may_go_on.set()
    yield counted
    counted.may_go_on.set()


async def until_no_look_up() -> None:
    while authentication._looking_up:
        await asyncio.sleep(0.01)


async def test_those_who_ask_at_the_same_time_share_a_look_up(
    attach: Attach, look_ups: LookUps
) -> None:
    key = (await attach()).key
    look_ups.may_go_on.clear()
    asking = [asyncio.create_task(authenticate(f"Bearer {key}")) for _ in range(20)]
    await asyncio.sleep(0.05)
    asking[0].cancel()  # who asked first goes, and the others get their answer
    look_ups.may_go_on.set()
    callers = await asyncio.gather(*asking[1:])
    assert len({id(caller) for caller in callers}) == 1
    assert look_ups.count == 1


async def test_a_key_in_use_is_looked_up_again_while_its_requests_go_on(
    attach: Attach, look_ups: LookUps
) -> None:
    header = f"Bearer {(await attach()).key}"
    first = await authenticate(header)
    await asyncio.sleep(REMEMBERED_S * 0.5)
    assert await authenticate(header) is first
    assert look_ups.count == 1
    await asyncio.sleep(REMEMBERED_S * 0.35)
    look_ups.may_go_on.clear()
    assert await authenticate(header) is first  # does not wait
    look_ups.may_go_on.set()
    await until_no_look_up()
    assert look_ups.count == 2
    await asyncio.sleep(REMEMBERED_S * 0.4)  # now the first would be forgotten
    assert await authenticate(header) is not first
    assert look_ups.count == 2


async def test_a_key_that_is_refused_then_is_refused_at_once(
    attach: Attach, look_ups: LookUps
) -> None:
    attachment = await attach()
    header = f"Bearer {attachment.key}"
    await authenticate(header)
    await run_in_database_thread(
        detach, attachment.resource_id, attachment.attachment_id, timezone.now()
    )
    await asyncio.sleep(REMEMBERED_S * 0.85)
    await authenticate(header)
    await until_no_look_up()
    with pytest.raises(InvalidKey):
        await authenticate(header)


async def test_without_the_database_a_key_is_remembered_for_its_time_and_no_longer(
    attach: Attach, look_ups: LookUps, caplog: pytest.LogCaptureFixture
) -> None:
    header = f"Bearer {(await attach()).key}"
    started_at = time.monotonic()
    first = await authenticate(header)
    look_ups.error = OperationalError("gone")
    await asyncio.sleep(REMEMBERED_S * 0.8)
    assert await authenticate(header) is first
    await until_no_look_up()
    assert "a key could not be looked up again" in caplog.text
    await asyncio.sleep(started_at + REMEMBERED_S + 0.05 - time.monotonic())
    with pytest.raises(KeysUnavailable):
        await authenticate(header)
    look_ups.error = None
    assert (await authenticate(header)).identity == first.identity


async def test_who_asks_later_than_a_key_is_remembered_does_not_get_what_was_read_before(
    attach: Attach, look_ups: LookUps
) -> None:
    header = f"Bearer {(await attach()).key}"
    look_ups.may_go_on.clear()
    early = asyncio.create_task(authenticate(header))
    await asyncio.sleep(REMEMBERED_S + 0.1)
    late = asyncio.create_task(authenticate(header))
    await asyncio.sleep(0.05)
    assert look_ups.count == 2
    look_ups.may_go_on.set()
    assert await early is not await late


async def test_look_ups_of_one_key_may_end_in_another_order(
    attach: Attach, look_ups: LookUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, errors = (await attach()).key, []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    hold, find_caller = Event(), authentication._find_caller

    def find_slowly_at_first(key: str) -> Caller | None:
        if look_ups.count == 0:
            look_ups.count += 1
            assert hold.wait(10)
        return find_caller(key)

    monkeypatch.setattr(authentication, "_find_caller", find_slowly_at_first)
    early = asyncio.create_task(authenticate(f"Bearer {key}"))
    await asyncio.sleep(REMEMBERED_S + 0.1)
    late = await authenticate(f"Bearer {key}")
    hold.set()
    assert (await early).identity == late.identity
    await until_no_look_up()
    assert not errors


async def test_a_look_up_that_hangs_is_given_up_and_the_next_is_another(
    attach: Attach, look_ups: LookUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = f"Bearer {(await attach()).key}"
    monkeypatch.setattr(authentication, "LOOK_UP_TIMEOUT_S", 0.1)
    look_ups.may_go_on.clear()
    with pytest.raises(KeysUnavailable):
        await authenticate(header)
    assert not authentication._looking_up
    look_ups.may_go_on.set()
    monkeypatch.setattr(authentication, "LOOK_UP_TIMEOUT_S", 10.0)
    assert (await authenticate(header)).plan_name


async def test_a_key_is_remembered_no_longer_than_the_prices_that_it_came_with(
    attach: Attach, look_ups: LookUps
) -> None:
    first, second = [f"Bearer {(await attach()).key}" for _ in range(2)]
    offer = (await authenticate(first)).offer
    await asyncio.sleep(REMEMBERED_S * 0.4)
    assert (await authenticate(second)).offer is offer
    await asyncio.sleep(REMEMBERED_S * 0.65)  # the second key itself would be remembered still
    assert (await authenticate(second)).offer is not offer
