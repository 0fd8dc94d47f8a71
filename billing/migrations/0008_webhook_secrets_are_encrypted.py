"""The secrets of webhooks, which were plain text, are encrypted."""

from collections.abc import Callable

from django.db import migrations

from billing.encryption import EncryptedTextField, decrypt, encrypt

COLUMNS = (("billing_budget", "webhook_secret"), ("billing_notification", "secret"))


def rewrite(by: Callable[[str], str]) -> Callable[..., None]:
    """Below Django, whose field would decrypt what it reads."""

    def rewrite_columns(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            for table, column in COLUMNS:
                cursor.execute(f"SELECT id, {column} FROM {table}")  # noqa: S608 - both are ours
                rows = [(by(text), id_) for id_, text in cursor.fetchall()]
                cursor.executemany(f"UPDATE {table} SET {column} = %s WHERE id = %s", rows)  # noqa: S608

    return rewrite_columns


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0007_outbox_entry_may_be_set_aside"),
    ]

    operations = [
        migrations.AlterField(
            model_name="budget",
            name="webhook_secret",
            field=EncryptedTextField(blank=True, help_text="whsec_…"),
        ),
        migrations.AlterField(
            model_name="notification",
            name="secret",
            field=EncryptedTextField(blank=True),
        ),
        migrations.RunPython(rewrite(encrypt), rewrite(decrypt)),
    ]
