"""`eval "$(./manage.py heroku_env)"`: point the heroku CLI at this Annex."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from addon.platform.accounts import find_account
from config.first_account import find_api_key
from config.heroku_env import as_exports, heroku_env


class Command(BaseCommand):
    help = (
        "Print the exports that point the heroku CLI at this Annex, with the API key of an account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--account", default="dev@example.com", metavar="EMAIL", help="whose key (%(default)s)"
        )

    def handle(self, *args: Any, account: str, **options: Any) -> None:
        try:
            found = find_account(account)
        except OperationalError:
            raise CommandError("Annex is not running: start it with `make up`.") from None
        key = None if found is None else find_api_key(found)
        if key is None:
            raise CommandError(
                f"There is no account {account} with a key: ./manage.py create_account {account}"
            )
        self.stdout.write(as_exports(heroku_env(settings.PUBLIC_URL, key)))
