"""`manage.py subscribe_webhooks`: platforms tell the provider what is renamed and attached."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from addon.provider.webhook_subscriptions import subscribe_all
from addon.provider.webhooks import NoWebhooks


class Command(BaseCommand):
    help = "Subscribe to the platform's webhooks of every add-on that has none yet."

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        try:
            for subscription in subscribe_all(timezone.now):
                if subscription.failure:
                    failed += 1
                    self.stderr.write(f"{subscription.resource_id}: {subscription.failure}")
                elif subscription.is_new:
                    self.stdout.write(f"{subscription.resource_id}: subscribed")
        except NoWebhooks:
            raise CommandError("PROVIDER_WEBHOOK_SECRET is not set") from None
        if failed:
            raise CommandError(f"{failed} of them could not be subscribed")
