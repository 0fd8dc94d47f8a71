"""`manage.py ledger`: check the ledger, put it right, and keep its partitions."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import partitions, reconciliation, sums
from billing.corrections import InvalidCorrection, UnknownUsageEvent, correct
from billing.exports import enabled_destinations
from billing.metering import UsageConflict
from billing.models import Reconciliation


class Command(BaseCommand):
    help = (
        "Check the ledger of usage, put it right, and keep its partitions. All of it is safe while "
        "Annex runs, and safe to repeat. The exit status is 1 where something disagrees."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

        def add(name: str, run: Callable[..., None], what: str) -> CommandParser:
            action: CommandParser = actions.add_parser(name, help=what, description=what)
            action.set_defaults(run=run)
            return action

        _add_days(add("verify", self.verify, "Compare the sums of hours and days with the rows."))
        _add_days(add("rebuild", self.rebuild, "Make the sums what the rows come to."))
        add(
            "partitions",
            self.partitions,
            "Make the partitions of the next months, and drop those that LEDGER_RETENTION_MONTHS "
            "lets go; then list them.",
        )
        _add_correction(
            add(
                "correct",
                self.correct,
                "Record what a request really used, by a new row that names the request. It is on "
                "the invoice of this month.",
            )
        )
        reconcile = add(
            "reconcile",
            self.reconcile,
            "Compare limiter and ledger, rows and sums, ledger and invoices; what the limiter "
            "counts wrongly it then reads again.",
        )
        reconcile.add_argument(
            "--only", choices=["limiter", "sums", "invoices"], help="one comparison instead of all"
        )

    def handle(self, *args: Any, run: Callable[..., None], **options: Any) -> None:
        run(**options)

    def verify(self, *, first: date, last: date, **options: Any) -> None:
        mismatches = sums.verify_sums(first, last)
        for mismatch in mismatches:
            self.stdout.write(str(mismatch))
        if mismatches:
            raise CommandError(
                f"{len(mismatches)} sums from {first} to {last} are not what the rows come to; "
                "`manage.py ledger rebuild` puts them right"
            )
        self.stdout.write(f"{first} to {last}: the sums are what the rows come to")

    def rebuild(self, *, first: date, last: date, **options: Any) -> None:
        count = sums.rebuild_sums(first, last)
        self.stdout.write(f"{first} to {last}: {count} sums were put right")

    def partitions(self, **options: Any) -> None:
        now = timezone.now()
        for name in partitions.make_partitions(now):
            self.stdout.write(f"made {name}")
        dropped, refused = partitions.drop_partitions(now, settings.LEDGER_RETENTION_MONTHS)
        for name in dropped:
            self.stdout.write(f"dropped {name}")
        for reason in refused:
            self.stdout.write(f"kept {reason}")
        for partition in partitions.list_partitions():
            self.stdout.write(f"{partition.month} {partition.name}")

    def correct(self, *, event: UUID, id: UUID, reason: str, **options: Any) -> None:  # noqa: A002
        amounts = {name: options[name] for name in ("inputs", "text_tokens", "image_tokens")}
        try:
            correction = correct(
                event,
                id=id,
                reason=reason,
                now=timezone.now(),
                destinations=enabled_destinations(),
                **amounts,
            )
        except (InvalidCorrection, UnknownUsageEvent, UsageConflict) as error:
            raise CommandError(str(error)) from error
        if correction is None:
            self.stdout.write(f"{event}: the ledger says so already")
            return
        reconciliation.forget_spend(settings.REDIS_URL, [correction.customer_id])
        self.stdout.write(
            f"{correction.id} corrects {event}: {correction.text_tokens:+d} text tokens, "
            f"{correction.image_tokens:+d} image tokens, {correction.inputs:+d} inputs, "
            f"{correction.cost_picounits:+d} picounits"
        )

    def reconcile(self, *, only: str | None, **options: Any) -> None:
        now = timezone.now()
        comparisons: dict[str, Callable[[], Reconciliation]] = {
            "limiter": lambda: reconciliation.reconcile_limiter(settings.REDIS_URL, now),
            "sums": lambda: reconciliation.reconcile_sums(now, days=reconciliation.SUMS_DAYS),
            "invoices": lambda: reconciliation.reconcile_invoices(now),
        }
        found = [compare() for name, compare in comparisons.items() if only in (None, name)]
        for each in found:
            self.stdout.write(
                f"{each.kind}: {each.compared} compared, drift {each.drift_picounits} picounits"
            )
            for detail in each.details:
                self.stdout.write(f"  {detail}")
        if any(each.drift_picounits for each in found):
            raise CommandError("there is drift")


def _add_days(parser: CommandParser) -> None:
    today = datetime.now(UTC).date()
    first = today - timedelta(days=reconciliation.SUMS_DAYS - 1)
    parser.add_argument(
        "--from",
        dest="first",
        metavar="DATE",
        type=_date,
        default=first,
        help=f"the first day (UTC), {first} by default",
    )
    parser.add_argument(
        "--to",
        dest="last",
        metavar="DATE",
        type=_date,
        default=today,
        help="the last day, today by default",
    )


def _add_correction(parser: CommandParser) -> None:
    parser.add_argument("event", type=_uuid, help="the id of the request: its x-request-id")
    parser.add_argument("--inputs", type=int, required=True, help="texts and images it really had")
    parser.add_argument(
        "--text-tokens", type=int, required=True, help="tokens of text that it really had"
    )
    parser.add_argument(
        "--image-tokens", type=int, default=0, help="tokens of images; 0 by default"
    )
    parser.add_argument("--reason", required=True, help="why; it is kept with the row")
    parser.add_argument(
        "--id", type=_uuid, default=uuid7(), help="of the new row; with it, repeating does nothing"
    )


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no date such as 2026-11-21") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no UUID") from None
