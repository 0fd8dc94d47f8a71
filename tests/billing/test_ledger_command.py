"""`manage.py ledger`: says what it found, and fails where something disagrees."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.bulk import record_many
from billing.models import Customer, Reconciliation, UsageEvent, UsageSum
from billing.prices import BEFORE_PRICES
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db


def ledger(capsys: pytest.CaptureFixture[str], *arguments: object, **options: Any) -> str:
    call_command("ledger", *map(str, arguments), **options)
    return capsys.readouterr().out


def test_verify_and_rebuild(new_usage: NewUsage, capsys: pytest.CaptureFixture[str]) -> None:
    usage = new_usage()
    record_many([usage])
    assert "the sums are what the rows come to" in ledger(capsys, "verify")
    UsageSum.objects.filter(granularity="day").update(inputs=5)
    with pytest.raises(CommandError, match=r"1 sums .* ledger rebuild"):
        ledger(capsys, "verify")
    assert f"attachment {usage.attachment_id}" in capsys.readouterr().out
    assert "1 sums were put right" in ledger(capsys, "rebuild")
    ledger(capsys, "verify")


def test_verify_of_other_days(new_usage: NewUsage, capsys: pytest.CaptureFixture[str]) -> None:
    record_many([new_usage()], stored_at=datetime(2026, 2, 3, tzinfo=UTC))
    UsageSum.objects.update(inputs=5)
    days = ["--from", "2026-02-03", "--to", "2026-02-03"]
    assert "the sums" in ledger(capsys, "verify")
    with pytest.raises(CommandError, match="2 sums from 2026-02-03 to 2026-02-03"):
        ledger(capsys, "verify", *days)


def test_correct(new_usage: NewUsage, capsys: pytest.CaptureFixture[str]) -> None:
    usage, id_ = new_usage(price_id=BEFORE_PRICES, cost_picounits=0), new_usage().id
    record_many([usage])
    amounts = ["--inputs", 1, "--text-tokens", 8, "--reason", "twice", "--id", id_]
    said = ledger(capsys, "correct", usage.id, *amounts)
    assert said == (
        f"{id_} corrects {usage.id}: -9 text tokens, +0 image tokens, -1 inputs, +0 picounits\n"
    )
    ledger(capsys, "correct", usage.id, *amounts)
    assert UsageEvent.objects.count() == 2
    again = [*amounts[:-1], new_usage().id]
    assert "says so already" in ledger(capsys, "correct", usage.id, *again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not-an-id", "--inputs", "1"], "'not-an-id' is no UUID"),
        (["{id}", "--inputs", "-1"], "inputs must be from 0 to"),
        (["{other}", "--inputs", "1"], "the ledger has no answered request"),
    ],
)
def test_correct_says_what_is_wrong(
    new_usage: NewUsage,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    usage = new_usage()
    record_many([usage])
    given = [argument.format(id=usage.id, other=new_usage().id) for argument in arguments]
    with pytest.raises(CommandError, match=message):
        ledger(capsys, "correct", *given, "--text-tokens=1", "--reason=because")
    assert UsageEvent.objects.count() == 1


def test_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    month = f"{timezone.now():%Y-%m}"
    said = ledger(capsys, "partitions")
    assert f"{month} billing_usageevent_{month.replace('-', '_')}\n" in said


def test_reconcile(new_usage: NewUsage, capsys: pytest.CaptureFixture[str]) -> None:
    usage = new_usage()
    Customer.objects.create(id=usage.customer_id)
    record_many([usage])
    said = ledger(capsys, "reconcile")
    assert [line.rpartition(": ")[0] for line in said.splitlines()] == list(
        Reconciliation.Kind.values
    )
    UsageSum.objects.update(cost_picounits=0)
    with pytest.raises(CommandError, match="there is drift"):
        ledger(capsys, "reconcile", "--only", "sums")
    assert "drift 3400000 picounits" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["verify", "rebuild", "partitions", "correct", "reconcile"])
def test_every_action_explains_itself(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("ledger", action, "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
