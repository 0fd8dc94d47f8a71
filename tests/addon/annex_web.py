"""A web process that can be told where to die: `granian … tests.addon.annex_web:application`."""

import os

from config.asgi import application

# isort: split
# Django, which the line above sets up, must be so before anything below is imported.
from django.core.management import call_command
from django.db import connection

from addon.platform.accounts import create_account
from addon.platform.authorizations import create_authorization
from addon.platform.models import Account
from tests.addon.crashes import break_all

__all__ = ["application"]


def _prepare() -> None:
    if not Account.objects.exists():
        call_command("sync_catalogue", verbosity=0)
        create_authorization(create_account("dev@example.com"), "tests", token=os.environ["TOKEN"])
    connection.close()


_prepare()
break_all()
