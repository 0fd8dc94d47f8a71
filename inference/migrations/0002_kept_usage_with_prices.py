from django.db import migrations

# As billing's migration 0006 does with the ledger's rows, so that a repeat finds them the same.
CONVERT = """
    UPDATE inference_idempotencykey
    SET usage = (usage - 'request_id' - 'tokens') || jsonb_build_object(
        'customer_id', usage -> 'resource_id',
        'price_id', 0,
        'text_tokens', usage -> 'tokens',
        'image_tokens', 0,
        'cost_picounits', 0,
        'outcome', 'answered',
        'corrects', NULL
    )
    WHERE usage ? 'request_id'
"""


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0001_idempotency_key"),
    ]

    operations = [migrations.RunSQL(CONVERT, migrations.RunSQL.noop)]
