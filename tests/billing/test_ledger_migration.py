"""The ledger of before there were prices becomes the partitioned one, whole."""

from datetime import UTC, date, datetime

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing.models import UsageEvent, UsageSum
from billing.sums import verify_sums
from tests.billing.test_bulk import uuid7_at

BEFORE = [("billing", "0004_plan_serves_all_models")]
INSERT = """
    INSERT INTO billing_usageevent (id, request_id, resource_id, attachment_id, credential_id,
        attachment_name, app_name, plan_name, model_id, inputs, tokens, requested_at, stored_at)
    VALUES (%s, 'r', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'EMBEDDING', 'shop',
        'heroku-inference:standard', 'all-minilm-l6-v2', 1, 17, %s, %s)
"""


@pytest.mark.django_db(transaction=True)
def test_rows_of_before_are_kept_with_sums_in_partitions() -> None:
    times = [datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    apps = MigrationExecutor(connection).loader.graph.leaf_nodes()
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA before; SET search_path TO before")
        try:
            MigrationExecutor(connection).migrate(BEFORE)
            for at in times:
                cursor.execute(INSERT, [uuid7_at(at), at, at])
            MigrationExecutor(connection).migrate(apps)
            rows = UsageEvent.objects.order_by("id")
            assert [(row.text_tokens, row.price_id, row.stored_at) for row in rows] == [
                (17, 0, at) for at in times
            ]
            cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM billing_usageevent")
            assert sorted(cursor.fetchall()) == [
                ("billing_usageevent_2025_12",),
                ("billing_usageevent_2026_01",),
            ]
            assert UsageSum.objects.count() == 4
            assert verify_sums(date(2025, 12, 31), date(2026, 1, 1)) == []
        finally:
            cursor.execute("SET search_path TO DEFAULT; DROP SCHEMA before CASCADE")
