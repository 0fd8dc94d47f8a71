"""The admin pages of money: to be searched and read, never edited."""

import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from uuid_utils.compat import uuid7

from billing.models import Plan, UsageEvent
from billing.plans import sync_plans

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def rows() -> list[Plan | UsageEvent]:
    plan = sync_plans()[0]
    event = UsageEvent.objects.create(
        id=uuid7(),
        request_id="req-1",
        resource_id=uuid.uuid4(),
        attachment_id=uuid.uuid4(),
        credential_id=uuid.uuid4(),
        attachment_name="EMBEDDING",
        app_name="shop",
        plan_name=plan.name,
        model_id=plan.model_id,
        inputs=1,
        tokens=3,
        requested_at=datetime.now(UTC),
    )
    return [plan, event]


def test_rows_are_found_and_shown_but_have_no_form(
    operator: Client, rows: list[Plan | UsageEvent]
) -> None:
    for row, words in zip(rows, ["standard", "shop"], strict=True):
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}"
        listed = operator.get(reverse(f"{name}_changelist"), {"q": words}).content.decode()
        assert str(row.pk) in listed
        missed = operator.get(reverse(f"{name}_changelist"), {"q": "nothing like it"})
        assert str(row.pk) not in missed.content.decode()
        shown = operator.get(reverse(f"{name}_change", args=[row.pk]))
        assert shown.status_code == 200
        assert 'name="_save"' not in shown.content.decode()


@pytest.mark.parametrize("action", ["add", "change", "delete"])
def test_rows_cannot_be_added_changed_or_deleted(
    operator: Client, rows: list[Plan | UsageEvent], action: str
) -> None:
    for row in rows:
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}_{action}"
        url = reverse(name, args=[] if action == "add" else [row.pk])
        assert operator.post(url, {"tokens": 1, "price_cents": 1}).status_code == 403
