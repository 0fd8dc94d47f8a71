"""Metering: one row an answered request, never changed."""

import dataclasses
import uuid
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction
from uuid_utils.compat import uuid7

from billing.metering import Usage, UsageConflict, record_usage
from billing.models import UsageEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def usage() -> Usage:
    return Usage(
        id=uuid7(),
        request_id=str(uuid.uuid4()),
        resource_id=uuid.uuid4(),
        attachment_id=uuid.uuid4(),
        credential_id=uuid.uuid4(),
        attachment_name="EMBEDDING",
        app_name="shop",
        plan_name="heroku-inference:standard",
        model_id="all-minilm-l6-v2",
        inputs=2,
        tokens=17,
        requested_at=datetime.now(UTC),
    )


def test_usage_becomes_a_row(usage: Usage) -> None:
    record_usage(usage)
    row = UsageEvent.objects.get(id=usage.id)
    assert (row.tokens, row.inputs, row.app_name) == (17, 2, "shop")
    assert row.stored_at >= usage.requested_at


def test_recording_twice_leaves_one_row(usage: Usage) -> None:
    record_usage(usage)
    record_usage(usage)
    assert UsageEvent.objects.count() == 1


def test_the_same_id_with_other_content_is_a_conflict(usage: Usage) -> None:
    record_usage(usage)
    with pytest.raises(UsageConflict):
        record_usage(dataclasses.replace(usage, tokens=18))
    assert UsageEvent.objects.get().tokens == 17


def test_usage_of_nothing_is_refused(usage: Usage) -> None:
    with pytest.raises(DatabaseError):
        record_usage(dataclasses.replace(usage, tokens=0))


@pytest.mark.parametrize(
    "statement", ["UPDATE billing_usageevent SET tokens = 1", "DELETE FROM billing_usageevent"]
)
def test_rows_cannot_be_changed_or_deleted(usage: Usage, statement: str) -> None:
    record_usage(usage)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        connection.cursor().execute(statement)
    assert UsageEvent.objects.get().tokens == 17
