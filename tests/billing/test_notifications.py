"""Notifications are delivered once they are due, tried again when that fails, and given up."""

import uuid
from datetime import UTC, datetime, timedelta
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import connection, transaction
from pytest_django import Settings
from standardwebhooks import Webhook

from billing.budgets import BudgetTerms, create_budget
from billing.encryption import encrypt
from billing.models import Budget, Customer, Notification
from billing.notifications import (
    A_DAY_MAX,
    DAY,
    KEPT,
    LEASE_S,
    RETRIES_S,
    TooManyNotifications,
    deliver_notifications,
    queue_email,
    queue_webhook,
    send_again,
)
from tests.billing.parallel import at_once
from tests.billing.stand_ins import Reply, stand_in

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def _stand_ins_may_be_called(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    settings.EMAIL_URL = "smtp://mail.example.com"


def webhook(url: str, budget_id: uuid.UUID | None = None) -> Notification:
    data = {"budget_id": str(budget_id or uuid.uuid4())}
    return queue_webhook(url, SECRET, event="budget.threshold_reached", data=data, now=NOW)


def email() -> Notification:
    return queue_email("a@example.com", subject="80 %", text="Eight of ten.", now=NOW)


def deliver(after_s: float = 0) -> int:
    return deliver_notifications(lambda: NOW + timedelta(seconds=after_s))


def test_a_webhook_arrives_signed_and_once() -> None:
    with stand_in() as server:
        notification = webhook(server.url)
        assert deliver() == 1
        assert deliver(86_400) == 0
    (call,) = server.calls
    assert call.headers["webhook-id"] == str(notification.id)
    assert call.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    signed = Webhook(SECRET).sign(str(notification.id), NOW, call.body.decode())
    assert call.headers["webhook-signature"] == signed
    assert call.json == notification.payload
    notification.refresh_from_db()
    assert (notification.delivered_at, notification.next_attempt_at) == (NOW, None)


def test_an_e_mail_is_sent_once_under_an_id_of_its_own(mailoutbox: list[EmailMessage]) -> None:
    notification = email()
    assert deliver() == 1
    assert deliver(86_400) == 0
    (message,) = mailoutbox
    assert message.to == ["a@example.com"]
    assert message.subject == "80 %"
    assert message.body == "Eight of ten."
    assert message.extra_headers == {"Message-ID": f"<{notification.id}@annex>"}


def test_a_failure_is_tried_again_later_and_later_under_the_same_id_and_then_given_up() -> None:
    with stand_in(Reply(status=500)) as server:
        notification = webhook(server.url)
        after_s = 0
        for retry_s in RETRIES_S:
            deliver(after_s)
            notification.refresh_from_db()
            assert notification.last_error == "answered 500, not 2xx"
            assert deliver(after_s + retry_s - 1) == 0
            after_s += retry_s
        deliver(after_s)
        deliver(after_s * 2)
    assert len(server.calls) == len(RETRIES_S) + 1
    assert len({call.headers["webhook-id"] for call in server.calls}) == 1
    notification.refresh_from_db()
    assert (notification.delivered_at, notification.next_attempt_at) == (None, None)


def test_one_that_recovers_is_delivered() -> None:
    replies = iter([Reply(status=503), Reply(is_cut=True), Reply(status=204)])
    with stand_in(answer=lambda _: next(replies)) as server:
        notification = webhook(server.url)
        assert [deliver(after_s) for after_s in (0, 5, 400)] == [0, 0, 1]
    notification.refresh_from_db()
    assert notification.attempts == 3
    assert notification.last_error == ""


def test_one_that_hangs_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.webhooks.TIMEOUT_S", 0.3)
    with stand_in(Reply(after_s=1)) as slow, stand_in() as fast:
        for _ in range(5):
            webhook(slow.url)
            webhook(fast.url)
        assert deliver() == 5
    assert Notification.objects.filter(delivered_at=None, last_error__contains="0 s").count() == 5


@pytest.mark.parametrize("host", ["a..b", ".example.com", "a" * 64])
def test_a_host_that_is_no_name_keeps_no_other_waiting(host: str) -> None:
    with stand_in() as server:
        broken = webhook(f"http://{host}/")
        webhook(server.url)
        assert deliver() == 1
    broken.refresh_from_db()
    assert broken.last_error.startswith("no answer: ")


def test_410_ends_it_and_takes_the_url_from_its_budget_only() -> None:
    with stand_in(Reply(status=410)) as server:
        terms = BudgetTerms(limit_microunits=1, webhook_url=server.url)
        mine, other = (
            create_budget(Customer.objects.create(id=uuid.uuid4()).id, scope="account", terms=terms)
            for _ in range(2)
        )
        notification = webhook(server.url, mine.id)
        deliver()
        assert deliver(10**6) == 0
    notification.refresh_from_db()
    assert notification.next_attempt_at is None
    assert "410" in notification.last_error
    assert Budget.objects.get(id=mine.id).webhook_url == ""
    assert Budget.objects.get(id=other.id).webhook_url == server.url


def test_private_networks_are_not_called(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with stand_in() as server:
        notification = webhook(server.url)
        assert deliver() == 0
    assert not server.calls
    notification.refresh_from_db()
    assert "private network" in notification.last_error


def test_without_a_mail_server_it_is_said_why_nothing_is_sent(
    settings: Settings, mailoutbox: list[EmailMessage]
) -> None:
    settings.EMAIL_URL = ""
    notification = email()
    assert deliver() == 0
    assert not mailoutbox
    notification.refresh_from_db()
    assert notification.last_error == "EMAIL_URL is not set, so no e-mails are sent"
    assert notification.next_attempt_at is None


@pytest.mark.parametrize("error", [SMTPException("no"), TimeoutError("late"), OSError("gone")])
def test_a_mail_server_that_fails_is_asked_again_for_one_mail_at_a_time(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked: list[EmailMessage] = []

    def fail(message: EmailMessage, *args: Any) -> int:
        asked.append(message)
        raise error

    monkeypatch.setattr(EmailMessage, "send", fail)
    first, second = email(), email()
    assert deliver() == 0
    assert len(asked) == 1
    monkeypatch.undo()
    assert deliver(RETRIES_S[0]) == 2
    assert {first.id, second.id} == set(
        Notification.objects.exclude(delivered_at=None).values_list("id", flat=True)
    )


@pytest.mark.parametrize("secret", ["whsec_not base64", "not encrypted"])
def test_a_webhook_that_breaks_is_put_off_and_the_others_go_on(
    secret: str, caplog: pytest.LogCaptureFixture, mailoutbox: list[EmailMessage]
) -> None:
    with stand_in() as server:
        broken = webhook(server.url)
        webhook(server.url)
        email()
        stored = secret if secret == "not encrypted" else encrypt(secret)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE billing_notification SET secret = %s WHERE id = %s", [stored, broken.id]
            )
        assert deliver() == 2
    found = Notification.objects.defer("secret").get(id=broken.id)
    assert found.last_error.startswith("an error in Annex, which its log has: ")
    assert (found.attempts, found.next_attempt_at) == (1, NOW + timedelta(seconds=RETRIES_S[0]))
    assert f"notification {broken.id} broke" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("new"), SMTPRecipientsRefused({})])
def test_an_e_mail_that_breaks_or_is_refused_is_put_off_and_the_others_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, mailoutbox: list[EmailMessage]
) -> None:
    send = EmailMessage.send

    def fail_for_one(message: EmailMessage, *args: Any) -> int:
        if message.subject == "broken":
            raise error
        return send(message, *args)

    monkeypatch.setattr(EmailMessage, "send", fail_for_one)
    broken = queue_email("b@example.com", subject="broken", text="", now=NOW - timedelta(hours=1))
    email()
    assert deliver() == 1
    assert len(mailoutbox) == 1
    broken.refresh_from_db()
    assert broken.next_attempt_at == NOW + timedelta(seconds=RETRIES_S[0])


def test_an_attempt_that_is_cut_off_is_made_again_after_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stand_in() as server:
        webhook(server.url)
        with monkeypatch.context() as patch:
            patch.setattr("billing.notifications._finish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                deliver()
        assert deliver(LEASE_S - 1) == 0
        assert deliver(LEASE_S) == 1
    assert len({call.headers["webhook-id"] for call in server.calls}) == 1


def interrupted(*args: Any) -> None:
    raise KeyboardInterrupt


def test_what_was_given_up_can_be_sent_again() -> None:
    replies = iter([Reply(status=410), Reply()])
    with stand_in(answer=lambda _: next(replies)) as server:
        notification = webhook(server.url)
        deliver()
        send_again(Notification.objects.filter(id=notification.id), NOW)
        assert deliver() == 1
    notification.refresh_from_db()
    assert notification.delivered_at == NOW


def test_what_ended_long_ago_is_deleted_a_batch_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.notifications.PURGED_A_RUN", 2)
    with stand_in(answer=lambda call: Reply(status=410 if call.path == "/gone" else 200)) as server:
        for path in ("/", "/", "/gone"):
            webhook(server.url + path)
        deliver()
    waiting = email()
    Notification.objects.filter(id=waiting.id).update(next_attempt_at=NOW + 2 * KEPT)
    left = []
    for after in (KEPT, KEPT + timedelta(seconds=1), KEPT + timedelta(seconds=2)):
        deliver(after.total_seconds())
        left.append(Notification.objects.count())
    assert left == [4, 2, 1]
    assert Notification.objects.get() == waiting


def test_a_url_is_called_so_many_times_a_day_and_again_on_the_next() -> None:
    for _ in range(A_DAY_MAX[Notification.Channel.WEBHOOK]):
        webhook("https://example.com")
    with pytest.raises(TooManyNotifications, match=r"Webhook: .* has had 200"):
        webhook("https://example.com")
    webhook("https://example.org")
    Notification.objects.update(created_at=NOW - DAY)
    webhook("https://example.com")


@pytest.mark.django_db(transaction=True)
def test_what_is_queued_in_parallel_is_bounded_too() -> None:
    def queue() -> int:
        try:
            with transaction.atomic():
                email()
        except TooManyNotifications:
            return 1
        return 0

    assert sum(at_once(4, lambda: sum(queue() for _ in range(8)))) == 12
    assert Notification.objects.count() == A_DAY_MAX[Notification.Channel.EMAIL]


@pytest.mark.django_db(transaction=True)
def test_runs_in_parallel_deliver_each_once() -> None:
    with stand_in(Reply(after_s=0.05)) as server:
        for _ in range(120):
            webhook(server.url)
        assert sum(at_once(4, deliver)) == 120
    ids = [call.headers["webhook-id"] for call in server.calls]
    assert len(ids) == len(set(ids)) == 120
