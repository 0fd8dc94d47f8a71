from django.db import migrations

FORBID = """
CREATE FUNCTION billing_forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger rows are never changed: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER usage_event_is_append_only
    BEFORE UPDATE OR DELETE ON billing_usageevent
    FOR EACH ROW EXECUTE FUNCTION billing_forbid_change();
"""
ALLOW = """
DROP TRIGGER usage_event_is_append_only ON billing_usageevent;
DROP FUNCTION billing_forbid_change();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunSQL(FORBID, ALLOW)]
