"""`manage.py sync_catalogue`: plans and add-on service into the database, at each release."""

from typing import Any

from django.core.management.base import BaseCommand

from addon.platform.addon_services import register
from addon.provider.manifest import own_manifest
from billing.plans import sync_plans


class Command(BaseCommand):
    help = (
        "Make the database say what billing/plans.toml says, and register this deployment's own "
        "add-on with the platform. Safe to run at any time."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        plans = sync_plans()
        manifest = own_manifest()
        register(manifest)
        if options["verbosity"]:
            self.stdout.write(f"{manifest.id}: {len(plans)} plans")
