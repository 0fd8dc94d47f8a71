from django.db import migrations, models

# As platforms named them. Whatever else there was, or nothing, was served in `us`.
PARTNER_NAMES = {"amazon-web-services::eu-west-1": "eu"}


def name_regions(apps, schema_editor):
    resources = apps.get_model("provider", "Resource").objects
    for partner_name, name in PARTNER_NAMES.items():
        resources.filter(region=partner_name).update(region=name)
    resources.exclude(region__in=PARTNER_NAMES.values()).update(region="us")


class Migration(migrations.Migration):
    dependencies = [
        ("provider", "0004_key_rotation"),
    ]

    operations = [
        migrations.RunPython(name_regions, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="resource",
            name="region",
            field=models.CharField(help_text="us or eu", max_length=100),
        ),
    ]
