"""Notifications: what `heroku notifications` tells an account.

A team reads nothing, so what concerns its account is told to each of its admins. The alerts of
budgets are billing's; they become notifications when somebody looks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from django.db.models import QuerySet

from addon.json_api import find_uuid
from addon.platform.models import Account, App, Notification, TeamMember, TeamRole
from billing.budgets import describe_alert, list_alerts
from billing.models import Budget, BudgetAlert

KEPT = timedelta(days=90)
TITLE_MAX_CHARACTERS = 200


class NotificationNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that notification.")


def notify(account: Account, app: App | None, title: str, body: str, now: datetime) -> None:
    """Tell `account`, or the admins of the team whose account it is; of no app when it is None."""
    Notification.objects.bulk_create(
        Notification(
            account_id=recipient,
            app=app,
            title=title[:TITLE_MAX_CHARACTERS],
            body=body,
            created_at=now,
        )
        for recipient in _recipients(account)
    )


def list_notifications(account: Account, now: datetime) -> QuerySet[Notification]:
    """Those of the last KEPT, read ones too; older ones are deleted."""
    _import_budget_alerts(account, now)
    own = Notification.objects.filter(account=account)
    own.filter(created_at__lt=now - KEPT).delete()
    return own.order_by("-created_at", "id")


def mark(account: Account, identity: str, *, is_read: bool) -> Notification:
    """Raises NotificationNotFound."""
    notification_id = find_uuid(identity)
    if notification_id is None:
        raise NotificationNotFound
    found = Notification.objects.filter(account=account, id=notification_id).first()
    if found is None:
        raise NotificationNotFound
    found.is_read = is_read
    found.save(update_fields=["is_read"])
    return found


def _recipients(account: Account) -> Sequence[UUID]:
    admins = TeamMember.objects.filter(team__account=account, role=TeamRole.ADMIN)
    return list(admins.values_list("account_id", flat=True)) or [account.id]


def _import_budget_alerts(account: Account, now: datetime) -> None:
    teams = TeamMember.objects.filter(account=account, role=TeamRole.ADMIN)
    customers = [account.id, *teams.values_list("team__account_id", flat=True)]
    alerts = list_alerts(customers, since=now - KEPT)
    Notification.objects.bulk_create(
        [_of_alert(account, alert) for alert in alerts], ignore_conflicts=True
    )


def _of_alert(account: Account, alert: BudgetAlert) -> Notification:
    budget = alert.budget
    app = None
    if budget.scope == Budget.Scope.APP:
        owned = App.objects.filter(owner_id=budget.customer_id, destroyed_at=None)
        app = owned.filter(name=budget.scope_id).first()
    title, body = describe_alert(budget, alert)
    return Notification(
        id=uuid5(alert.id, str(account.id)),  # one alert is told to each account once
        account=account,
        app=app,
        title=title[:TITLE_MAX_CHARACTERS],
        body=body,
        created_at=alert.created_at,
    )
