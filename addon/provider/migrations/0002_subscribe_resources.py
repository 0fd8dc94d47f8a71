"""Resources of other platforms, from before there were subscriptions, pay for themselves from now."""

from django.conf import settings
from django.db import migrations
from django.utils import timezone


def subscribe(apps, schema_editor):
    Resource = apps.get_model("provider", "Resource")
    Plan = apps.get_model("billing", "Plan")
    Customer = apps.get_model("billing", "Customer")
    Subscription = apps.get_model("billing", "Subscription")
    now = timezone.now()
    subscribed = Subscription.objects.values("resource_id")
    live = Resource.objects.filter(deprovisioned_at=None).exclude(id__in=subscribed)
    plans = Plan.objects.filter(service_name=settings.ADDON_SERVICE_NAME)
    for resource in live.iterator():
        Customer.objects.get_or_create(id=resource.id)
        Subscription.objects.create(
            customer_id=resource.id,
            resource_id=resource.id,
            resource_name=resource.name,
            plan=plans.get(slug=resource.plan_slug),
            start_at=now,
        )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_ledger_by_month"),
        # The platform's own add-ons first: their owners pay for those.
        ("platform", "0002_subscribe_addons"),
        ("provider", "0001_initial"),
    ]

    operations = [migrations.RunPython(subscribe, migrations.RunPython.noop)]
