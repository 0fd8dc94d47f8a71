"""The ledger as a table partitioned by month, with the columns of prices and corrections."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models
from django.db.models import Q

CREATE = """
DROP TRIGGER usage_event_is_append_only ON billing_usageevent;
ALTER TABLE billing_usageevent RENAME TO billing_usageevent_before;
ALTER TABLE billing_usageevent_before DROP CONSTRAINT usage_event_is_not_empty;
ALTER INDEX billing_usageevent_pkey RENAME TO billing_usageevent_before_pkey;

CREATE TABLE billing_usageevent (
    id uuid NOT NULL PRIMARY KEY,
    customer_id uuid NOT NULL,
    resource_id uuid NOT NULL,
    attachment_id uuid NOT NULL,
    credential_id uuid NOT NULL,
    attachment_name varchar(256) NOT NULL,
    app_name varchar(64) NOT NULL,
    plan_name varchar(200) NOT NULL,
    price_id bigint NOT NULL,
    model_id varchar(200) NOT NULL,
    inputs integer NOT NULL,
    text_tokens integer NOT NULL,
    image_tokens integer NOT NULL,
    cost_picounits bigint NOT NULL,
    outcome varchar(20) NOT NULL,
    corrects uuid NULL,
    reason varchar(500) NOT NULL,
    requested_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL,
    CONSTRAINT usage_event_is_answer_or_correction CHECK (
        (outcome = 'correction' AND corrects IS NOT NULL AND reason <> '')
        OR (outcome = 'answered' AND corrects IS NULL AND reason = '' AND inputs > 0
            AND text_tokens >= 0 AND image_tokens >= 0 AND cost_picounits >= 0)
    ),
    CONSTRAINT usage_event_is_not_empty CHECK (
        NOT (outcome = 'answered' AND text_tokens = 0 AND image_tokens = 0)
    )
) PARTITION BY RANGE (id);
CREATE INDEX usage_event_by_resource ON billing_usageevent (resource_id, stored_at);
CREATE INDEX usage_event_corrections ON billing_usageevent (corrects) WHERE corrects IS NOT NULL;
-- Rows lie in the order in which they were stored: the smallest index finds a day.
CREATE INDEX usage_event_by_time ON billing_usageevent
    USING brin (stored_at) WITH (autosummarize = on);
CREATE TABLE billing_usageevent_other PARTITION OF billing_usageevent DEFAULT;

CREATE OR REPLACE FUNCTION billing_forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Only the tests, which empty whole databases, set this.
    IF TG_OP = 'TRUNCATE' AND current_setting('annex.may_truncate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is only ever added to: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER usage_event_is_append_only BEFORE UPDATE OR DELETE ON billing_usageevent
    FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
CREATE TRIGGER usage_event_is_not_truncated BEFORE TRUNCATE ON billing_usageevent
    FOR EACH STATEMENT EXECUTE FUNCTION billing_forbid_change();
CREATE TRIGGER usage_event_is_not_truncated BEFORE TRUNCATE ON billing_usageevent_other
    FOR EACH STATEMENT EXECUTE FUNCTION billing_forbid_change();

-- The least uuid7 that can be drawn at that time.
CREATE FUNCTION billing_first_uuid7(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Make the partition of the month (UTC) in which `day` lies, unless there is one. It is made first
-- and attached then, so that the ledger is written meanwhile.
CREATE FUNCTION billing_make_usage_partition(day date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    start_at timestamp := date_trunc('month', day::timestamp);
    end_at timestamp := start_at + interval '1 month';
    name text := 'billing_usageevent_' || to_char(day, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('billing_make_usage_partition'));
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE billing_usageevent INCLUDING ALL)', name);
        EXECUTE format(
            'CREATE TRIGGER usage_event_is_not_truncated BEFORE TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION billing_forbid_change()', name
        );
        EXECUTE format(
            'ALTER TABLE billing_usageevent ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
            billing_first_uuid7(start_at AT TIME ZONE 'UTC'),
            billing_first_uuid7(end_at AT TIME ZONE 'UTC')
        );
    END IF;
    RETURN name;
END $$;

SELECT billing_make_usage_partition(
    (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date
) FROM generate_series(0, 3) AS n;
SELECT billing_make_usage_partition(month) FROM (
    SELECT DISTINCT date_trunc('month', to_timestamp(
        ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0
    ) AT TIME ZONE 'UTC')::date AS month
    FROM billing_usageevent_before
) AS months;

INSERT INTO billing_usageevent
SELECT id, resource_id, resource_id, attachment_id, credential_id, attachment_name, app_name,
    plan_name, 0, model_id, inputs, tokens, 0, 0, 'answered', NULL, '', requested_at, stored_at
FROM billing_usageevent_before;
DROP TABLE billing_usageevent_before;

INSERT INTO billing_usagesum (granularity, start_at, customer_id, resource_id, attachment_id,
    credential_id, attachment_name, app_name, plan_name, price_id, model_id, requests, inputs,
    text_tokens, image_tokens, cost_picounits)
SELECT granularity, date_trunc(granularity, stored_at, 'UTC'), customer_id, resource_id,
    attachment_id, credential_id, attachment_name, app_name, plan_name, price_id, model_id,
    count(*), sum(inputs), sum(text_tokens), 0, 0
FROM billing_usageevent, unnest(ARRAY['hour', 'day']) AS granularity
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;

-- A sum is changed by every statement of its hour and day: room beside it keeps that cheap.
ALTER TABLE billing_usagesum SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
"""

FIELDS = [
    (
        "id",
        models.UUIDField(
            primary_key=True,
            serialize=False,
            help_text="uuid7, drawn before execution; also the request's id",
        ),
    ),
    ("customer_id", models.UUIDField()),
    ("resource_id", models.UUIDField()),
    ("attachment_id", models.UUIDField()),
    ("credential_id", models.UUIDField()),
    ("attachment_name", models.CharField(max_length=256)),
    ("app_name", models.CharField(blank=True, max_length=64)),
    ("plan_name", models.CharField(max_length=200)),
    ("price_id", models.BigIntegerField(help_text="the version of the plan's price")),
    ("model_id", models.CharField(max_length=200)),
    ("inputs", models.IntegerField(help_text="texts and images")),
    ("text_tokens", models.IntegerField(help_text="as limited, computed and billed")),
    ("image_tokens", models.IntegerField(default=0, help_text="pixels / 784")),
    (
        "cost_picounits",
        models.BigIntegerField(
            help_text="tokens × micro-units per million tokens: 10⁻¹² of the currency"
        ),
    ),
    (
        "outcome",
        models.CharField(
            choices=[("answered", "Answered"), ("correction", "Correction")],
            default="answered",
            max_length=20,
        ),
    ),
    (
        "corrects",
        models.UUIDField(blank=True, help_text="the row that this one corrects", null=True),
    ),
    ("reason", models.CharField(blank=True, help_text="of a correction", max_length=500)),
    ("requested_at", models.DateTimeField()),
    (
        "stored_at",
        models.DateTimeField(help_text="by PostgreSQL's clock; decides the billing period"),
    ),
]
OPTIONS = {
    "constraints": [
        models.CheckConstraint(
            condition=Q(outcome="correction", corrects__isnull=False) & ~Q(reason="")
            | Q(
                outcome="answered",
                corrects=None,
                reason="",
                inputs__gt=0,
                text_tokens__gte=0,
                image_tokens__gte=0,
                cost_picounits__gte=0,
            ),
            name="usage_event_is_answer_or_correction",
        ),
        models.CheckConstraint(
            condition=~Q(outcome="answered", text_tokens=0, image_tokens=0),
            name="usage_event_is_not_empty",
        ),
    ],
    "indexes": [
        models.Index(fields=["resource_id", "stored_at"], name="usage_event_by_resource"),
        models.Index(
            fields=["corrects"],
            condition=Q(corrects__isnull=False),
            name="usage_event_corrections",
        ),
        BrinIndex(fields=["stored_at"], autosummarize=True, name="usage_event_by_time"),
    ],
}


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_billing_complete")]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel("UsageEvent"),
                migrations.CreateModel("UsageEvent", fields=FIELDS, options=OPTIONS),
            ],
            database_operations=[migrations.RunSQL(CREATE)],
        ),
        # What is final is final; and so is what a price was.
        migrations.RunSQL(
            """
            CREATE FUNCTION billing_forbid_change_of_final() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE
                is_final boolean;
            BEGIN
                IF TG_TABLE_NAME = 'billing_invoice' THEN
                    is_final := OLD.state = 'final';
                ELSE
                    SELECT state = 'final' INTO is_final FROM billing_invoice
                    WHERE id = CASE TG_OP WHEN 'INSERT' THEN NEW.invoice_id ELSE OLD.invoice_id END;
                END IF;
                IF is_final THEN
                    RAISE EXCEPTION 'a final invoice is never changed: % on % is refused',
                        TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
                END IF;
                RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
            END $$;
            CREATE TRIGGER final_invoice_is_not_changed BEFORE UPDATE OR DELETE ON billing_invoice
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change_of_final();
            CREATE TRIGGER final_invoice_is_not_changed
                BEFORE INSERT OR UPDATE OR DELETE ON billing_invoiceline
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change_of_final();
            CREATE TRIGGER price_is_append_only BEFORE UPDATE OR DELETE ON billing_price
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
            CREATE TRIGGER credit_is_append_only BEFORE UPDATE OR DELETE ON billing_credit
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
            CREATE TRIGGER credit_use_is_append_only BEFORE UPDATE OR DELETE ON billing_credituse
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
            CREATE TRIGGER credit_note_is_append_only BEFORE UPDATE OR DELETE ON billing_creditnote
                FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
            """
        ),
    ]
