"""One Annex for the whole run: started on an empty folder, stopped, and started again."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.embedded_servers import free_port
from tests.e2e.annex import ROOT, Annex, Started
from tests.e2e.cli import PROGRAMS, HerokuCli

# The ids of the product documents, whose checkpoints do not come with Annex.
CATALOGUE = Path(__file__).parent / "catalogue.toml"
INSTALLED = ("cohere-embed-multilingual", "cohere-embed-v4")
CHECKPOINTS_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """The Annex of this run, and how its two starts and the stop between them went."""

    annex: Annex
    first: Started
    second: Started
    left_after_first: list[str]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The first start is a user's; then the product documents' models are installed."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    command = [sys.executable, "-m", "tests.e2e.checkpoints", str(checkpoints)]
    annex = Annex(tmp_path_factory.mktemp("annex"), free_port())
    with subprocess.Popen(command, cwd=ROOT) as making:
        try:
            first = annex.start()
            left = annex.stop(signal.SIGTERM)
            assert making.wait(CHECKPOINTS_TIMEOUT_S) == 0
            annex.environ["MODEL_CATALOGUE"] = str(CATALOGUE)
            annex.environ["WEBHOOK_ALLOW_PRIVATE"] = "true"
            for model_id in INSTALLED:
                annex.manage("models", "install", model_id, "--from", str(checkpoints / model_id))
            second = annex.start()
            yield Running(annex=annex, first=first, second=second, left_after_first=left)
        finally:
            making.kill()
            if annex.is_running():
                left_at_the_end = annex.stop(signal.SIGTERM)
                assert left_at_the_end == []


@pytest.fixture(scope="session")
def annex(running: Running) -> Annex:
    return running.annex


@pytest.fixture(scope="session")
def heroku(running: Running, tmp_path_factory: pytest.TempPathFactory) -> HerokuCli:
    assert (PROGRAMS / "heroku").exists(), "the Heroku CLI is not installed: make e2e does that"
    return HerokuCli(running.second.exports, Path(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def annexed(annex: Annex, tmp_path_factory: pytest.TempPathFactory) -> HerokuCli:
    """The CLI by `bin/annex`, with its AI plugin, in a shell where nothing else is set."""
    program = str(ROOT / "bin" / "annex")
    home = Path(tmp_path_factory.mktemp("home"))
    heroku = HerokuCli({"VAR_DIR": str(annex.var)}, home, program)
    heroku("plugins:link", str(PROGRAMS.parent / "@heroku" / "plugin-ai"), "--no-install")
    return heroku


@pytest.fixture
def app(heroku: HerokuCli) -> str:
    """A new app."""
    name = f"shop-{secrets.token_hex(4)}"
    heroku("apps:create", name)
    return name


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """An app's config vars of an attachment."""

    url: str
    key: str
    model_id: str


@pytest.fixture
def embedding(heroku: HerokuCli, app: str) -> Embedding:
    """What an app has to call, after `addons:create … --as EMBEDDING`."""
    heroku("addons:create", "heroku-inference:standard", "--app", app, "--as", "EMBEDDING")
    config = heroku.config(app)
    return Embedding(
        url=config["EMBEDDING_URL"],
        key=config["EMBEDDING_KEY"],
        model_id=config["EMBEDDING_MODEL_ID"],
    )
