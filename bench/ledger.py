"""The ledger: usage events a second in bulk, and what one costs on the request path.

Rows, sums of hour and day, and an outbox entry for one destination, into the durable PostgreSQL
that Annex brings along, on this machine.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information

from bench.processes import ROOT
from config.embedded_servers import running_servers

BULK_CONNECTIONS = 2
POSTGRES_PID = "BENCH_POSTGRES_PID"
MEASURE = "import django; django.setup(); from bench.ledger_writers import main; main()"


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Events recorded by a web process's ledger, so many at once, each awaited."""

    at_once: int
    events_per_s: float
    web_cpu_ms: float
    postgres_cpu_ms: float
    events_per_commit: float

    @property
    def cpu_ms(self) -> float:
        return self.web_cpu_ms + self.postgres_cpu_ms


class Ledgered(msgspec.Struct, frozen=True, kw_only=True):
    """bulk_events_per_s: one figure a round of `bulk_events`, on BULK_CONNECTIONS."""

    bulk_events: int
    bulk_events_per_s: list[float]
    recorded: list[Recorded]

    def at_once(self, count: int) -> Recorded:
        return next(one for one in self.recorded if one.at_once == count)


def measure_ledger(*, events: int, rounds: int, seconds: float) -> Ledgered:
    """In a process of its own, for Django's settings are read once."""
    with (
        tempfile.TemporaryDirectory(prefix="annex-bench-") as folder,
        running_servers(Path(folder), durable=True) as addresses,
    ):
        environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ENCRYPTION_KEYS": secrets.token_urlsafe(32),
            "PROVIDER_PASSWORD": secrets.token_urlsafe(),
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "VAR_DIR": folder,
            POSTGRES_PID: next(
                str(child.pid)
                for child in psutil.Process().children()
                if child.name().startswith("postgres")
            ),
        }
        command = [sys.executable, "-c", MEASURE, str(events), str(rounds), str(seconds)]
        printed = subprocess.run(
            command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE
        ).stdout
    return msgspec.json.decode(printed, type=Ledgered)
