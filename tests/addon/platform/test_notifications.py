"""`heroku notifications`: what an account is told."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from addon.platform.accounts import create_account
from addon.platform.models import Account, App, Notification, Team, TeamMember, TeamRole
from addon.platform.notifications import KEPT, notify
from billing.models import Budget, BudgetAlert, Customer
from tests.addon.platform.helpers import Api, api_of

NOW = datetime(2026, 11, 1, 10, tzinfo=UTC)


def titles(api: Api) -> list[str]:
    return [row["title"] for row in api.get("/user/notifications").json()]


def test_a_notification_is_listed_with_what_the_cli_reads(
    account: Account, api: Api, shop: App
) -> None:
    now = timezone.now()
    notify(account, shop, "Key rotated", "A key was rotated.", now)
    (row,) = api.get("/user/notifications").json()
    assert row["title"] == "Key rotated"
    assert row["body"] == "A key was rotated."
    assert row["target"] == {"id": str(shop.id), "type": "app"}
    assert row["read"] is False
    assert row["followup"] == []
    assert row["created_at"] == now.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_one_about_no_app_is_about_the_account(account: Account, api: Api) -> None:
    notify(account, None, "Hello", "", timezone.now())
    (row,) = api.get("/user/notifications").json()
    assert row["target"] == {"id": str(account.id), "type": "user"}


def test_it_is_marked_as_read_and_still_listed(account: Account, api: Api) -> None:
    notify(account, None, "Hello", "", timezone.now())
    path = f"/user/notifications/{Notification.objects.get().id}"
    assert api.patch(path, {"read": True}).json()["read"] is True
    assert [row["read"] for row in api.get("/user/notifications").json()] == [True]
    assert api.patch(path, {"read": False}).json()["read"] is False


@pytest.mark.parametrize("body", [{}, {"read": "yes"}, {"read": None}, {"read": 1}])
def test_read_is_true_or_false(account: Account, api: Api, body: dict[str, object]) -> None:
    notify(account, None, "Hello", "", timezone.now())
    answer = api.patch(f"/user/notifications/{Notification.objects.get().id}", body)
    assert answer.status_code == 422
    assert "read must be true or false" in answer.json()["message"]


def test_another_account_neither_sees_nor_marks_it(
    account: Account, api: Api, stranger: Api
) -> None:
    notify(account, None, "Hello", "", timezone.now())
    assert titles(stranger) == []
    path = f"/user/notifications/{Notification.objects.get().id}"
    assert stranger.patch(path, {"read": True}).status_code == 404
    assert Notification.objects.get().is_read is False


@pytest.mark.parametrize("identity", ["nosuch", "~", "00000000-0000-4000-8000-000000000000"])
def test_one_that_there_is_not_is_not_found(api: Api, identity: str) -> None:
    answer = api.patch(f"/user/notifications/{identity}", {"read": True})
    assert answer.status_code == 404
    assert answer.json()["resource"] == "notification"


def test_the_newest_comes_first_and_old_ones_go(account: Account, api: Api) -> None:
    now = timezone.now()
    notify(account, None, "older", "", now - timedelta(days=1))
    notify(account, None, "newer", "", now)
    notify(account, None, "gone", "", now - KEPT - timedelta(seconds=1))
    assert titles(api) == ["newer", "older"]
    assert Notification.objects.count() == 2


def test_a_title_that_is_too_long_is_cut(account: Account, api: Api) -> None:
    notify(account, None, "x" * 1_000, "", timezone.now())
    assert titles(api) == ["x" * 200]


@pytest.fixture
def crew(account: Account) -> Team:
    """`account` is its admin; there is a member and a viewer, too."""
    owner = Account.objects.create(email="crew@herokumanager.com")
    team = Team.objects.create(name="crew", account=owner)
    TeamMember.objects.create(team=team, account=account, role=TeamRole.ADMIN)
    for role in (TeamRole.MEMBER, TeamRole.VIEWER):
        other = create_account(f"{role}@example.com")
        TeamMember.objects.create(team=team, account=other, role=role)
    return team


def test_what_concerns_a_team_is_told_to_each_of_its_admins(account: Account, crew: Team) -> None:
    second = create_account("second@example.com")
    TeamMember.objects.create(team=crew, account=second, role=TeamRole.ADMIN)
    notify(crew.account, None, "Hello", "", NOW)
    told = Notification.objects.values_list("account__email", flat=True)
    assert sorted(told) == ["dev@example.com", "second@example.com"]


def alert_of(customer: Account, scope: str, scope_id: str) -> BudgetAlert:
    Customer.objects.get_or_create(id=customer.id, defaults={"email": customer.email})
    budget = Budget.objects.create(
        customer_id=customer.id, scope=scope, scope_id=scope_id, limit_microunits=1_000_000
    )
    return BudgetAlert.objects.create(
        budget=budget, period_start=timezone.now().date(), threshold=80,
        limit_microunits=1_000_000, spent_microunits=800_000, created_at=timezone.now(),
    )  # fmt: skip


def test_a_budgets_alert_is_told_once(account: Account, api: Api, shop: App) -> None:
    alert_of(account, "app", "shop")
    for _ in range(2):
        (row,) = api.get("/user/notifications").json()
    assert row["title"] == "80 % of the budget for app shop is spent"
    assert "0.800000 of 1.000000" in row["body"]
    assert row["target"] == {"id": str(shop.id), "type": "app"}
    assert api.patch(f"/user/notifications/{row['id']}", {"read": True}).status_code == 200
    assert [row["read"] for row in api.get("/user/notifications").json()] == [True]


def test_a_budgets_alert_is_told_to_nobody_else(account: Account, stranger: Api) -> None:
    alert_of(account, "account", str(account.id))
    assert titles(stranger) == []


def test_a_teams_budget_is_told_to_its_admins_only(api: Api, crew: Team) -> None:
    alert_of(crew.account, "account", str(crew.account_id))
    assert titles(api) == ["80 % of the budget for the account is spent"]
    for role in (TeamRole.MEMBER, TeamRole.VIEWER):
        assert titles(api_of(Account.objects.get(email=f"{role}@example.com"))) == []
