"""`manage.py addons`: other providers' add-ons in the catalogue of this platform."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from addon.conformance import command_line
from addon.manifest import InvalidManifest, Manifest, parse_manifest
from addon.platform.addon_services import AddonServiceNotFound
from addon.platform.partners import (
    OwnService,
    Registered,
    ServiceInUse,
    list_services,
    register_partner,
    retire,
)
from billing.models import Plan
from billing.prices import MICROUNITS_PER_CENT, price_at, prices_of


class Command(BaseCommand):
    help = "Register, list, retire and test add-ons of other providers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        register = actions.add_parser("register", help="put an add-on and its plans on sale")
        register.add_argument("manifest", metavar="MANIFEST", help="addon-manifest.json, or -")
        register.add_argument(
            "--new-secret", action="store_true", help="make another OAuth client secret"
        )
        actions.add_parser("list", help="every add-on service with its plans")
        retired = actions.add_parser("retire", help="sell it no more; add-ons that there are go on")
        retired.add_argument("name", metavar="NAME")
        test = actions.add_parser("test", help="test a provider against the Partner API v3")
        command_line.add_arguments(test)

    def handle(self, *args: Any, **options: Any) -> None:
        action = options["action"]
        if action == "register":
            self._register(options["manifest"], new_secret=options["new_secret"])
        elif action == "list":
            self._list()
        elif action == "retire":
            self._retire(options["name"])
        else:
            sys.exit(command_line.run(options))

    def _register(self, path: str, *, new_secret: bool) -> None:
        try:
            registered = register_partner(
                _read_manifest(path), timezone.now(), new_secret=new_secret
            )
        except (OwnService, ServiceInUse) as error:
            raise CommandError(str(error)) from None
        self._say(registered)

    def _say(self, registered: Registered) -> None:
        name = registered.service.name
        self.stdout.write(f"{name}: {len(registered.plans)} plans")
        for plan in registered.plans:
            self.stdout.write(f"  {_line(plan)}")
        if not registered.plans:
            self.stdout.write("  nothing is on sale: the manifest has no api.annex.plans")
        if registered.client_secret is not None:
            self.stdout.write(f"OAuth client secret, shown only now: {registered.client_secret}")

    def _list(self) -> None:
        for listed in list_services():
            service = listed.service
            self.stdout.write(
                f"{service.name} ({service.state}), {listed.live_addons} add-ons, regions "
                f"{', '.join(service.regions)}: {service.base_url}"
            )
            for plan in listed.plans:
                self.stdout.write(f"  {_line(plan)}")

    def _retire(self, name: str) -> None:
        try:
            service = retire(name)
        except (AddonServiceNotFound, OwnService) as error:
            raise CommandError(str(error)) from None
        live = next(row.live_addons for row in list_services() if row.service == service)
        self.stdout.write(f"{name} is not on sale any more; {live} add-ons go on")


def _line(plan: Plan) -> str:
    cents = price_at(prices_of(plan), timezone.now()).monthly_microunits / MICROUNITS_PER_CENT
    price = [f"{cents / 100:.2f} a month"] if cents or not plan.is_metered else []
    metered = ["metered"] if plan.is_metered else []
    default = ["the default"] if plan.is_default else []
    return f"{plan.name}: {', '.join([*price, *metered, *default])}"


def _read_manifest(path: str) -> Manifest:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        return parse_manifest(json.loads(text))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}") from None
    except InvalidManifest as error:
        raise CommandError(f"{path}: {error}") from None
