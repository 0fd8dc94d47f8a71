"""`make up`, its stop, and its second start, as a user meets them."""

import os
import subprocess

from tests.e2e.annex import ROOT, plain_environment
from tests.e2e.cli import HerokuCli
from tests.e2e.conftest import Running

# The figure is 10 s; a busy runner gets as much again, and the time is printed.
SECOND_START_MAX_S = 20.0


def test_a_start_shows_each_step_and_ends_with_three_lines_to_paste(running: Running) -> None:
    steps = [line for line in running.first.lines if line.startswith("[")]
    assert [step.split()[0] for step in steps[-6:]] == [f"[{n}/6]" for n in range(1, 7)]
    export, create, call = running.first.to_paste
    assert export.startswith(f"export HEROKU_HOST={running.annex.url} HEROKU_API_KEY=HRKU-")
    assert "addons:create heroku-inference:standard" in create
    assert call.startswith("curl ")


def test_sigterm_leaves_nothing_running(running: Running) -> None:
    assert running.left_after_first == []


def test_a_second_start_is_serving_soon(running: Running) -> None:
    print(f"second start: ready after {running.second.ready_after_s:.1f} s")  # noqa: T201
    assert running.second.ready_after_s < SECOND_START_MAX_S


def test_a_second_start_shows_the_same_key(running: Running) -> None:
    assert running.second.exports == running.first.exports


def test_the_generated_secrets_are_for_the_user_only(running: Running) -> None:
    environment = running.annex.var / "environment"
    assert environment.stat().st_mode & 0o077 == 0


def test_what_is_printed_can_be_pasted(running: Running, heroku: HerokuCli) -> None:
    answer = heroku.shell(*running.second.to_paste)
    assert "Creating shop" in answer.seen.replace("⬢ ", "")
    assert '"embedding":[' in answer.stdout.replace(" ", "")


def test_the_operator_can_log_in(running: Running) -> None:
    line = next(line for line in running.second.lines if line.startswith("Operator:"))
    password = line.split()[-1]
    login = f"{running.annex.url}/admin/login/"
    jar = running.annex.var / "cookies.txt"
    form = _curl("--cookie-jar", str(jar), login)
    token = form.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    answer = _curl(
        *("--cookie", str(jar), "--cookie-jar", str(jar), "--header", f"Referer: {login}"),
        *("--data-urlencode", f"csrfmiddlewaretoken={token}", "--data", "username=operator"),
        *("--data-urlencode", f"password={password}", "--data", "next=/admin/"),
        *("--write-out", "%{http_code} %{redirect_url}", login),
    )
    assert answer.endswith(f"302 {running.annex.url}/admin/")


def test_manage_py_works_in_a_second_terminal(running: Running) -> None:
    done = subprocess.run(
        ["./manage.py", "create_account", "second@example.com"],
        cwd=ROOT,
        env=plain_environment(VAR_DIR=str(running.annex.var)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"export HEROKU_HOST={running.annex.url} HEROKU_API_KEY=HRKU-" in done.stdout


def test_a_second_make_up_in_the_same_folder_says_who_is_running(running: Running) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "up"],
        cwd=ROOT,
        env=plain_environment(VAR_DIR=str(running.annex.var), PORT=str(running.annex.port)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "already running in this folder (process " in said[0]
    pid = int(said[0].split("(process ")[1].split(")")[0])
    os.kill(pid, 0)


def _curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--noproxy", "*", *words], capture_output=True, text=True, check=True
    )
    return done.stdout
