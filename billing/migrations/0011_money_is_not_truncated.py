"""What is final cannot be emptied either, as the ledger cannot."""

from django.db import migrations

TABLES = ("invoice", "invoiceline", "credit", "credituse", "creditnote", "price")
FORBID = "".join(
    f"CREATE TRIGGER {table}_is_not_truncated BEFORE TRUNCATE ON billing_{table} "
    "FOR EACH STATEMENT EXECUTE FUNCTION billing_forbid_change();"
    for table in TABLES
)
ALLOW = "".join(f"DROP TRIGGER {table}_is_not_truncated ON billing_{table};" for table in TABLES)


class Migration(migrations.Migration):
    dependencies = [("billing", "0010_lines_do_not_move_to_final_invoices")]
    operations = [migrations.RunSQL(FORBID, ALLOW)]
