"""`manage.py create_account EMAIL`: an account, and the key with which its owner uses the CLI."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from addon.platform.accounts import AccountExists, InvalidEmail, create_account
from addon.platform.authorizations import create_authorization
from config import new_password
from config.heroku_env import HostNotAccepted, as_exports, heroku_env, require_accepted


class Command(BaseCommand):
    help = "Create an account for the Heroku CLI, and print the line that signs its owner in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL")
        parser.add_argument("--name", default="", help="the person's name")
        parser.add_argument(
            "--password",
            action="store_true",
            help="also set a password: asked for twice, or read from standard input",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        password = new_password.ask() if options["password"] else None
        try:
            with transaction.atomic():
                account = create_account(options["email"], options["name"])
                if password is not None:
                    new_password.set_asked(account, password)
        except AccountExists as error:
            hint = f"its key: ./manage.py heroku_env --account {options['email']}"
            raise CommandError(f"{error}; {hint}") from None
        except InvalidEmail as error:
            raise CommandError(str(error)) from None
        issued = create_authorization(account, "manage.py create_account")
        environment = heroku_env(settings.PUBLIC_URL, issued.token)
        self.stdout.write(as_exports(environment))
        try:
            require_accepted(settings.PUBLIC_URL)
        except HostNotAccepted as error:
            self.stderr.write(str(error))
