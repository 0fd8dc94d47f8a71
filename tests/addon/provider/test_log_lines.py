"""Log lines: what is written, how it is framed, and that it arrives or is given up."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from addon.provider import log_lines, logplex, tasks
from addon.provider.log_delivery import send_log_lines
from addon.provider.log_lines import DUE_KEY, MINUTES_KEY, LogLine, lines_key
from addon.provider.logplex import InvalidStream
from addon.provider.models import Resource
from addon.provider.provisioning import (
    AttachmentRequest,
    ProvisionRequest,
    change_plan,
    deprovision,
    provision,
)
from billing.advisory_locks import alone
from tests.addon.provider.platforms import Platform
from tests.addon.rounds_in_turn import find_other_streams
from tests.billing.stand_ins import Reply, StandIn, stand_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("plans")]

TOKEN = "t.01234567-89ab-cdef-0123-456789abcdef"
AT = datetime(2013, 3, 27, 20, 2, 24, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _may_call_this_machine(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture
def stream() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


def stream_url(server: StandIn) -> str:
    return server.url.replace("http://", f"http://token:{TOKEN}@") + "/logs"


Make = Callable[..., Resource]


@pytest.fixture
def make() -> Make:
    """A resource with a log stream."""

    def make(log_input_url: str, callback_url: str = "", **grant: Any) -> Resource:
        resource_id = uuid.uuid4()
        provision(
            ProvisionRequest(
                uuid=resource_id,
                name="inference-acute-10001",
                plan_slug="standard",
                region="us",
                options={},
                callback_url=callback_url,
                log_input_url=log_input_url,
                attachment=AttachmentRequest(id=resource_id, name="EMBEDDING", app_name="shop"),
                **grant,
            ),
            timezone.now(),
        )
        return Resource.objects.get(id=resource_id)

    return make


def texts(server: StandIn) -> list[str]:
    """The lines that arrived, without what is before each."""
    frames: list[str] = []
    for call in server.calls:
        rest = call.body
        while rest:
            length, _, rest = rest.partition(b" ")
            frames.append(rest[: int(length)].decode())
            rest = rest[int(length) :]
    return [frame.partition(" - - ")[2] for frame in frames]


def test_a_frame_is_as_in_herokus_documents() -> None:
    documented = b"62 <190>1 2013-03-27T20:02:24+00:00 hostname token procid - - foo"
    length, _, message = logplex.frame(LogLine(at=AT, text="foo"), token="token").partition(b" ")
    assert int(length) == len(message)
    expected = documented.partition(b" ")[2].replace(b"hostname", b"annex")
    assert message == expected.replace(b"procid", b"heroku-inference")
    assert len(documented.partition(b" ")[2]) == 62


def test_a_frames_length_is_in_octets() -> None:
    length, _, message = logplex.frame(LogLine(at=AT, text="ä"), token=TOKEN).partition(b" ")
    assert int(length) == len(message) == len(message.decode()) + 1


def test_a_plan_change_is_told(make: Make, stream: StandIn) -> None:
    resource = make(stream_url(stream))
    change_plan(resource.id, "dedicated", timezone.now())
    send_log_lines(timezone.now)
    (call,) = stream.calls
    assert call.path == "/logs"
    assert call.headers["content-type"] == "application/logplex-1"
    assert call.headers["user-agent"] == "heroku-inference (Annex)"
    assert call.headers["authorization"].startswith("Basic ")
    assert f" annex {TOKEN} heroku-inference - - ".encode() in call.body
    assert texts(stream) == [
        "addon=inference-acute-10001 event=plan_changed plan=dedicated previous=standard"
    ]
    change_plan(resource.id, "dedicated", timezone.now())  # changes nothing
    send_log_lines(timezone.now)
    assert len(stream.calls) == 1


def test_a_key_rotation_is_told_without_a_key(make: Make, stream: StandIn) -> None:
    attachment = make(stream_url(stream)).attachments.select_related("resource").get()
    log_lines.write_key_rotation(attachment, AT + timedelta(hours=2), AT)
    send_log_lines(lambda: AT)
    (text,) = texts(stream)
    assert "event=key_rotated old_key_ends_at=2013-03-27T22:02:24Z" in text
    assert attachment.credentials.get().key not in text


def test_a_change_that_is_rolled_back_is_not_told(make: Make, stream: StandIn) -> None:
    from django.db import transaction

    resource = make(stream_url(stream))
    with transaction.atomic():
        log_lines.write_plan_change(resource, "standard", "dedicated", AT)
        transaction.set_rollback(True)
    send_log_lines(lambda: AT)
    assert not stream.calls


def test_without_a_log_stream_nothing_is_kept(make: Make, redis_client: Redis) -> None:
    change_plan(make("").id, "dedicated", timezone.now())
    assert redis_client.keys("log_lines*") == []


def test_lines_travel_together_and_in_order(make: Make, stream: StandIn) -> None:
    resource = make(stream_url(stream))
    for number in range(120):
        log_lines.write_plan_change(resource, "a", str(number), AT)
    send_log_lines(lambda: AT)
    assert len(stream.calls) == 2
    assert [text.partition("plan=")[2].split()[0] for text in texts(stream)] == [
        str(number) for number in range(120)
    ]


def test_what_waits_is_bounded(
    make: Make, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    resource = make("http://token:t.x@stream.example")
    for _ in range(log_lines.WAITING_MAX_LINES + 1):
        log_lines.write_plan_change(resource, "a", "b", AT)
    assert redis_client.llen(lines_key(resource.id)) == log_lines.WAITING_MAX_LINES
    assert 0 < redis_client.ttl(lines_key(resource.id)) <= log_lines.KEPT.total_seconds()
    assert "is dropped: too many wait" in caplog.text


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_a_failure_that_may_pass_is_tried_again_later(
    make: Make, redis_client: Redis, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    replies = iter([status, status, 200])
    with stand_in(answer=lambda _: Reply(status=next(replies))) as server:
        resource = make(stream_url(server))
        log_lines.write_plan_change(resource, "a", "b", AT)
        for seconds, calls in [(0, 1), (9, 1), (10, 2), (29, 2), (30, 3), (99, 3)]:
            send_log_lines(lambda at=AT + timedelta(seconds=seconds): at)  # type: ignore[misc]
            assert len(server.calls) == calls
    assert texts(server)[0] == texts(server)[2]
    assert redis_client.keys("log_lines*") == []
    assert TOKEN not in caplog.text


def test_a_line_that_waited_an_hour_is_left_out(make: Make, redis_client: Redis) -> None:
    with stand_in(Reply(is_cut=True)) as server:
        log_lines.write_plan_change(make(stream_url(server)), "a", "b", AT)
        send_log_lines(lambda: AT)
        send_log_lines(lambda: AT + timedelta(hours=1))
        assert len(server.calls) == 1
    assert redis_client.keys("log_lines*") == []


@pytest.mark.parametrize("url", ["https://no-token.example/logs", "ftp://t:t.x@x.example", "x"])
def test_a_url_that_is_no_log_input_is_given_up(make: Make, redis_client: Redis, url: str) -> None:
    resource = make(url)
    log_lines.write_plan_change(resource, "a", "b", AT)
    send_log_lines(lambda: AT)
    find_other_streams(lambda: AT)
    resource.refresh_from_db()
    assert resource.log_input_url == ""
    assert redis_client.keys("log_lines*") == []


async def test_an_invalid_streams_error_does_not_show_it() -> None:
    with pytest.raises(InvalidStream) as raised:
        await logplex.post("ftp://token:t.secret@x.example", [])
    assert "secret" not in str(raised.value)


def test_no_line_goes_into_a_private_network(
    make: Make, stream: StandIn, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    log_lines.write_plan_change(make(stream_url(stream)), "a", "b", AT)
    send_log_lines(lambda: AT)
    assert not stream.calls
    assert "private network" in caplog.text


def test_a_refused_stream_without_a_platform_to_ask_is_given_up(
    make: Make, redis_client: Redis
) -> None:
    with stand_in(Reply(status=404)) as server:
        resource = make(stream_url(server))
        log_lines.write_plan_change(resource, "a", "b", AT)
        send_log_lines(lambda: AT)
        find_other_streams(lambda: AT)
    assert Resource.objects.get(id=resource.id).log_input_url == ""
    assert redis_client.keys("log_lines*") == []


def test_the_lines_of_what_was_deprovisioned_are_forgotten(
    make: Make, stream: StandIn, redis_client: Redis
) -> None:
    resource = make(stream_url(stream))
    log_lines.write_plan_change(resource, "a", "b", AT)
    deprovision(resource.id, timezone.now())
    send_log_lines(lambda: AT)
    assert not stream.calls
    assert redis_client.keys("log_lines*") == []


def test_one_run_at_a_time(make: Make, stream: StandIn) -> None:
    log_lines.write_plan_change(make(stream_url(stream)), "a", "b", timezone.now())
    with alone("addon.provider.send_log_lines"):
        tasks.send_log_lines()
    assert not stream.calls
    tasks.send_log_lines()
    assert len(stream.calls) == 1


def test_without_redis_a_plan_changes_all_the_same(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resource = make("http://token:t.x@stream.example")
    nowhere = Redis(port=9, socket_connect_timeout=0.2)
    monkeypatch.setattr(log_lines, "redis_client", lambda: nowhere)
    change_plan(resource.id, "dedicated", timezone.now())
    assert Resource.objects.get(id=resource.id).plan_slug == "dedicated"
    assert "is lost" in caplog.text


class TestRefusals:
    """At most one line a minute for an attachment and a kind of limit."""

    MINUTE = int(AT.timestamp()) // 60

    def count(self, redis: Redis, resource: Resource, counts: dict[str, int]) -> None:
        attachment = resource.attachments.get()
        for limit, count in counts.items():
            field = log_lines.refusals_field(resource.id, attachment.id, limit)
            redis.hincrby(log_lines.refusals_key(self.MINUTE), field, count)
        redis.sadd(MINUTES_KEY, self.MINUTE)

    def test_a_minutes_refusals_are_one_line_each(
        self, make: Make, stream: StandIn, redis_client: Redis
    ) -> None:
        resource = make(stream_url(stream))
        self.count(redis_client, resource, {"requests": 10, "tokens": 2})
        self.count(redis_client, resource, {"requests": 7})  # of another web process
        over = datetime.fromtimestamp(60 * (self.MINUTE + 1), tz=UTC)
        send_log_lines(lambda: over)  # what was counted last may still be on its way
        assert not stream.calls
        send_log_lines(lambda: over + timedelta(seconds=6))
        send_log_lines(lambda: over + timedelta(seconds=12))
        start = "source=EMBEDDING addon=inference-acute-10001 event=rate_limited"
        assert sorted(texts(stream)) == [
            f"{start} limit=requests count#rate_limited.requests=17",
            f"{start} limit=tokens count#rate_limited.tokens=2",
        ]
        assert redis_client.keys("log_lines*") == []

    def test_of_what_is_gone_there_is_no_line(
        self, make: Make, stream: StandIn, redis_client: Redis
    ) -> None:
        resource = make(stream_url(stream))
        self.count(redis_client, resource, {"requests": 10})
        deprovision(resource.id, timezone.now())
        send_log_lines(lambda: AT + timedelta(minutes=2))
        assert not stream.calls
        assert redis_client.zcard(DUE_KEY) == 0


def test_no_name_makes_a_second_line_or_field(make: Make, stream: StandIn) -> None:
    resource = make(stream_url(stream))
    resource.name = "x event=forged\n<190>1 forged"
    log_lines.write_plan_change(resource, "standard", "dedicated", AT)
    send_log_lines(lambda: AT)
    assert texts(stream) == [
        "addon=x_event_forged__190_1_forged event=plan_changed plan=dedicated previous=standard"
    ]


def test_a_refused_stream_is_asked_for_anew_at_the_platform(
    make: Make, stream: StandIn, platform: Platform
) -> None:
    from addon.provider.grants import OAuthGrant

    with stand_in(Reply(status=403)) as old:
        resource_id = uuid.uuid4()
        grant = OAuthGrant(code="code-1", expires_at=timezone.now() + timedelta(minutes=5))
        resource = make(stream_url(old), f"{platform.url}/addons/{resource_id}", oauth_grant=grant)
        app, other = ({"id": str(uuid.uuid4()), "name": name} for name in ("shop", "other"))
        platform.will("GET /addons", 200, {
            "id": str(resource.id), "name": "n", "state": "provisioned",
            "plan": {"name": "heroku-inference:standard"}, "app": app,
        })  # fmt: skip
        platform.will("GET /addons/addon-attachments", 200, [
            {"id": str(uuid.uuid4()), "name": "A", "app": other, "log_input_url": stream_url(old)},
            {"id": str(uuid.uuid4()), "name": "B", "app": app, "log_input_url": stream_url(stream)},
        ])  # fmt: skip
        log_lines.write_plan_change(resource, "a", "b", timezone.now())
        send_log_lines(timezone.now)
        find_other_streams(timezone.now)
        send_log_lines(timezone.now)
        assert (len(old.calls), len(stream.calls)) == (1, 1)
    assert Resource.objects.get(id=resource.id).log_input_url == stream_url(stream)
