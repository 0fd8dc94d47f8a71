from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def discard_grants(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    """Of resources that have ended, and of which the platform is told nothing more."""
    grants = apps.get_model("provider", "Grant").objects
    ended = grants.filter(resource__deprovisioned_at__isnull=False)
    ended.filter(resource__next_attempt_at=None).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("provider", "0007_ended_callbacks"),
    ]

    operations = [
        migrations.AddField(
            model_name="attachment",
            name="app_id",
            field=models.UUIDField(
                blank=True, db_index=True, help_text="where a webhook told it", null=True
            ),
        ),
        migrations.AddField(
            model_name="resource",
            name="app_id",
            field=models.UUIDField(blank=True, db_index=True, help_text="likewise", null=True),
        ),
        migrations.AlterField(
            model_name="callback",
            name="kind",
            field=models.CharField(
                choices=[
                    ("config", "Config"),
                    ("provision", "Provision"),
                    ("deprovision", "Deprovision"),
                    ("webhooks", "Webhooks"),
                ],
                max_length=20,
            ),
        ),
        migrations.RunPython(discard_grants, migrations.RunPython.noop),
    ]
