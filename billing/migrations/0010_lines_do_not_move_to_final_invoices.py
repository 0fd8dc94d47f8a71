from django.db import migrations


class Migration(migrations.Migration):
    """The trigger asked for the invoice that a line leaves, not for the one that it comes to."""

    dependencies = [("billing", "0009_invoice_names_its_customer")]

    operations = [
        migrations.RunSQL(
            """
            CREATE OR REPLACE FUNCTION billing_forbid_change_of_final() RETURNS trigger
            LANGUAGE plpgsql AS $$
            DECLARE
                is_final boolean;
            BEGIN
                IF TG_TABLE_NAME = 'billing_invoice' THEN
                    is_final := OLD.state = 'final';
                ELSE
                    is_final := EXISTS (
                        SELECT FROM billing_invoice
                        WHERE id IN (OLD.invoice_id, NEW.invoice_id) AND state = 'final'
                    );
                END IF;
                IF is_final THEN
                    RAISE EXCEPTION 'a final invoice is never changed: % on % is refused',
                        TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
                END IF;
                RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
            END $$;
            """,
            migrations.RunSQL.noop,
        ),
    ]
