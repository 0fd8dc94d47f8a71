"""What was stored before a migration is there after it, whole."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing.encryption import decrypt
from billing.models import Budget, UsageEvent, UsageSum
from billing.sums import verify_sums
from tests.billing.test_bulk import uuid7_at

pytestmark = pytest.mark.django_db(transaction=True)

INSERT_USAGE = """
    INSERT INTO billing_usageevent (id, request_id, resource_id, attachment_id, credential_id,
        attachment_name, app_name, plan_name, model_id, inputs, tokens, requested_at, stored_at)
    VALUES (%s, 'r', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'EMBEDDING', 'shop',
        'heroku-inference:standard', 'all-minilm-l6-v2', 1, 17, %s, %s)
"""
INSERT_BUDGETS = """
    WITH customer AS (
        INSERT INTO billing_customer VALUES (gen_random_uuid(), '', '', '', now()) RETURNING id
    )
    INSERT INTO billing_budget (id, customer_id, scope, scope_id, limit_microunits, is_hard,
        thresholds, email, webhook_url, webhook_secret, created_at, updated_at)
    SELECT gen_random_uuid(), customer.id, 'app', secret, 1, false, '[]', '', '', secret, now(),
        now() FROM customer, unnest(ARRAY['whsec_plain', '']) AS secret
"""
Migrate = Callable[[str | None], None]


@pytest.fixture
def migrate() -> Iterator[Migrate]:
    """Migrates a schema that is empty at first, to a migration of billing or to the last of all."""
    last = MigrationExecutor(connection).loader.graph.leaf_nodes()

    def migrate(name: str | None) -> None:
        MigrationExecutor(connection).migrate(last if name is None else [("billing", name)])

    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA before; SET search_path TO before")
        try:
            yield migrate
        finally:
            cursor.execute("SET search_path TO DEFAULT; DROP SCHEMA before CASCADE")


def test_rows_of_before_are_kept_with_sums_in_partitions(migrate: Migrate) -> None:
    times = [datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    migrate("0004_plan_serves_all_models")
    with connection.cursor() as cursor:
        cursor.executemany(INSERT_USAGE, [(uuid7_at(at), at, at) for at in times])
    migrate(None)
    rows = UsageEvent.objects.order_by("id")
    assert [(row.text_tokens, row.price_id, row.stored_at) for row in rows] == [
        (17, 0, at) for at in times
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM billing_usageevent")
        assert sorted(cursor.fetchall()) == [
            ("billing_usageevent_2025_12",),
            ("billing_usageevent_2026_01",),
        ]
    assert UsageSum.objects.count() == 4
    assert verify_sums(date(2025, 12, 31), date(2026, 1, 1)) == []


def test_secrets_of_webhooks_of_before_are_encrypted(migrate: Migrate) -> None:
    migrate("0007_outbox_entry_may_be_set_aside")
    with connection.cursor() as cursor:
        cursor.execute(INSERT_BUDGETS)
    migrate(None)
    assert {budget.webhook_secret for budget in Budget.objects.all()} == {"whsec_plain", ""}
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhook_secret FROM billing_budget")
        stored = {secret for (secret,) in cursor.fetchall()}
    assert {decrypt(secret) for secret in stored} == {"whsec_plain", ""}
    assert not stored & {"whsec_plain", ""}
