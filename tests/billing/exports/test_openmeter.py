"""OpenMeter gets every row of the ledger as a CloudEvent, in batches, whatever goes wrong."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pytest_django import Settings

from billing.exports.delivery import (
    DELAY_MAX_S,
    LEASE_S,
    REJECTIONS_MAX,
    SET_ASIDE_KEPT,
    delay_s,
    deliver_exports,
    send_again,
)
from billing.exports.openmeter import BATCH_MAX_EVENTS
from billing.models import OutboxEntry, UsageEvent
from tests.billing.exports.conftest import Record, Stopwatch
from tests.billing.parallel import at_once
from tests.billing.stand_ins import Call, Reply, stand_in

pytestmark = pytest.mark.django_db

ExportingTo = Callable[..., None]


def deliver(after: timedelta = timedelta()) -> int:
    return deliver_exports(lambda: datetime.now(UTC) + after)


def ids(call: Call) -> list[str]:
    return [event["id"] for event in cast(list[dict[str, Any]], call.json)]


def test_an_event_says_all_of_its_row(
    exporting_to: ExportingTo, record: Record, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://annex.example.com"
    with stand_in(Reply(status=204, body=b"")) as server:
        exporting_to(openmeter=server.url)
        (usage,) = record(image_tokens=3)
        assert deliver() == 1
    (call,) = server.calls
    assert call.path == "/api/v1/events"
    assert call.headers["content-type"] == "application/cloudevents-batch+json"
    assert call.headers["authorization"] == "Bearer om_token"
    row = UsageEvent.objects.get(id=usage.id)
    assert call.json == [
        {
            "specversion": "1.0",
            "id": str(usage.id),
            "source": "https://annex.example.com",
            "type": "annex.embeddings",
            "subject": str(usage.customer_id),
            "time": row.stored_at.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "tokens": 20,
                "text_tokens": 17,
                "image_tokens": 3,
                "inputs": 2,
                "cost_picounits": 1_700_000,
                "model": "all-minilm-l6-v2",
                "plan": "heroku-inference:standard",
                "price_id": 1,
                "resource_id": str(usage.resource_id),
                "attachment_id": str(usage.attachment_id),
                "attachment": "EMBEDDING",
                "app": "shop",
                "key_id": str(usage.credential_id),
                "outcome": "answered",
                "corrects": None,
                "requested_at": row.requested_at.isoformat(),
            },
        }
    ]
    assert not OutboxEntry.objects.exists()


def test_many_go_in_batches_each_event_once(exporting_to: ExportingTo, record: Record) -> None:
    count = 2 * BATCH_MAX_EVENTS + 7
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        usages = record(count)
        assert deliver() == count
        assert deliver() == 0
    assert [len(ids(call)) for call in server.calls] == [BATCH_MAX_EVENTS, BATCH_MAX_EVENTS, 7]
    assert {id_ for call in server.calls for id_ in ids(call)} == {
        str(usage.id) for usage in usages
    }


def test_nothing_waits_and_nothing_is_sent_where_no_export_is_on(
    exporting_to: ExportingTo, record: Record
) -> None:
    exporting_to()
    record()
    assert not OutboxEntry.objects.exists()
    assert deliver() == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500, body=b"broken"),
        Reply(status=503),
        Reply(status=429),
        Reply(status=401),
        Reply(status=404),
        Reply(status=302, headers={"location": "http://127.0.0.1:1/"}),
        Reply(is_cut=True),
        Reply(after_s=0.6),
    ],
)
def test_while_it_fails_all_is_kept_and_later_sent(
    exporting_to: ExportingTo, record: Record, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setattr("billing.exports.events.TIMEOUT_S", 0.3)
    with stand_in(reply) as server:
        exporting_to(openmeter=server.url)
        record(3)
        for attempt in range(REJECTIONS_MAX + 3):
            assert deliver(timedelta(seconds=attempt * DELAY_MAX_S)) == 0
        assert len(server.calls) == REJECTIONS_MAX + 3
        entry = OutboxEntry.objects.earliest("id")
        assert entry.attempts == REJECTIONS_MAX + 3
        assert entry.next_attempt_at is not None
        assert "answer" in entry.last_error
        server.answer = lambda _: Reply(status=204)
        assert deliver(timedelta(days=1)) == 3
    assert not OutboxEntry.objects.exists()


def test_attempts_are_made_less_and_less_often() -> None:
    delays = [delay_s(attempts) for attempts in range(1, 30)]
    assert delays[:4] == [10, 20, 40, 80]
    assert delays == sorted(delays)
    assert delays[-1] == DELAY_MAX_S


def test_while_it_fails_it_is_asked_once_a_run(exporting_to: ExportingTo, record: Record) -> None:
    with stand_in(Reply(status=500)) as server:
        exporting_to(openmeter=server.url)
        record(3 * BATCH_MAX_EVENTS)
        deliver()
    assert len(server.calls) == 1


def test_one_event_that_is_rejected_is_set_aside_and_keeps_no_other_back(
    exporting_to: ExportingTo, record: Record
) -> None:
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        usages = record(9)
        poison = str(usages[4].id)

        def reject_poison(call: Call) -> Reply:
            is_poison = poison in ids(call)
            return Reply(status=400, body=b"bad event") if is_poison else Reply(status=204)

        server.answer = reject_poison
        assert deliver() == 8
        for attempt in range(1, REJECTIONS_MAX):
            assert deliver(timedelta(seconds=attempt * DELAY_MAX_S)) == 0
        before = len(server.calls)
        deliver(timedelta(days=2))
        assert len(server.calls) == before
        entry = OutboxEntry.objects.get()
        assert (str(entry.event_id), entry.next_attempt_at) == (poison, None)
        assert entry.last_error == "answered 400: bad event"

        server.answer = lambda _: Reply(status=204)
        assert send_again(OutboxEntry.objects.all(), datetime.now(UTC)) == 1
        assert deliver() == 1
    assert not OutboxEntry.objects.exists()


def test_a_rejected_batch_is_parted_no_longer_than_its_run(
    exporting_to: ExportingTo, record: Record, stopwatch: Stopwatch
) -> None:
    def reject(call: Call) -> Reply:
        stopwatch.seconds += 15
        return Reply(status=400, body=b"bad")

    with stand_in(answer=reject) as server:
        exporting_to(openmeter=server.url)
        record(BATCH_MAX_EVENTS)
        deliver()
        assert [len(ids(call)) for call in server.calls] == [BATCH_MAX_EVENTS, BATCH_MAX_EVENTS / 2]
        waiting = OutboxEntry.objects.exclude(next_attempt_at=None)
        assert waiting.count() == BATCH_MAX_EVENTS
        assert "some are rejected: answered 400: bad" in waiting.latest("id").last_error
        server.answer = lambda _: Reply(status=204)
        assert deliver(timedelta(minutes=1)) == BATCH_MAX_EVENTS


def test_an_event_that_cannot_be_written_is_put_off_and_the_others_go_on(
    exporting_to: ExportingTo,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail_for_one(event: UsageEvent) -> dict[str, object]:
        if event.id == broken.id:
            raise RuntimeError("new")
        return {"id": str(event.id)}

    monkeypatch.setattr("billing.exports.openmeter.cloud_event", fail_for_one)
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        broken, *_ = record(3)
        assert deliver() == 2
    entry = OutboxEntry.objects.get()
    assert (entry.event_id, entry.attempts) == (broken.id, 1)
    assert entry.last_error == "an error in Annex, which its log has: RuntimeError"
    assert entry.next_attempt_at is not None
    assert entry.next_attempt_at < datetime.now(UTC) + timedelta(seconds=DELAY_MAX_S)
    assert f"event {broken.id} cannot be written" in caplog.text


def test_a_post_that_breaks_is_made_again_later(
    exporting_to: ExportingTo, record: Record, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        record(2)
        settings.EXPORT_OPENMETER_TOKEN = "töken"
        assert deliver() == 0
        assert "a post to an export destination broke" in caplog.text
        settings.EXPORT_OPENMETER_TOKEN = "token"
        assert deliver(timedelta(minutes=1)) == 2


def test_what_is_set_aside_is_kept_for_a_time_only(
    exporting_to: ExportingTo, record: Record
) -> None:
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        record()
        OutboxEntry.objects.update(next_attempt_at=None, last_error="no")
        deliver(SET_ASIDE_KEPT - timedelta(minutes=1))
        assert OutboxEntry.objects.count() == 1
        deliver(SET_ASIDE_KEPT + timedelta(minutes=1))
        assert not OutboxEntry.objects.exists()
    assert not server.calls


def test_an_endless_answer_is_not_read_to_its_end(
    exporting_to: ExportingTo, record: Record
) -> None:
    with stand_in(Reply(status=500, body=b"x" * 5_000_000)) as server:
        exporting_to(openmeter=server.url)
        record()
        deliver()
    assert len(OutboxEntry.objects.get().last_error) < 1_000


def test_an_attempt_that_is_cut_off_is_made_again_after_its_lease(
    exporting_to: ExportingTo, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> int:
        raise KeyboardInterrupt

    with stand_in() as server:
        exporting_to(openmeter=server.url)
        (usage,) = record()
        with monkeypatch.context() as patch:
            patch.setattr("billing.exports.delivery._settle", killed)
            with pytest.raises(KeyboardInterrupt):
                deliver()
        assert deliver(timedelta(seconds=LEASE_S - 5)) == 0
        assert deliver(timedelta(seconds=LEASE_S + 5)) == 1
    assert [ids(call) for call in server.calls] == [[str(usage.id)], [str(usage.id)]]


@pytest.mark.django_db(transaction=True)
def test_runs_in_parallel_send_each_once(exporting_to: ExportingTo, record: Record) -> None:
    with stand_in(Reply(after_s=0.02)) as server:
        exporting_to(openmeter=server.url)
        record(1_000)
        assert sum(at_once(4, deliver)) == 1_000
    sent = [id_ for call in server.calls for id_ in ids(call)]
    assert len(sent) == len(set(sent)) == 1_000


def test_json_is_what_every_reader_reads(exporting_to: ExportingTo, record: Record) -> None:
    with stand_in() as server:
        exporting_to(openmeter=server.url)
        record(app_name='schön "x" \u2028')
        deliver()
    (event,) = json.loads(server.calls[0].body)
    assert event["data"]["app"] == 'schön "x" \u2028'
