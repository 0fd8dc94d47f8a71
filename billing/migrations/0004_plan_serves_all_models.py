from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0003_plan_worker_pool"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="serves_all_models",
            field=models.BooleanField(
                default=True, help_text="every model by the model parameter, or its own only"
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("serves_all_models", True),
                    models.Q(("model_id", ""), _negated=True),
                    _connector="OR",
                ),
                name="plan_of_one_model_names_it",
                violation_error_message="A plan that serves one model only must name it.",
            ),
        ),
    ]
