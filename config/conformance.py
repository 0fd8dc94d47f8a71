"""`make conformance`: the conformance suite against an Annex of its own, which is gone afterwards.

Embedded servers in a temporary folder, a web process, a worker and beat; one plan of it is
asynchronous. The arguments are those of the suite.
"""

import http.client
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from addon.conformance import command_line
from config import var_environment
from config.embedded_servers import free_port, running_servers
from config.guard import Guard
from config.processes import Processes, read_procfile

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
PROCESSES = ("web", "worker", "beat")
START_TIMEOUT_S = 60.0
ASYNC_PLAN = "dedicated"


class NotStarted(Exception):
    """The web process does not answer; the text is what it said last."""


def main(arguments: Sequence[str]) -> int:
    with (
        TemporaryDirectory(prefix="annex-") as folder,
        running_servers(Path(folder), durable=False) as addresses,
    ):
        listen = f"{HOST}:{free_port()}"
        os.environ |= {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            **_environment(Path(folder), f"http://{listen}"),
        }
        plans = _prepare_database()
        manifest = _write_manifest(Path(folder))
        try:
            with _running(Path(folder)):
                # The secret in this process only: other users see the arguments of a command.
                secret = os.environ["OAUTH_CLIENT_SECRET"]
                own = [f"--listen={listen}", f"--client-secret={secret}", *plans]
                return command_line.main([str(manifest), *own, *arguments])
        except NotStarted as error:
            sys.stderr.write(f"the web process did not start:\n{error}\n")
            return 1


def _environment(folder: Path, platform_url: str) -> dict[str, str]:
    """All that could point elsewhere, whatever the user has set."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    return {
        **var_environment.keep_secrets(folder),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "VAR_DIR": str(folder),
        "HOST": HOST,
        "PORT": str(port),
        "PUBLIC_URL": url,
        "PROVIDER_URL": url,
        "INFERENCE_URL": url,
        "INFERENCE_URL_EU": url,
        "PLATFORM_URLS": platform_url,
        "PLATFORM_TOKEN_URL": f"{platform_url}/oauth/token",
        "OAUTH_CLIENT_SECRET": secrets.token_urlsafe(32),
    }


def _prepare_database() -> list[str]:
    """Returns which plans the suite is to use, as its arguments."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    call_command("sync_catalogue", verbosity=0)
    from billing.models import Plan
    from billing.plans import plans_of

    sold = plans_of(settings.ADDON_SERVICE_NAME)
    Plan.objects.filter(id__in=sold.filter(slug=ASYNC_PLAN)).update(
        async_operations=["provision", "plan_change", "deprovision"]
    )
    plan, change_to, *_ = sold.exclude(slug=ASYNC_PLAN).values_list("slug", flat=True)
    connections.close_all()
    return [f"--plan={plan}", f"--change-to={change_to}", f"--async-plan={ASYNC_PLAN}"]


def _write_manifest(folder: Path) -> Path:
    from addon.provider.manifest import own_document  # settings are read now

    path = folder / "addon-manifest.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(own_document()))
    return path


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    """The processes of the Procfile that a provider needs; no model, for nothing is embedded."""
    guard = Guard()
    processes = Processes(guard, folder / "annex.log")
    try:
        for name in PROCESSES:
            processes.start(name, read_procfile(ROOT / "Procfile")[name], os.environ, ROOT)
        _wait_for_web(processes)
        yield
    finally:
        processes.stop()
        guard.release()


def _wait_for_web(processes: Processes) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers():
        processes.pump(0.1)
        if processes.find_ended() is not None or time.monotonic() > deadline:
            raise NotStarted("\n".join(processes.last_lines("web")))


def _answers() -> bool:
    """Whether it answers at all; it listens before it has read its program."""
    connection = http.client.HTTPConnection(HOST, int(os.environ["PORT"]), timeout=5)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
