"""`bin/annex`: what the CLI finds set, and that it is the CLI from then on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import var_environment
from config.heroku_cli import CannotRun, environment, has_plugin

ANNEX = Path(__file__).resolve().parents[2] / "bin" / "annex"
URL = "http://localhost:5000"
FAKE_CLI = '#!/bin/sh\nread line\necho "$HEROKU_HOST $line" "$@"\nexit 7\n'


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A var/ as `make up` leaves it."""
    kept = {"HEROKU_HOST": URL, "HEROKU_API_KEY": "HRKU-first", "CLI_PROXY_PORT": "5999"}
    (tmp_path / "var").mkdir()
    var_environment.write(tmp_path / "var", kept)
    return tmp_path / "var"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a program `heroku`."""
    program = tmp_path / "programs" / "heroku"
    program.parent.mkdir()
    program.write_text(FAKE_CLI)
    program.chmod(0o700)
    return program.parent


def run(*words: str, path: str, var: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANNEX, *words],
        env={"PATH": path, "VAR_DIR": str(var), "HOME": str(home)},
        input="typed\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_cli_gets_words_and_input_and_gives_its_status(var: Path, programs: Path) -> None:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = run("addons", "-a", "my shop", path=path, var=var, home=var)
    assert done.stdout == f"{URL} typed addons -a my shop\n"
    assert done.stderr == ""
    assert done.returncode == 7


def test_help_says_what_it_is_before_the_clis_own(var: Path, programs: Path) -> None:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = run("--help", path=path, var=var, home=var)
    assert done.stdout.startswith("bin/annex COMMAND runs `heroku COMMAND`")
    assert done.stdout.endswith(f"{URL} typed --help\n")


def test_without_the_plugin_an_ai_command_says_how_to_install_it(var: Path, programs: Path) -> None:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = run("ai:models:list", path=path, var=var, home=var)
    assert done.stderr.endswith("heroku plugins:install @heroku/plugin-ai\n")
    assert done.returncode == 7


def test_without_a_cli_it_says_how_to_install_one(var: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ANNEX, "apps"],
        env={"PATH": str(tmp_path), "VAR_DIR": str(var)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The Heroku CLI is not on your PATH: npm install --global heroku")


def test_without_an_annex_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="run `make up`"):
        environment(["apps"], {}, tmp_path)


def test_nothing_of_the_users_leads_past_the_proxy(var: Path) -> None:
    users = {"NO_PROXY": "heroku.com", "no_proxy": "*", "HTTPS_PROXY": "http://proxy.example.com"}
    env = environment(["apps"], {**users, "SSL_CERT_DIR": "/etc/ssl"}, var)
    assert env["HTTPS_PROXY"] == env["HTTP_PROXY"] == "http://127.0.0.1:5999"
    assert env["SSL_CERT_FILE"] == env["NODE_EXTRA_CA_CERTS"] == str(var / "cli-authority.pem")
    assert not {"NO_PROXY", "no_proxy", "SSL_CERT_DIR"} & env.keys()


@pytest.mark.parametrize("command", ["plugins:install", "plugins", "update"])
def test_commands_about_the_cli_itself_keep_the_users_proxy(var: Path, command: str) -> None:
    users = {"HTTPS_PROXY": "http://proxy.example.com", "NO_PROXY": "example.com"}
    env = environment([command], users, var)
    assert env["HTTPS_PROXY"] == users["HTTPS_PROXY"]
    assert env["NO_PROXY"] == "localhost,127.0.0.1,example.com"
    assert "SSL_CERT_FILE" not in env


@pytest.mark.parametrize(
    ("shell", "key"),
    [
        ({}, "HRKU-first"),
        ({"HEROKU_API_KEY": "HRKU-of-real-heroku"}, "HRKU-first"),
        ({"HEROKU_HOST": URL, "HEROKU_API_KEY": "HRKU-second"}, "HRKU-second"),
        ({"HEROKU_HOST": URL, "HEROKU_API_KEY": ""}, ""),
    ],
)
def test_the_key_is_the_shells_only_where_that_was_set_up_for_this_annex(
    var: Path, shell: dict[str, str], key: str
) -> None:
    assert environment(["apps"], shell, var)["HEROKU_API_KEY"] == key


def test_a_plugin_is_found_where_the_cli_keeps_it(tmp_path: Path) -> None:
    assert not has_plugin({"HEROKU_DATA_DIR": str(tmp_path)})
    for environ, folder in (
        ({"HEROKU_DATA_DIR": str(tmp_path)}, tmp_path),
        ({"XDG_DATA_HOME": str(tmp_path)}, tmp_path / "heroku"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"dependencies": {"@heroku/plugin-ai": "1.1.0"}}')
        assert has_plugin(environ)
