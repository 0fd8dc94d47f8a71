"""`eval "$(./manage.py heroku_env)"`: point the heroku CLI at this Annex."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from addon.platform.accounts import find_account
from addon.platform.authorizations import create_authorization
from config.first_account import owns_key
from config.heroku_env import HostNotAccepted, as_shell_line, heroku_env, require_accepted


class Command(BaseCommand):
    help = (
        "Print the exports that point the heroku CLI at this Annex, with the API key of an account."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--account",
            default=settings.ACCOUNT_EMAIL,
            metavar="EMAIL",
            help="whose key (%(default)s); one is made if the account has none",
        )

    def handle(self, *args: Any, account: str, **options: Any) -> None:
        try:
            require_accepted(settings.PUBLIC_URL)
        except HostNotAccepted as error:
            raise CommandError(str(error)) from None
        found = find_account(account)
        if found is None:
            raise CommandError(
                f"There is no account {account}: ./manage.py create_account {account}"
            )
        key = settings.ACCOUNT_API_KEY
        if not owns_key(found, key):
            key = create_authorization(found, "heroku_env").token
        environment = heroku_env(settings.PUBLIC_URL, key)
        self.stdout.write(as_shell_line(environment, settings.VAR_DIR.resolve()))
