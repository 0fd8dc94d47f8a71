"""`manage.py manifest`: this deployment's addon-manifest.json, for Heroku's partner portal."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from addon.manifest import InvalidManifest
from addon.provider.manifest import own_document, own_manifest, without_secrets


class Command(BaseCommand):
    help = "Print addon-manifest.json of the add-on that this deployment provides."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--without-secrets", action="store_true", help="with settings' names in their place"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = own_manifest()
        except InvalidManifest as error:
            raise CommandError(f"The settings make no manifest: {error}.") from None
        document = own_document()
        shown = without_secrets(document) if options["without_secrets"] else document
        self.stdout.write(json.dumps(shown, indent=2))
        if not manifest.base_url.startswith("https://"):
            self.stderr.write(
                "Heroku calls https only: set PROVIDER_URL or PUBLIC_URL to where it reaches this "
                "deployment."
            )
        if manifest.sso_salt is None:
            self.stderr.write("There is no single sign-on without SSO_SALT.")
