"""`manage.py models`: what it says, does and exits with; and a model that it installed, served."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from numpy.typing import NDArray
from pytest_django import Settings
from redis import Redis
from tokenizers import Tokenizer

from billing.plans import SHARED_POOL
from inference import presence
from inference.catalogue import Model, load_catalogue, queue_name
from inference.management.commands import models as command_module
from inference.pools import pool_name
from inference.presence import Report, announce
from inference.upstream.entries import CohereUpstream
from inference.upstream.tokenizer import TokenizerNotFetched
from tests.inference.conftest import WORKER_START_S, Attach
from tests.inference.engine.checkpoints import CORPUS, save_repository
from tests.inference.installable import ENTRY, make_repository, write_catalogue


@pytest.fixture
def model(settings: Settings, tmp_path: Path) -> Iterator[Model]:
    """The only model of a test's own catalogue, not installed."""
    settings.MODELS_DIR = tmp_path / "models"
    settings.MODEL_CATALOGUE = tmp_path / "catalogue.toml"
    yield write_catalogue(tmp_path / "catalogue.toml")
    load_catalogue.cache_clear()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("repositories") / "small")


def models(*arguments: str) -> str:
    """What the command writes."""
    out = StringIO()
    call_command("models", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def announce_worker(redis: Redis, pool: str, worker_id: str, *, is_loaded: bool) -> None:
    report = Report(token_budget=1, tokens_per_s=1.0, is_loaded=is_loaded)
    announce(redis, queue_name("small", pool_name("us", pool)), worker_id, report)


def test_the_list_says_what_is_installed_loaded_and_which_checkpoint_serves(
    model: Model, repository: Path, redis_client: Redis
) -> None:
    assert models("list").splitlines()[1].split() == [
        "small", "not", "installed", "no", "0", "someone/small", "@", "main",
    ]  # fmt: skip
    models("install", "small", "--from", str(repository))
    announce_worker(redis_client, SHARED_POOL, "a", is_loaded=True)
    announce_worker(redis_client, SHARED_POOL, "b", is_loaded=False)
    announce_worker(redis_client, "own", "c", is_loaded=False)
    revision = model.installed_revision
    assert models("list").splitlines()[1].split() == [
        "small", "installed", "yes", "3", "someone/small", "@", revision[:12],
    ]  # fmt: skip
    (row,) = json.loads(models("list", "--json"))
    assert (row["installed"], row["workers"], row["loaded"]) == (True, 3, 1)
    assert (row["checkpoint"], row["installed_revision"]) == ("someone/small", revision)
    assert row["path"] == str(django_settings.MODELS_DIR / "small")


def test_a_worker_that_has_lapsed_is_not_counted(
    model: Model, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LAPSE_S", 0.0)
    announce_worker(redis_client, SHARED_POOL, "a", is_loaded=True)
    assert json.loads(models("list", "--json"))[0]["workers"] == 0


def test_without_redis_the_list_says_that_nobody_knows_the_workers(
    model: Model, settings: Settings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:23002/0"
    listed = models("list")
    assert listed.splitlines()[1].split()[3:5] == ["?", "?"]
    assert "Redis cannot be reached" in listed
    assert json.loads(models("list", "--json").partition("Redis")[0])[0]["workers"] is None


def test_an_installed_model_is_said_to_be_so_and_left_alone(model: Model, repository: Path) -> None:
    assert "small is installed: someone/small at" in models(
        "install", "small", "--from", str(repository)
    )
    assert model.manifest is not None
    at = model.manifest.installed_at
    assert "small is installed already: someone/small at" in models("install", "small")
    assert model.manifest.installed_at == at


def test_what_cannot_be_installed_is_an_error_with_the_reason(model: Model, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"small was not installed: there is no folder"):
        models("install", "small", "--from", str(tmp_path / "nowhere"))
    with pytest.raises(CommandError, match=r"no model 'big' in the catalogue. There are: small"):
        models("install", "big")


def test_a_second_process_does_not_install_the_same_model(model: Model, repository: Path) -> None:
    workplace = django_settings.MODELS_DIR / ".installing" / "small"
    workplace.mkdir(parents=True)
    with (workplace / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="being installed or removed by another process"):
            models("install", "small", "--from", str(repository))


def test_verify_finds_what_has_changed_and_what_is_missing(model: Model, repository: Path) -> None:
    with pytest.raises(CommandError, match=r"not installed: manage\.py models install small"):
        models("verify", "small")
    assert models("verify") == ""
    models("install", "small", "--from", str(repository))
    assert models("verify") == (
        "small is what was installed (config.json, tokenizer.json, model.safetensors).\n"
    )
    assert model.path is not None
    with (model.path / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    (model.path / "config.json").unlink()
    out = StringIO()
    with pytest.raises(CommandError, match="Damaged models: 1 of 1"):
        call_command("models", "verify", "small", stdout=out, stderr=out)
    _, _, problems = out.getvalue().partition("is damaged: ")
    assert "config.json is missing" in problems
    assert "model.safetensors has sha256" in problems
    assert "tokenizer.json" not in problems


def test_remove_refuses_while_workers_serve_the_model(
    model: Model, repository: Path, redis_client: Redis
) -> None:
    models("install", "small", "--from", str(repository))
    announce_worker(redis_client, "own", "a", is_loaded=True)
    with pytest.raises(CommandError, match=r"served by workers \(1\): stop them first"):
        models("remove", "small")
    assert model.path is not None
    assert models("remove", "small", "--force") == "small is removed.\n"
    assert json.loads(models("list", "--json"))[0]["installed"] is False


def test_other_weights_are_not_put_in_place_of_those_that_workers_serve(
    model: Model, repository: Path, redis_client: Redis
) -> None:
    models("install", "small", "--from", str(repository))
    announce_worker(redis_client, "own", "a", is_loaded=True)
    with pytest.raises(CommandError, match="stop them first, or use --force"):
        models("install", "small", "--from", str(repository))
    assert "is installed" in models("install", "small", "--from", str(repository), "--force")


def test_remove_refuses_when_nobody_knows_the_workers(
    model: Model, repository: Path, settings: Settings
) -> None:
    models("install", "small", "--from", str(repository))
    settings.REDIS_URL = "redis://127.0.0.1:23002/0"
    with pytest.raises(CommandError, match="Redis cannot be reached"):
        models("remove", "small")
    assert model.path is not None


def test_a_model_that_comes_with_a_package_is_neither_installed_nor_removed() -> None:
    assert "all-minilm-l6-v2 is there already" in models("install", "all-minilm-l6-v2")
    with pytest.raises(CommandError, match="not Annex's to remove"):
        models("remove", "all-minilm-l6-v2")
    assert models("verify", "all-minilm-l6-v2") == (
        "all-minilm-l6-v2 is what was installed (model.safetensors).\n"
    )


def test_of_an_upstreams_model_the_tokenizer_is_installed(
    model: Model, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ENTRY.replace('architecture = "bert"\npooling = "mean"\n', "")
    entry += 'upstream = { kind = "cohere", model = "embed-v4.0" }\n'
    model = write_catalogue(tmp_path / "catalogue.toml", entry)
    content = (repository / "tokenizer.json").read_bytes()

    def fetch(upstream: CohereUpstream) -> bytes:
        return content

    monkeypatch.setattr("inference.installation.fetch_tokenizer", fetch)
    assert "small is installed" in models("install", "small")
    assert model.path is not None
    assert Tokenizer.from_file(str(model.path / "tokenizer.json")).get_vocab_size() > 100
    assert model.weights == {}
    with pytest.raises(CommandError, match=r"small needs no worker: embed-v4\.0 at https://api"):
        call_command("serve_models", "small")
    models("remove", "small")

    def refuse(upstream: CohereUpstream) -> bytes:
        raise TokenizerNotFetched("it answered 404")

    monkeypatch.setattr("inference.installation.fetch_tokenizer", refuse)
    with pytest.raises(CommandError, match="small was not installed: it answered 404"):
        models("install", "small")


def test_ctrl_c_says_that_the_same_command_goes_on(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.installation.install_from_hub", interrupt)
    err = StringIO()
    with pytest.raises(SystemExit) as exit_:
        call_command("models", "install", "small", stderr=err)
    assert exit_.value.code == command_module.INTERRUPTED
    assert err.getvalue() == "Interrupted: the same command goes on from there.\n"


@pytest.mark.parametrize(
    ("arguments", "status", "wanted"),
    [
        (["--help"], 0, "list"),
        (["install", "--help"], 0, "--from FOLDER"),
        ([], 2, "VERB"),
        (["instal", "x"], 2, "invalid choice"),
        (["remove", "no-such-model"], 1, "There is no model 'no-such-model'"),
    ],
)
def test_the_command_exits_as_commands_do(arguments: list[str], status: int, wanted: str) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", "models", *arguments],
        cwd=django_settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status
    assert wanted in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_serve_models_names_the_command_for_a_model_that_is_not_installed(model: Model) -> None:
    with pytest.raises(CommandError, match=r"manage\.py models install small"):
        call_command("serve_models", "small")


@pytest.fixture
def served(model: Model, tmp_path: Path, redis_client: Redis) -> Iterator[NDArray[np.float32]]:
    """A worker of an installed XLM-RoBERTa; what sentence-transformers makes of CORPUS (B, D)."""
    reference = save_repository("xlm-roberta", "cls", tmp_path)
    entry = ENTRY.replace('"bert"', '"xlm-roberta"').replace('"mean"', '"cls"')
    entry += 'prompts = { search_query = "query: " }\n'
    write_catalogue(tmp_path / "catalogue.toml", entry)
    models("install", "small", "--from", str(tmp_path / "repository"))
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = start_worker(output)
    try:
        wait_until_served(worker, redis_client, log)
        yield reference.encode(CORPUS, prompt="query: ")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=30)


def start_worker(output: int | IO[bytes]) -> "subprocess.Popen[bytes]":
    """`manage.py serve_models` with this test's catalogue and models."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "serve_models"],
        cwd=django_settings.BASE_DIR,
        env={
            **os.environ,
            "REDIS_URL": django_settings.REDIS_URL,
            "MODELS_DIR": str(django_settings.MODELS_DIR),
            "MODEL_CATALOGUE": str(django_settings.MODEL_CATALOGUE),
        },
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def wait_until_served(worker: "subprocess.Popen[bytes]", redis: Redis, log: Path) -> None:
    deadline = time.monotonic() + WORKER_START_S
    while not redis.hlen(f"workers:{queue_name('small', pool_name('us', SHARED_POOL))}"):
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


async def test_a_model_installed_from_a_folder_is_served_over_http_with_the_references_vectors(
    served: NDArray[np.float32], client: httpx.AsyncClient, attach: Attach
) -> None:
    key = (await attach()).key
    response = await client.post(
        "/v1/embeddings",
        json={"model": "small", "input": CORPUS, "input_type": "search_query"},
        headers={"authorization": f"Bearer {key}"},
    )
    assert response.status_code == 200, response.text
    vectors = np.array([item["embedding"] for item in response.json()["data"]])
    # bfloat16 where the processor has it
    assert (vectors * served).sum(1).min() > 0.999
    (row,) = json.loads(models("list", "--json"))
    assert (row["workers"], row["loaded"]) == (1, 1)
    with pytest.raises(CommandError, match=r"served by workers \(1\)"):
        models("remove", "small")


def test_a_worker_refuses_weights_that_are_not_what_was_installed(
    model: Model, repository: Path
) -> None:
    models("install", "small", "--from", str(repository))
    assert model.path is not None
    with (model.path / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    worker = start_worker(subprocess.PIPE)
    output, _ = worker.communicate(timeout=WORKER_START_S)
    assert worker.returncode != 0
    assert b"model.safetensors has sha256" in output


async def test_a_call_for_a_model_that_is_not_installed_names_the_command(
    model: Model, client: httpx.AsyncClient, attach: Attach
) -> None:
    response = await client.post(
        "/v1/embeddings",
        json={"model": "small", "input": "hello"},
        headers={"authorization": f"Bearer {(await attach()).key}"},
    )
    assert response.status_code == 404
    assert "manage.py models install small" in response.json()["error"]["message"]
