"""Stripe gets every row of the ledger as one meter event, counted once, whatever goes wrong."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from billing.exports import enabled_destinations
from billing.exports.delivery import DELAY_MAX_S, REJECTIONS_MAX, RUN_S, deliver_exports, send_again
from billing.exports.events import ExportedEvent
from billing.exports.stripe import AT_ONCE, DEDUPLICATES_FOR
from billing.models import Customer, OutboxEntry, UsageEvent
from tests.billing.exports.conftest import Record, Stopwatch
from tests.billing.stand_ins import Call, Reply, stand_in

pytestmark = pytest.mark.django_db

ExportingTo = Callable[..., None]


@pytest.fixture
def customer() -> Customer:
    return Customer.objects.create(id=uuid.uuid4(), stripe_customer_id="cus_1")


def deliver(after: timedelta = timedelta()) -> int:
    return deliver_exports(lambda: datetime.now(UTC) + after)


def error(status: int, message: str) -> Reply:
    body = {"error": {"type": "invalid_request_error", "message": message}}
    return Reply(status=status, body=json.dumps(body).encode())


class Stripe:
    """Counts each identifier once, as Stripe does, and answers a repeat with an error."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = {}

    def __call__(self, call: Call) -> Reply:
        identifier = call.form["identifier"]
        if identifier in self.counted:
            return error(400, f"An event already exists with identifier {identifier}.")
        self.counted[identifier] = int(call.form["payload[value]"])
        return Reply()


def test_a_meter_event_is_what_stripe_documents(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    with stand_in(answer=Stripe()) as server:
        exporting_to(stripe=server.url)
        (usage,) = record(customer_id=customer.id, image_tokens=3)
        assert deliver() == 1
    (call,) = server.calls
    assert call.path == "/v1/billing/meter_events"
    assert call.headers["authorization"] == "Bearer sk_test_1"
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "idempotency-key" not in call.headers
    assert call.form == {
        "event_name": "annex_tokens",
        "identifier": str(usage.id),
        "timestamp": str(int(UsageEvent.objects.get(id=usage.id).stored_at.timestamp())),
        "payload[stripe_customer_id]": "cus_1",
        "payload[value]": "20",
    }
    assert not OutboxEntry.objects.exists()


def test_what_is_counted_is_what_the_ledger_says(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    stripe = Stripe()
    with stand_in(answer=stripe) as server:
        exporting_to(stripe=server.url)
        usages = record(3 * AT_ONCE + 1, customer_id=customer.id)
        assert deliver() == len(usages)
    assert stripe.counted == {str(usage.id): usage.tokens for usage in usages}


def test_a_duplicate_was_delivered_before(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    stripe = Stripe()

    def counts_and_hangs_up(call: Call) -> Reply:
        stripe(call)
        return Reply(is_cut=True)

    with stand_in(answer=counts_and_hangs_up) as server:
        exporting_to(stripe=server.url)
        (usage,) = record(customer_id=customer.id)
        assert deliver() == 0
        server.answer = stripe
        assert deliver(timedelta(hours=1)) == 1
    assert stripe.counted == {str(usage.id): 17}
    assert not OutboxEntry.objects.exists()


def test_a_part_that_fails_is_sent_later_and_nothing_counted_twice(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    stripe, answered = Stripe(), []

    def fails_in_between(call: Call) -> Reply:
        answered.append(call)
        return Reply(status=500) if len(answered) == 15 else stripe(call)

    with stand_in(answer=fails_in_between) as server:
        exporting_to(stripe=server.url)
        usages = record(40, customer_id=customer.id)
        assert 0 < deliver() < 40
        assert len(server.calls) < 40
        deliver(timedelta(hours=1))
    assert stripe.counted == {str(usage.id): usage.tokens for usage in usages}
    assert not OutboxEntry.objects.exists()


def test_events_of_customers_that_stripe_does_not_know_are_set_aside_and_say_so(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    stranger = Customer.objects.create(id=uuid.uuid4())
    with stand_in(answer=Stripe()) as server:
        exporting_to(stripe=server.url)
        record(customer_id=stranger.id)
        record(customer_id=customer.id)
        assert deliver() == 1
        entry = OutboxEntry.objects.get()
        assert entry.next_attempt_at is None
        assert entry.last_error == f"customer {stranger.id} has no stripe_customer_id"
        assert len(server.calls) == 1

        Customer.objects.filter(id=stranger.id).update(stripe_customer_id="cus_2")
        send_again(OutboxEntry.objects.all(), datetime.now(UTC))
        assert deliver() == 1
    assert server.calls[-1].form["payload[stripe_customer_id]"] == "cus_2"


def test_an_event_that_is_rejected_again_and_again_is_set_aside(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    with stand_in(error(400, "No such customer: 'cus_1'")) as server:
        exporting_to(stripe=server.url)
        record(customer_id=customer.id)
        for attempt in range(REJECTIONS_MAX + 2):
            assert deliver(timedelta(seconds=attempt * DELAY_MAX_S)) == 0
    assert len(server.calls) == REJECTIONS_MAX
    entry = OutboxEntry.objects.get()
    assert entry.next_attempt_at is None
    assert "No such customer" in entry.last_error


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=429),
        Reply(status=401),
        Reply(status=409),
        Reply(body=b"", status=503),
    ],
)
def test_while_stripe_is_unavailable_nothing_is_given_up(
    exporting_to: ExportingTo, record: Record, customer: Customer, reply: Reply
) -> None:
    stripe = Stripe()
    with stand_in(reply) as server:
        exporting_to(stripe=server.url)
        record(5, customer_id=customer.id)
        for attempt in range(REJECTIONS_MAX + 2):
            deliver(timedelta(seconds=attempt * DELAY_MAX_S))
        assert OutboxEntry.objects.filter(next_attempt_at__isnull=False).count() == 5
        server.answer = stripe
        assert deliver(timedelta(hours=20)) == 5
    assert len(stripe.counted) == 5


def test_what_may_have_arrived_is_not_repeated_once_stripe_forgets_identifiers(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    with stand_in(Reply(is_cut=True)) as server:
        exporting_to(stripe=server.url)
        record(customer_id=customer.id)
        deliver()
        assert deliver(DEDUPLICATES_FOR + timedelta(minutes=1)) == 0
        assert len(server.calls) == 1
    entry = OutboxEntry.objects.get()
    assert entry.next_attempt_at is None
    assert "may have arrived" in entry.last_error


def test_what_was_never_tried_is_sent_however_late(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    with stand_in() as server:
        exporting_to(stripe=server.url)
        record(customer_id=customer.id)
        assert deliver(timedelta(days=20)) == 1


def test_each_destination_gets_what_waits_for_it(
    exporting_to: ExportingTo, record: Record, customer: Customer
) -> None:
    with stand_in() as openmeter, stand_in(Reply(status=500)) as stripe:
        exporting_to(openmeter=openmeter.url, stripe=stripe.url)
        assert enabled_destinations() == ("openmeter", "stripe")
        record(2, customer_id=customer.id)
        assert deliver() == 2
    assert set(OutboxEntry.objects.values_list("destination", flat=True)) == {"stripe"}
    assert OutboxEntry.objects.count() == 2


def test_what_a_run_has_no_time_for_was_not_tried(
    exporting_to: ExportingTo, record: Record, customer: Customer, stopwatch: Stopwatch
) -> None:
    def answer_late(call: Call) -> Reply:
        stopwatch.seconds += RUN_S
        return Reply()

    with stand_in(answer=answer_late) as server:
        exporting_to(stripe=server.url)
        record(4 * AT_ONCE, customer_id=customer.id)
        assert deliver() == AT_ONCE
        assert len(server.calls) == AT_ONCE
        assert OutboxEntry.objects.filter(attempts=0).count() == 3 * AT_ONCE
        assert deliver() == AT_ONCE


def test_an_event_that_cannot_be_written_is_put_off_and_the_others_go_on(
    exporting_to: ExportingTo, record: Record, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_for_one(exported: ExportedEvent) -> dict[str, str | int]:
        if exported.event.id == broken.id:
            raise RuntimeError("new")
        return {"identifier": str(exported.event.id)}

    monkeypatch.setattr("billing.exports.stripe.meter_event", fail_for_one)
    with stand_in() as server:
        exporting_to(stripe=server.url)
        broken, *_ = record(3, customer_id=customer.id)
        assert deliver() == 2
    entry = OutboxEntry.objects.get()
    assert (entry.event_id, entry.attempts) == (broken.id, 1)
    assert entry.next_attempt_at is not None


def test_a_destination_whose_run_breaks_keeps_no_other_waiting(
    exporting_to: ExportingTo,
    record: Record,
    customer: Customer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("new")

    monkeypatch.setattr("billing.exports.openmeter.send", fail)
    with stand_in() as server:
        exporting_to(openmeter=server.url, stripe=server.url)
        record(2, customer_id=customer.id)
        assert deliver() == 2
    assert "the run of exports to openmeter broke" in caplog.text
    assert set(OutboxEntry.objects.values_list("destination", flat=True)) == {"openmeter"}
