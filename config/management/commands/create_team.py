"""`manage.py create_team NAME --admin EMAIL`: a team, and the first of its admins."""

from argparse import ArgumentParser
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandError

from addon.platform.accounts import UserNotFound, get_account
from addon.platform.teams import InvalidTeam, TeamNameTaken, create_team


class Command(BaseCommand):
    help = "Create a team; its admin adds the other members with `heroku members:add`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--admin", metavar="EMAIL", required=True, help="of an account")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            create_team(options["name"], get_account(options["admin"]), uuid4())
        except (InvalidTeam, TeamNameTaken, UserNotFound) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"heroku apps:create --team {options['name']}")
