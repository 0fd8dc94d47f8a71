"""Budgets: what a customer means to spend on tokens in a calendar month (UTC), and who is told.

What is spent is the gross cost of the tokens in the ledger, before included tokens, credits and
flat fees. A hard budget's requests are refused by the limiter; here thresholds are watched.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from billing import webhooks
from billing.models import Budget, BudgetAlert, Customer
from billing.models.budgets import default_thresholds
from billing.notifications import TooManyNotifications, queue_email, queue_webhook
from billing.periods import Period, month_of
from billing.prices import PICOUNITS_PER_MICROUNIT
from billing.spend import ACCOUNT, app_scope, attachment_scope
from billing.sums import spend_by_customer
from billing.webhooks import InvalidSecret, InvalidURL

logger = logging.getLogger(__name__)

# 9 million of the currency: in picounits it is still an integer of 64 bits.
LIMIT_MAX_MICROUNITS = 9_000_000_000_000
THRESHOLDS_MAX_COUNT = 10
THRESHOLD_MAX = 1_000
SCOPE_ID_MAX_CHARACTERS = 64
# What was stored just before a month's end is looked at just after it.
LOOK_BACK = timedelta(minutes=10)


class InvalidBudget(Exception):
    """A field that cannot be so; the message says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"'{field}' {message}")
        self.field = field


class BudgetExists(Exception):
    """There is a budget of that scope already."""


class UnknownBudget(Exception):
    """The customer has no budget of that id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetTerms:
    """What can be set of a budget. A webhook without a secret is given one."""

    limit_microunits: int
    is_hard: bool = False
    thresholds: tuple[int, ...] = tuple(default_thresholds())
    email: str = ""
    webhook_url: str = ""
    webhook_secret: str = ""


def list_budgets(customer_id: UUID) -> list[Budget]:
    return list(Budget.objects.filter(customer_id=customer_id).order_by("scope", "scope_id"))


def find_app_budget(customer_id: UUID, app_name: str) -> Budget | None:
    scope = Budget.Scope.APP
    return Budget.objects.filter(customer_id=customer_id, scope=scope, scope_id=app_name).first()


def create_budget(
    customer_id: UUID, *, scope: str, scope_id: str = "", terms: BudgetTerms
) -> Budget:
    """`scope_id` of an account is its own id. Raises InvalidBudget, BudgetExists."""
    scope_id = check_scope(customer_id, scope, scope_id)
    terms = check_terms(terms)
    if not Customer.objects.filter(id=customer_id).exists():
        raise InvalidBudget("customer", "must be a customer, which an account is with its add-ons")
    try:
        with transaction.atomic():
            return Budget.objects.create(
                customer_id=customer_id, scope=scope, scope_id=scope_id, **_columns(terms)
            )
    except IntegrityError:
        raise BudgetExists(f"There is a budget of {scope} {scope_id} already") from None


def update_budget(
    customer_id: UUID, budget_id: UUID, changes: Mapping[str, Any], now: datetime
) -> Budget:
    """Set some of the terms. Thresholds that are no longer reached are told again once they are.

    Raises UnknownBudget, InvalidBudget.
    """
    names = {field.name for field in fields(BudgetTerms)}
    for name in changes.keys() - names:
        raise InvalidBudget(name, f"must be one of {', '.join(sorted(names))}")
    with transaction.atomic():
        budget = _locked(customer_id, budget_id)
        before = BudgetTerms(**{name: getattr(budget, name) for name in names})
        for name, value in _columns(check_terms(replace(before, **changes))).items():
            setattr(budget, name, value)
        budget.save()
        forget_alerts(budget, now)
    return budget


def delete_budget(customer_id: UUID, budget_id: UUID) -> None:
    """Raises UnknownBudget."""
    deleted, _ = Budget.objects.filter(customer_id=customer_id, id=budget_id).delete()
    if not deleted:
        raise UnknownBudget(f"There is no budget {budget_id}")


def list_alerts(customer_ids: Collection[UUID], since: datetime) -> list[BudgetAlert]:
    alerts = BudgetAlert.objects.filter(budget__customer_id__in=customer_ids, created_at__gte=since)
    return list(alerts.select_related("budget").defer("budget__webhook_secret"))


def forget_alerts(budget: Budget, now: datetime) -> None:
    """Drop this month's alerts whose thresholds a changed budget has not reached any more."""
    for alert in budget.alerts.filter(period_start=month_of(now).start_at.date()):
        spent = alert.spent_microunits * PICOUNITS_PER_MICROUNIT
        if alert.limit_microunits != budget.limit_microunits and not _is_reached(
            budget, alert.threshold, spent
        ):
            alert.delete()


def check_budgets(now: datetime) -> list[BudgetAlert]:
    """Tell of each threshold that was reached, once a month each; returns the new alerts.

    Safe to run in parallel: who inserts an alert tells of it, in the same transaction.
    """
    this_month = month_of(now)
    before = month_of(now - LOOK_BACK)
    months = [this_month] if before == this_month else [before, this_month]
    return [alert for month in months for alert in _check_month(month, now)]


def _check_month(month: Period, now: datetime) -> list[BudgetAlert]:
    # Few of them are told of, and only those need the secret.
    budgets = list(Budget.objects.filter(created_at__lt=month.end_at).defer("webhook_secret"))
    spent = spend_by_customer(month, {budget.customer_id for budget in budgets})
    told = BudgetAlert.objects.filter(period_start=month.start_at.date())
    known = set(told.values_list("budget_id", "threshold"))
    reached = [
        (budget, threshold)
        for budget in budgets
        for threshold in budget.thresholds
        if (budget.id, threshold) not in known
        and _is_reached(budget, threshold, _spent_of(budget, spent))
    ]
    alerts = [
        _find_new_alert(budget, threshold, _spent_of(budget, spent), month, now)
        for budget, threshold in reached
    ]
    return [alert for alert in alerts if alert is not None]


def read_spent(budget: Budget, now: datetime) -> int:
    """What was spent of the budget in the month of `now`, in picounits."""
    return _spent_of(budget, spend_by_customer(month_of(now), {budget.customer_id}))


def _spent_of(budget: Budget, spent: Mapping[UUID, Counter[str]]) -> int:
    return spent.get(budget.customer_id, Counter())[_scope(budget)]


def _scope(budget: Budget) -> str:
    """As limiter and ledger name it."""
    match budget.scope:
        case Budget.Scope.APP:
            return app_scope(budget.scope_id)
        case Budget.Scope.ATTACHMENT:
            return attachment_scope(budget.scope_id)
        case _:
            return ACCOUNT


def tell_cap_reached(customer_id: UUID, scope: str, scope_id: str, now: datetime) -> bool:
    """Tell of 100 % when a hard budget has refused a request: what it refuses is never spent, so
    the sums may stay below. Returns whether this is what told of it; idempotent."""
    budget = Budget.objects.filter(
        customer_id=customer_id, scope=scope, scope_id=scope_id, is_hard=True
    ).first()
    if budget is None or 100 not in budget.thresholds:
        return False
    spent = read_spent(budget, now)
    return _find_new_alert(budget, 100, spent, month_of(now), now) is not None


def _is_reached(budget: Budget, threshold: int, picounits: int) -> bool:
    limit = budget.limit_microunits * PICOUNITS_PER_MICROUNIT
    return picounits > 0 and limit * threshold <= picounits * 100


def _find_new_alert(
    budget: Budget, threshold: int, picounits: int, month: Period, now: datetime
) -> BudgetAlert | None:
    """The alert with its notifications, unless there is one already."""
    with transaction.atomic():
        alert, is_new = BudgetAlert.objects.get_or_create(
            budget=budget,
            period_start=month.start_at.date(),
            threshold=threshold,
            defaults={
                "limit_microunits": budget.limit_microunits,
                "spent_microunits": picounits // PICOUNITS_PER_MICROUNIT,
                "created_at": now,
            },
        )
        if is_new:
            _tell(budget, alert, now)
    return alert if is_new else None


def _tell(budget: Budget, alert: BudgetAlert, now: datetime) -> None:
    """Queue the notifications, in the transaction of the alert, which keeps who is not told."""
    not_told = []
    for queue in (_queue_email, _queue_webhook):
        try:
            queue(budget, alert, now)
        except TooManyNotifications as error:
            logger.warning("did not tell of %s %% of budget %s: %s", alert.threshold, budget, error)
            not_told.append(str(error))
    if not_told:
        alert.not_told = "; ".join(not_told)
        alert.save(update_fields=["not_told"])


def _queue_email(budget: Budget, alert: BudgetAlert, now: datetime) -> None:
    if budget.email:
        subject, text = describe_alert(budget, alert)
        queue_email(budget.email, subject=subject, text=text, now=now)


def _queue_webhook(budget: Budget, alert: BudgetAlert, now: datetime) -> None:
    if budget.webhook_url:
        queue_webhook(
            budget.webhook_url,
            budget.webhook_secret,
            event="budget.threshold_reached",
            data=_data(budget, alert),
            now=now,
        )


def _describe(budget: Budget) -> str:
    if budget.scope == Budget.Scope.ACCOUNT:
        return "the account"
    return f"{budget.scope} {budget.scope_id}"


def describe_alert(budget: Budget, alert: BudgetAlert) -> tuple[str, str]:
    """A line, and a text that says more, for people."""
    subject = f"{alert.threshold} % of the budget for {_describe(budget)} is spent"
    return subject, _text(budget, alert)


def _text(budget: Budget, alert: BudgetAlert) -> str:
    consequence = (
        "Requests that would go over it are refused with status 402 until the month ends or the "
        "budget is raised."
        if budget.is_hard
        else "Nothing is refused: this budget only tells."
    )
    return (
        f"{_amount(alert.spent_microunits)} of {_amount(alert.limit_microunits)} "
        f"({alert.threshold} % or more) were spent on tokens for {_describe(budget)} in "
        f"{alert.period_start:%B %Y} (UTC).\n\n{consequence}\n"
    )


def _data(budget: Budget, alert: BudgetAlert) -> dict[str, object]:
    return {
        "budget_id": str(budget.id),
        "customer_id": str(budget.customer_id),
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "is_hard": budget.is_hard,
        "threshold": alert.threshold,
        "period_start": alert.period_start.isoformat(),
        "limit_microunits": str(alert.limit_microunits),
        "spent_microunits": str(alert.spent_microunits),
    }


def _amount(microunits: int) -> str:
    whole, fraction = divmod(microunits, 1_000_000)
    return f"{whole}.{fraction:06d}"


def _locked(customer_id: UUID, budget_id: UUID) -> Budget:
    try:
        return Budget.objects.select_for_update().get(customer_id=customer_id, id=budget_id)
    except Budget.DoesNotExist:
        raise UnknownBudget(f"There is no budget {budget_id}") from None


def _columns(terms: BudgetTerms) -> dict[str, Any]:
    columns = {field.name: getattr(terms, field.name) for field in fields(terms)}
    return {**columns, "thresholds": list(terms.thresholds)}


def check_scope(customer_id: UUID, scope: str, scope_id: str) -> str:
    """The id in the form that sums and limits have it. Raises InvalidBudget."""
    match scope:
        case Budget.Scope.ACCOUNT:
            if scope_id not in ("", str(customer_id)):
                raise InvalidBudget("scope_id", "must be the account's own id, or empty")
            return str(customer_id)
        case Budget.Scope.ATTACHMENT:
            try:
                return str(UUID(scope_id))
            except ValueError:
                raise InvalidBudget("scope_id", "must be the UUID of an attachment") from None
        case Budget.Scope.APP:
            if not 0 < len(scope_id) <= SCOPE_ID_MAX_CHARACTERS or not scope_id.isprintable():
                raise InvalidBudget("scope_id", "must be an app's name of 1 to 64 characters")
            return scope_id
        case _:
            raise InvalidBudget("scope", f"must be one of {', '.join(Budget.Scope.values)}")


def check_terms(terms: BudgetTerms) -> BudgetTerms:
    """The terms as they are stored. Raises InvalidBudget."""
    if not _is_integer(terms.limit_microunits, range(LIMIT_MAX_MICROUNITS + 1)):
        raise InvalidBudget(
            "limit_microunits", f"must be an integer from 0 to {LIMIT_MAX_MICROUNITS}"
        )
    if not isinstance(terms.is_hard, bool):
        raise InvalidBudget("is_hard", "must be true or false")
    return replace(
        terms,
        thresholds=_checked_thresholds(terms.thresholds),
        email=_checked_email(terms.email),
        webhook_secret=_checked_webhook(terms),
    )


def _checked_thresholds(thresholds: object) -> tuple[int, ...]:
    allowed = range(1, THRESHOLD_MAX + 1)
    if (
        not isinstance(thresholds, list | tuple)
        or len(thresholds) > THRESHOLDS_MAX_COUNT
        or not all(_is_integer(threshold, allowed) for threshold in thresholds)
    ):
        raise InvalidBudget(
            "thresholds",
            f"must be a list of at most {THRESHOLDS_MAX_COUNT} integers from 1 to "
            f"{THRESHOLD_MAX}: per cent of the limit",
        )
    return tuple(sorted(set(thresholds)))


def _is_integer(value: object, allowed: range) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in allowed


def _checked_email(email: str) -> str:
    try:
        if email:
            validate_email(email)
    except ValidationError:
        raise InvalidBudget("email", "must be an e-mail address, or empty") from None
    return email


def _checked_webhook(terms: BudgetTerms) -> str:
    """The secret of the webhook."""
    try:
        if terms.webhook_url:
            webhooks.check_url(terms.webhook_url)
    except InvalidURL as error:
        raise InvalidBudget("webhook_url", str(error)) from error
    try:
        if terms.webhook_secret:
            webhooks.check_secret(terms.webhook_secret)
    except InvalidSecret as error:
        raise InvalidBudget("webhook_secret", str(error)) from error
    return terms.webhook_secret or (webhooks.new_secret() if terms.webhook_url else "")
