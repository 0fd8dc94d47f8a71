"""The line that sets a shell up for the heroku CLI."""

import subprocess
from pathlib import Path

from config.heroku_env import ANNEX, as_shell_line, heroku_env

URL = "http://localhost:5000"


def test_no_variable_leaves_the_cli_a_host_of_herokus_that_it_may_be_told() -> None:
    environment = heroku_env(URL, "HRKU-1", {})
    for name in ("HOST", "PARTICLEBOARD_URL", "LOGIN_HOST", "INFERENCE_HOST"):
        assert environment[f"HEROKU_{name}"] == URL
    assert environment["DISABLE_TELEMETRY"] == "true"


def test_the_users_exceptions_from_a_proxy_stay_however_often_the_line_is_evaluated() -> None:
    once = heroku_env(URL, "HRKU-1", {"NO_PROXY": "example.com"})
    assert once["NO_PROXY"] == "localhost,127.0.0.1,example.com"
    assert heroku_env(URL, "HRKU-1", once) == once


def test_a_shell_runs_bin_annex_as_heroku_and_gives_no_program_a_proxy() -> None:
    line = as_shell_line(heroku_env(URL, "HRKU-1", {}), Path("/srv/my annex"))
    script = f"{line}; {line}\ncommand -v heroku; env; set"
    done = subprocess.run(
        ["sh", "-euc", script], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("heroku\n")
    assert f"HEROKU_HOST={URL}\n" in done.stdout
    assert "HTTPS_PROXY" not in done.stdout
    assert line.endswith(f"; heroku() {{ VAR_DIR='/srv/my annex' {ANNEX} \"$@\"; }}")
    assert ANNEX.stat().st_mode & 0o111 == 0o111
