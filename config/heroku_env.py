"""The environment that points the heroku CLI at this Annex."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

# Of other hosts the CLI warns, and then sends the key to api.heroku.com.
HOSTS_OF_THE_CLI = frozenset({"localhost", "127.0.0.1"})
ANNEX = Path(__file__).resolve().parent.parent / "bin" / "annex"


class HostNotAccepted(Exception):
    """The CLI would not go to this Annex."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The heroku CLI does not accept {url}: it would send the key to api.heroku.com. It "
            "accepts localhost. Forward a port, for example `ssh -L 5000:localhost:5000 HOST`, and "
            "say PUBLIC_URL=http://localhost:5000 ./manage.py heroku_env"
        )


def require_accepted(url: str) -> None:
    """Raises HostNotAccepted."""
    if urlsplit(url).hostname not in HOSTS_OF_THE_CLI:
        raise HostNotAccepted(url)


def heroku_env(url: str, api_key: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for the CLI. `url` must be on localhost: the CLI sends its key nowhere else."""
    exceptions = [name for name in environ.get("NO_PROXY", "").split(",") if name]
    return {
        "HEROKU_HOST": url,
        "HEROKU_API_KEY": api_key,
        # Without these the CLI sends the key to heroku.com as well, and asks there for updates.
        "HEROKU_PARTICLEBOARD_URL": url,
        "HEROKU_LOGIN_HOST": url,
        "HEROKU_INFERENCE_HOST": url.removeprefix("https://"),
        "HEROKU_AI_DOCS_URL": f"{url}/",
        "DISABLE_TELEMETRY": "true",
        "HEROKU_SKIP_NEW_VERSION_CHECK": "true",
        "HEROKU_DISABLE_AUTOUPDATE": "true",
        # A proxy that the user has is for other hosts.
        "NO_PROXY": ",".join(dict.fromkeys(("localhost", "127.0.0.1", *exceptions))),
    }


def as_exports(environment: dict[str, str]) -> str:
    """One line for a shell to evaluate."""
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    return f"export {pairs}"


def as_shell_line(environment: dict[str, str], var: Path) -> str:
    """As `as_exports`, with `heroku` run by bin/annex for the Annex that lives in `var`: the proxy
    that some commands need may not be exported, for it would be every program's."""
    annex = f'VAR_DIR={shlex.quote(str(var))} {shlex.quote(str(ANNEX))} "$@"'
    return f"{as_exports(environment)}; heroku() {{ {annex}; }}"
