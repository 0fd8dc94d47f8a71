"""`bin/annex COMMAND`: the real heroku CLI, run against this Annex.

It imports nothing but the standard library: each command waits for it.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from config import var_environment
from config.heroku_env import heroku_env

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "@heroku/plugin-ai"
# These manage the CLI itself, with npm's registry, which the proxy does not reach.
ABOUT_THE_CLI = ("plugins", "update")
# A user's exceptions would send the key past the proxy, and other authorities are not asked.
IGNORED = {"NO_PROXY", "no_proxy", "SSL_CERT_DIR"}

ABOUT_THIS = """\
bin/annex COMMAND runs `heroku COMMAND`, the Heroku CLI on your PATH, against the Annex that
`make up` started in its folder: with that Annex's address and API key, and with a proxy which
answers in place of heroku.com. See docs/heroku-cli.md. What follows is the CLI's own help.
"""
NO_CLI = "The Heroku CLI is not on your PATH: npm install --global heroku (with node 20 or newer)"
NOT_STARTED = "Annex was never started in this folder: run `make up`, and wait until it is ready."
NO_PLUGIN = f"The ai commands are a plugin of the CLI: heroku plugins:install {PLUGIN}"


class CannotRun(Exception):
    """What the user has to do first, in one line."""


def main(words: list[str]) -> NoReturn:
    """Become `heroku WORDS`: its terminal, its signals and its exit status are the user's."""
    var = Path(os.environ.get("VAR_DIR") or ROOT / "var")
    heroku = shutil.which("heroku")
    if heroku is None:
        sys.exit(NO_CLI)
    try:
        env = environment(words, os.environ, var)
    except CannotRun as error:
        sys.exit(str(error))
    if words[:1] == ["--help"]:
        print(ABOUT_THIS, flush=True)
    if is_for_plugin(words) and not has_plugin(os.environ):
        print(NO_PLUGIN, file=sys.stderr, flush=True)
    os.execve(heroku, [heroku, *words], env)


def environment(words: Sequence[str], environ: Mapping[str, str], var: Path) -> dict[str, str]:
    """What `heroku WORDS` is to find set. Raises CannotRun."""
    kept = var_environment.read(var)
    if "HEROKU_HOST" not in kept:
        raise CannotRun(NOT_STARTED)
    url, key = kept["HEROKU_HOST"], kept["HEROKU_API_KEY"]
    # A shell that was set up for this Annex may have another account's key, or none to log in.
    if environ.get("HEROKU_HOST") == url:
        key = environ.get("HEROKU_API_KEY", key)
    env = {**environ, **heroku_env(url, key, environ)}
    if words and words[0].partition(":")[0] in ABOUT_THE_CLI:
        return env
    authority = str(var.resolve() / "cli-authority.pem")
    proxy = f"http://127.0.0.1:{kept['CLI_PROXY_PORT']}"
    env |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    # The CLI believes the first of these where there is a proxy, and only without it the second.
    env |= {"SSL_CERT_FILE": authority, "NODE_EXTRA_CA_CERTS": authority}
    return {name: value for name, value in env.items() if name not in IGNORED}


def is_for_plugin(words: Sequence[str]) -> bool:
    return bool(words) and words[0].partition(":")[0] == "ai"


def has_plugin(environ: Mapping[str, str]) -> bool:
    """Whether the CLI has the AI plugin, installed or linked, in the user's folder of it."""
    shared = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    folder = Path(environ.get("HEROKU_DATA_DIR") or Path(shared) / "heroku")
    try:
        return PLUGIN in (folder / "package.json").read_text()
    except OSError:
        return False
