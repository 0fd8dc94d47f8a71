"""`manage.py set_password EMAIL`: what its owner logs in with, in the CLI and on the pages."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from addon.platform.accounts import find_account
from config import new_password


class Command(BaseCommand):
    help = (
        "Set the password of an account: asked for twice, or read from standard input. "
        "Its web sessions end; its keys stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        account = find_account(email)
        if account is None:
            raise CommandError(f"There is no account {email}: ./manage.py create_account {email}")
        new_password.set_asked(account, new_password.ask())
        self.stdout.write(f"The password of {account.email} is set.")
