"""`manage.py models`: list, install, verify, calibrate and remove the catalogue's models."""

import asyncio
import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from redis import Redis, RedisError
from tqdm import tqdm

from billing.plans import SHARED_POOL
from inference import presence
from inference.catalogue import (
    Model,
    ModelNotInstalled,
    load_catalogue,
    model_command,
    model_of_queue,
)
from inference.checkpoints import CheckpointDamaged, verify
from inference.pools import pool_name, served_regions

INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A model as it is listed. `workers` and `loaded` are None where Redis cannot be asked."""

    id: str
    description: str
    checkpoint: str
    revision: str
    upstream: str | None
    installed: bool
    installed_revision: str | None
    path: str | None
    workers: int | None
    loaded: int | None


class Command(BaseCommand):
    help = "The models of the catalogue on this machine: list, install, verify, calibrate, remove."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listing = verbs.add_parser(
            "list", help="every model: installed, loaded, its workers, the checkpoint that serves"
        )
        listing.add_argument("--json", action="store_true", help="as JSON")
        install = verbs.add_parser(
            "install",
            help="fetch a model's checkpoint from the hub, or copy it from a folder; an "
            "interrupted download goes on where it was",
        )
        install.add_argument("model", metavar="ID")
        install.add_argument(
            "--from", dest="source", type=Path, metavar="FOLDER", help="instead of from the hub"
        )
        install.add_argument(
            "--force", action="store_true", help="in place of weights that workers serve"
        )
        check = verbs.add_parser(
            "verify", help="hash the files again: are they as they were installed?"
        )
        check.add_argument("model", metavar="ID", nargs="?", help="only this one")
        calibration = verbs.add_parser(
            "calibrate",
            help="choose the ranges of int8 and uint8, from texts that running workers embed",
        )
        calibration.add_argument("model", metavar="ID")
        calibration.add_argument(
            "--corpus", type=Path, metavar="FILE", help="texts, one a line, instead of ours"
        )
        calibration.add_argument(
            "--output", type=Path, metavar="FILE", help="instead of beside the weights"
        )
        calibration.add_argument("--pool", default=SHARED_POOL, help="whose workers embed them")
        removal = verbs.add_parser("remove", help="delete a model's files")
        removal.add_argument("model", metavar="ID")
        removal.add_argument("--force", action="store_true", help="even if workers serve it")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "list": self._list,
            "install": self._install,
            "verify": self._verify,
            "calibrate": self._calibrate,
            "remove": self._remove,
        }
        try:
            verbs[options["verb"]](options)
        except KeyboardInterrupt:
            again = ": the same command goes on from there" if options["verb"] == "install" else ""
            self.stderr.write(f"Interrupted{again}.")
            sys.exit(INTERRUPTED)

    def _list(self, options: dict[str, Any]) -> None:
        workers = _find_workers()
        rows = [_row(model, workers) for model in load_catalogue().values()]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(row) for row in rows], indent=2))
            return
        table = [("MODEL", "STATE", "LOADED", "WORKERS", "SERVED BY"), *map(_cells, rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for cells in table:
            pairs = zip(cells, widths, strict=True)
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in pairs).rstrip())
        if workers is None:
            self.stderr.write("Redis cannot be reached, so nobody knows which workers there are.")

    def _install(self, options: dict[str, Any]) -> None:
        # Imported here: they take a while, and only this needs them.
        from inference.installation import (
            CannotInstall,
            install_from_folder,
            install_from_hub,
            install_from_upstream,
        )

        model = _get(options["model"])
        if model.folder is not None:
            self.stdout.write(_where_it_lies(model))
            return
        source: Path | None = options["source"]
        if source is None and model.manifest is not None:
            self.stdout.write(
                f"{model.id} is installed already: {model.checkpoint} at "
                f"{model.installed_revision}. To fetch it again: "
                f"{model_command('remove', model.id)}, then install."
            )
            return
        if model.manifest is not None and not options["force"]:
            # What workers have in memory would be answered as if it were of the new weights.
            _require_idle(model)
        try:
            if source is not None:
                manifest = install_from_folder(model, source, timezone.now())
            elif model.upstream is not None:
                manifest = install_from_upstream(model, model.upstream, timezone.now())
            else:
                manifest = install_from_hub(model, timezone.now())
        except CannotInstall as error:
            raise CommandError(f"{model.id} was not installed: {error}.") from error
        size = sum(file.size_bytes for file in manifest.files.values())
        self.stdout.write(
            f"{model.id} is installed: {model.checkpoint} at {model.installed_revision}, "
            f"{size / 1e6:.1f} MB in {model.path}."
        )
        if model.upstream is None:
            self.stdout.write(f"Start a worker that serves it: manage.py serve_models {model.id}")

    def _verify(self, options: dict[str, Any]) -> None:
        from inference.installation import progress

        wanted = [_get(options["model"])] if options["model"] else load_catalogue().values()
        models = [model for model in wanted if model.path is not None or options["model"]]
        damaged = 0
        for model in models:
            try:
                path, expected = _expected(model)
            except ModelNotInstalled as error:
                raise CommandError(f"{error}.") from error
            total = sum(file.stat().st_size for name in expected if (file := path / name).is_file())
            try:
                with progress(f"checking {model.id}", total) as bar:
                    verify(path, expected, bar.update)
            except CheckpointDamaged as error:
                damaged += 1
                self.stderr.write(f"{model.id} in {path} is damaged: {error}.")
            else:
                self.stdout.write(f"{model.id} is what was installed ({', '.join(expected)}).")
        if damaged:
            raise CommandError(f"Damaged models: {damaged} of {len(models)}.")

    def _calibrate(self, options: dict[str, Any]) -> None:
        from inference.calibration import (
            CORPUS,
            CannotCalibrate,
            calibrate,
            calibration_file,
            write_calibration,
        )

        model = _get(options["model"])
        file = options["output"] or calibration_file(model)
        with tqdm(
            desc=f"embedding for {model.id}", unit=" texts", disable=None, leave=False
        ) as bar:
            try:
                calibration = asyncio.run(
                    calibrate(
                        model,
                        options["corpus"] or CORPUS,
                        pool=pool_name(served_regions()[0], options["pool"]),
                        on_progress=partial(_show, bar),
                    )
                )
                write_calibration(calibration, file)
            except (CannotCalibrate, ModelNotInstalled, OSError) as error:
                raise CommandError(f"{model.id} was not calibrated: {error}.") from error
        self.stdout.write(
            f"{model.id} is calibrated: ranges {calibration.version} for "
            f"{', '.join(map(str, calibration.dimensions))} dimensions, in {file}."
        )

    def _remove(self, options: dict[str, Any]) -> None:
        from inference.installation import CannotInstall, remove

        model = _get(options["model"])
        if model.folder is not None:
            raise CommandError(f"{model.id} lies in {model.path}, which is not Annex's to remove.")
        if not options["force"]:
            _require_idle(model)
        try:
            remove(model)
        except CannotInstall as error:
            raise CommandError(f"{error}.") from error
        self.stdout.write(f"{model.id} is removed.")


def _show(bar: "tqdm[Any]", done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _get(model_id: str) -> Model:
    catalogue = load_catalogue()
    if model_id not in catalogue:
        raise CommandError(
            f"There is no model {model_id!r} in the catalogue. There are: {', '.join(catalogue)}."
        )
    return catalogue[model_id]


def _where_it_lies(model: Model) -> str:
    """Of a model that is not installed by this command."""
    if model.path is None:
        origin = f"the Python package {model.package}" if model.package else str(model.folder)
        raise CommandError(f"{model.id} comes with {origin}, which is not there.")
    return f"{model.id} is there already, in {model.path}."


def _expected(model: Model) -> tuple[Path, dict[str, str]]:
    """The model's folder, and the SHA-256 of each file there. Raises ModelNotInstalled."""
    if model.path is None:
        raise ModelNotInstalled(model)
    if model.manifest is None:
        return model.path, model.weights
    return model.path, {name: file.sha256 for name, file in model.manifest.files.items()}


def _find_workers() -> dict[str, list[presence.Worker]] | None:
    """The live workers of each model in every pool; None where Redis cannot be asked."""
    workers: dict[str, dict[str, presence.Worker]] = {}
    try:
        with Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5) as redis:
            for queue, found in presence.find_workers(redis).items():
                known = workers.setdefault(model_of_queue(queue), {})
                # One that works for two regions is still one.
                known |= {worker.id: worker for worker in found if not worker.has_lapsed}
    except RedisError:
        return None
    return {model_id: [*known.values()] for model_id, known in workers.items()}


def _require_idle(model: Model) -> None:
    workers = _find_workers()
    if workers is None:
        raise CommandError(
            "Redis cannot be reached, so nobody knows whether workers serve "
            f"{model.id}. --force goes on nevertheless."
        )
    if serving := workers.get(model.id):
        raise CommandError(
            f"{model.id} is served by workers ({len(serving)}): stop them first, or use --force."
        )


def _row(model: Model, workers: dict[str, list[presence.Worker]] | None) -> Row:
    found = None if workers is None else workers.get(model.id, [])
    return Row(
        id=model.id,
        description=model.description,
        checkpoint=model.checkpoint,
        revision=model.revision,
        upstream=None if model.upstream is None else str(model.upstream),
        installed=model.path is not None,
        installed_revision=None if model.path is None else model.installed_revision,
        path=None if model.path is None else str(model.path),
        workers=None if found is None else len(found),
        loaded=None if found is None else sum(worker.report.is_loaded for worker in found),
    )


def _cells(row: Row) -> tuple[str, ...]:
    revision = (row.installed_revision or row.revision)[:12]
    return (
        row.id,
        "installed" if row.installed else "not installed",
        "?" if row.loaded is None else "yes" if row.loaded else "no",
        "?" if row.workers is None else str(row.workers),
        row.upstream or f"{row.checkpoint} @ {revision}",
    )
