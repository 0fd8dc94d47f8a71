"""The README, followed to the letter: what it says to type is what is run here."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.annex import ROOT, Annex
from tests.e2e.cli import HerokuCli

DIMENSIONS = 384
APP = "shop"
# The tour installs the OpenAI SDK, which may take a slow network its time.
TOUR_TIMEOUT_S = 300.0
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def no_shop(heroku: HerokuCli) -> Iterator[None]:
    """The app that the README makes is there neither before nor after; other tests make one too."""
    heroku.try_("apps:destroy", "--app", APP, "--confirm", APP)
    yield
    heroku.try_("apps:destroy", "--app", APP, "--confirm", APP)


@pytest.fixture
def tour_is_removed() -> Iterator[None]:
    """What the README puts into var/ of the checkout, unless it was there before."""
    var = ROOT / "var"
    made = [path for path in (var / "tour", var) if not path.exists()]
    yield
    for path in made:
        if path.name == "tour":
            shutil.rmtree(path, ignore_errors=True)
        elif not any(path.iterdir()):
            path.rmdir()


@pytest.mark.timeout(2 * TOUR_TIMEOUT_S)
@pytest.mark.usefixtures("no_shop", "tour_is_removed")
def test_the_tour_typed_as_written_works_the_first_time(annex: Annex, tmp_path: Path) -> None:
    _, second_command = shell_blocks("Two commands")
    script = tmp_path / "tour.sh"
    script.write_text("\n".join(["set -eo pipefail", second_command, *shell_blocks("The tour")]))
    # Nothing is exported but where Annex keeps its state: the README's own lines have to do that.
    env = HerokuCli({}, tmp_path).env | {"VAR_DIR": str(annex.var)}
    done = subprocess.run(
        ["bash", str(script)],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TOUR_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("EMBEDDING_URL", "EMBEDDING_KEY", "EMBEDDING_MODEL_ID"):
        assert re.search(rf"^{name}: +\S", done.stdout, re.MULTILINE), done.stdout
    answer, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index('{"'))
    assert [len(item["embedding"]) for item in answer["data"]] == [DIMENSIONS, DIMENSIONS]
    assert f"{DIMENSIONS} dimensions, " in done.stdout
    printed = re.search(r"^similar: (\S+) +different: (\S+)$", done.stdout, re.MULTILINE)
    assert printed is not None, done.stdout
    similar, different = map(float, printed.groups())
    assert similar > different


def shell_blocks(section: str) -> list[str]:
    """The ```sh blocks of a section, in order."""
    _, heading, rest = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")
    assert heading, f"the README has no section {section!r}"
    return SHELL_BLOCK.findall(rest.partition("\n## ")[0])
