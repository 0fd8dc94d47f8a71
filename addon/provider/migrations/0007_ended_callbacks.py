from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("provider", "0006_webhooks"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(fields=["ended_at"], name="ended_callback"),
        ),
    ]
