"""The README's tour, end to end, on a running Annex: `make demo`, with `make up` elsewhere.

Prints each command before it runs it, so that it can be followed and repeated by hand.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
from openai import OpenAI

from config.heroku_env import heroku_env

ROOT = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("VAR_DIR") or ROOT / "var")
INSTALLED_FOR_TESTS = ROOT / "tests" / "e2e" / "node_modules" / ".bin"
MODEL = "all-minilm-l6-v2"
NOT_RUNNING = "start Annex first, with `make up` in another terminal"
ANSWERS_WITHIN_S = 5.0


class CannotShow(Exception):
    """What the user has to do first, in one line."""


def main() -> int:
    try:
        env = environment()
        require_answer(env["HEROKU_HOST"])
        tour(env)
    except CannotShow as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"make demo: stopped, for that command failed ({error.returncode})", file=sys.stderr)
        return 1
    return 0


def tour(env: dict[str, str]) -> None:
    app = f"demo-{secrets.token_hex(3)}"
    show("Who am I?", "heroku auth:whoami", env)
    show("An app, and the add-on for it", f"heroku apps:create {app}", env)
    create = f"heroku addons:create heroku-inference:standard -a {app} --as EMBEDDING"
    show("The add-on sets three config vars", create, env)
    show("These are they", f"heroku config -s -a {app}", env)
    show("curl, as documented", curl(app), env, characters=200)
    show("What is attached where", f"heroku addons -a {app}", env)
    openai_sdk(app, env)
    destroy = f"heroku addons:destroy EMBEDDING -a {app} --confirm {app}"
    show("Away with the add-on: its key stops working at once", destroy, env)
    show("And with the app", f"heroku apps:destroy -a {app} --confirm {app}", env)


def environment() -> dict[str, str]:
    """The variables that `make up` prints, taken from var/environment; and the CLI on the PATH."""
    path = VAR / "environment"
    if not path.exists():
        raise CannotShow(NOT_RUNNING)
    lines = path.read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line.startswith("HEROKU_"))
    # The file wins over the shell, whose key may be one for the real Heroku.
    env = {**os.environ, **found}
    if not {"HEROKU_HOST", "HEROKU_API_KEY"} <= env.keys():
        raise CannotShow("wait until `make up` says that Annex is ready")
    if shutil.which("heroku") is None:
        if not (INSTALLED_FOR_TESTS / "heroku").exists():
            raise CannotShow(
                "the Heroku CLI is missing: npm install --global heroku, or "
                "npm ci --ignore-scripts --prefix tests/e2e"
            )
        env["PATH"] = f"{INSTALLED_FOR_TESTS}{os.pathsep}{env['PATH']}"
    return {
        **env,
        **heroku_env(env["HEROKU_HOST"], env["HEROKU_API_KEY"]),
        "NO_PROXY": "localhost,127.0.0.1",
    }


def require_answer(url: str) -> None:
    """Raises CannotShow if nothing answers there: var/environment outlives the Annex it is of."""
    try:
        httpx.get(f"{url}/healthz", timeout=ANSWERS_WITHIN_S, trust_env=False)
    except httpx.HTTPError:
        raise CannotShow(NOT_RUNNING) from None


def show(title: str, command: str, env: dict[str, str], characters: int | None = None) -> None:
    """Print and run a command; with `characters`, print no more than that of its answer."""
    print(f"\n# {title}\n$ {command}", flush=True)
    captured = subprocess.PIPE if characters else None
    shell = ["/bin/sh", "-c", command]
    done = subprocess.run(shell, env=env, check=True, stdout=captured, text=True)
    if characters:
        print(f"{done.stdout[:characters]} …")


def curl(app: str) -> str:
    body = f'{{"model":"{MODEL}","input":"Hello"}}'
    return (
        f"curl -sS --fail $(heroku config:get EMBEDDING_URL -a {app})/v1/embeddings"
        f' -H "Authorization: Bearer $(heroku config:get EMBEDDING_KEY -a {app})"'
        f" -d {shlex.quote(body)}"
    )


def openai_sdk(app: str, env: dict[str, str]) -> None:
    """The same through the OpenAI SDK: which sentence is nearest to a question?"""
    url, key = (config_var(name, app, env) for name in ("EMBEDDING_URL", "EMBEDDING_KEY"))
    question = "How do I get my money back?"
    answers = ["Refunds are paid within a week.", "We ship on Mondays.", "Our office has a cat."]
    print(
        "\n# The OpenAI SDK: which answer is nearest to the question?\n"
        '>>> client = OpenAI(base_url=EMBEDDING_URL + "/v1", api_key=EMBEDDING_KEY)\n'
        f">>> client.embeddings.create(model={MODEL!r}, input=[question, *answers])\n"
        f"{question}"
    )
    with OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        data = client.embeddings.create(model=MODEL, input=[question, *answers]).data
    asked, *rest = (item.embedding for item in data)
    for answer, vector in zip(answers, rest, strict=True):
        print(f"  {sum(a * b for a, b in zip(asked, vector, strict=True)):.3f}  {answer}")


def config_var(name: str, app: str, env: dict[str, str]) -> str:
    command = ["heroku", "config:get", name, "-a", app]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
