"""`manage.py sync_catalogue`: plans and add-on service into the database, at each release."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from addon.platform.addon_services import register
from addon.provider.manifest import own_manifest
from billing.models import Plan
from billing.plans import (
    PriceChanged,
    PriceTooLate,
    SecondCurrency,
    hide_plans_of_other_models,
    sync_plans,
)
from billing.plans_file import InvalidPlans
from inference.catalogue import ModelNotInstalled, UnknownModel, get_model, load_catalogue


class Command(BaseCommand):
    help = (
        "Make the database say what billing/plans.toml says, and register this deployment's own "
        "add-on with the platform. Safe to run at any time."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            plans = sync_plans()
        except (InvalidPlans, PriceChanged, PriceTooLate, SecondCurrency) as error:
            raise CommandError(str(error)) from None
        hidden = hide_plans_of_other_models(load_catalogue())
        manifest = own_manifest()
        register(manifest)
        if options["verbosity"]:
            self.stdout.write(f"{manifest.id}: {len(plans) - len(hidden)} plans")
            for plan in plans:
                self._say_what_is_missing(plan)

    def _say_what_is_missing(self, plan: Plan) -> None:
        """A plan may be sold before its model is installed; its calls are refused until then."""
        try:
            get_model(plan.model_id)
        except ModelNotInstalled as error:
            self.stdout.write(f"{plan.name}: {error}")
        except UnknownModel:
            on_sale = "" if plan.serves_all_models else "not on sale, "
            self.stdout.write(f"{plan.name}: {on_sale}the catalogue has no {plan.model_id}")
