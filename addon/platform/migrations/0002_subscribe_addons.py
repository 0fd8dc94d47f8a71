"""Add-ons from before there were subscriptions are paid for from now on."""

from django.db import migrations
from django.utils import timezone


def subscribe(apps, schema_editor):
    Addon = apps.get_model("platform", "Addon")
    Customer = apps.get_model("billing", "Customer")
    Subscription = apps.get_model("billing", "Subscription")
    now = timezone.now()
    live = Addon.objects.filter(state__in=["provisioning", "provisioned"])
    for addon in live.select_related("app__owner").iterator():
        owner = addon.app.owner
        Customer.objects.get_or_create(
            id=owner.id, defaults={"email": owner.email, "name": owner.name}
        )
        Subscription.objects.get_or_create(
            resource_id=addon.id,
            defaults={
                "customer_id": owner.id,
                "resource_name": addon.name,
                "plan_id": addon.plan_id,
                "start_at": now,
            },
        )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_ledger_by_month"),
        ("platform", "0001_initial"),
    ]

    operations = [migrations.RunPython(subscribe, migrations.RunPython.noop)]
