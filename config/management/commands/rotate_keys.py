"""`manage.py rotate_keys`: another key for an attachment, a resource, or everything."""

from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from addon.provider import key_rotation
from addon.provider.key_rotation import OVERLAP_MAX, REFUSALS, NotRotated, Rotated


class Command(BaseCommand):
    help = "Replace keys: apps get the new ones in their config vars, the old ones end later."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--attachment", metavar="ID", type=UUID)
        which.add_argument("--resource", metavar="ID", type=UUID, help="the id of the add-on")
        which.add_argument("--all", action="store_true", help="of every resource")
        parser.add_argument(
            "--overlap",
            metavar="SECONDS",
            type=int,
            default=settings.KEY_OVERLAP_S,
            help="for how long the old keys go on working; 0: not at all (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        overlap = timedelta(seconds=options["overlap"])
        if not timedelta() <= overlap <= OVERLAP_MAX:
            longest = int(OVERLAP_MAX.total_seconds())
            raise CommandError(f"--overlap must be 0 to {longest} seconds")
        try:
            results = list(self._tell(_rotate(options, overlap)))
        except REFUSALS as error:
            raise CommandError(str(error)) from None
        refused = sum(isinstance(result, NotRotated) for result in results)
        if refused:
            raise CommandError(f"{refused} of them could not be rotated")

    def _tell(self, results: Iterable[Rotated | NotRotated]) -> Iterable[Rotated | NotRotated]:
        for result in results:
            match result:
                case Rotated():
                    self.stdout.write(str(result))
                case NotRotated():
                    self.stderr.write(result.reason)
            yield result


def _rotate(options: dict[str, Any], overlap: timedelta) -> Iterable[Rotated | NotRotated]:
    now = timezone.now()
    if options["attachment"]:
        resource_id = key_rotation.resource_of(options["attachment"])
        return [key_rotation.rotate_attachment(resource_id, options["attachment"], overlap, now)]
    if options["resource"]:
        return key_rotation.rotate_resource(options["resource"], overlap, now)
    return key_rotation.rotate_all(overlap, now)
