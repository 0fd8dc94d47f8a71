"""Installation: whole and right, or not at all; and what is installed computes what it should."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from django.conf import settings as django_settings
from django.utils import timezone
from pytest_django import Settings

from inference.calibration import (
    calibration_file,
    choose_ranges,
    find_calibration,
    write_calibration,
)
from inference.catalogue import Model, get_model, installed_models, load_catalogue
from inference.checkpoints import verify
from inference.engine import Encoder
from inference.installation import CannotInstall, install_from_folder, install_from_hub, remove
from inference.tokenization import tokenize_now
from tests.inference.engine.checkpoints import CONFIGS, CORPUS, save_repository
from tests.inference.installable import ENTRY, WEIGHTS_BYTES, make_repository, write_catalogue
from tests.inference.model_hub import Hub, running_hub
from tests.inference.test_calibration import make
from tests.inference.test_quantization import unit_vectors

NOW = timezone.now()


@pytest.fixture
def model(settings: Settings, tmp_path: Path) -> Iterator[Model]:
    """The only model of a test's own catalogue, not installed."""
    settings.MODELS_DIR = tmp_path / "models"
    settings.MODEL_CATALOGUE = tmp_path / "catalogue.toml"
    yield write_catalogue(tmp_path / "catalogue.toml")
    load_catalogue.cache_clear()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("hub") / "small")


@pytest.fixture
def hub(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repositories["someone/small"] = repository
        use_hub(monkeypatch, hub.url)
        yield hub


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does to a process that starts with it."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)


def test_a_checkpoint_of_the_hub_is_installed_at_the_commit_of_its_revision(
    model: Model, hub: Hub, repository: Path
) -> None:
    manifest = install_from_hub(model, NOW)
    assert model.path == django_settings.MODELS_DIR / "small"
    assert (manifest.commit, model.installed_revision) == (hub.commit, hub.commit)
    assert set(manifest.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    for name in manifest.files:
        assert (model.path / name).read_bytes() == (repository / name).read_bytes()
    assert model.weights["model.safetensors"] == manifest.files["model.safetensors"].sha256
    assert get_model("small") == model
    # Files come from the commit that was looked up, also if the branch moves meanwhile.
    assert all(hub.commit in path for path, _ in hub.requests if "/resolve/" in path)


def test_a_dropped_connection_is_taken_up_where_it_was(
    model: Model, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)
    hub.drop_after_bytes = 5_000_000
    install_from_hub(model, NOW)
    first, second = hub.ranges("model.safetensors")
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 4_000_000
    assert model.path is not None


def test_a_killed_installation_is_no_installation_and_goes_on_when_run_again(
    model: Model, hub: Hub, tmp_path: Path
) -> None:
    hub.chunk_delay_s = 0.01
    log = tmp_path / "install.log"
    with log.open("wb") as output:
        installing = subprocess.Popen(
            [sys.executable, "manage.py", "models", "install", "small"],
            cwd=django_settings.BASE_DIR,
            env={
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "MODELS_DIR": str(django_settings.MODELS_DIR),
                "MODEL_CATALOGUE": str(django_settings.MODEL_CATALOGUE),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    workplace = django_settings.MODELS_DIR / ".installing" / "small"
    file = workplace / f"from-{hub.commit}" / "model.safetensors"
    deadline = time.monotonic() + 60
    while not (file.exists() and file.stat().st_size > 0):
        assert installing.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    installing.send_signal(signal.SIGKILL)
    installing.wait()
    kept = file.stat().st_size
    assert 0 < kept < WEIGHTS_BYTES
    assert "small" not in installed_models()

    hub.requests.clear()
    hub.chunk_delay_s = 0
    manifest = install_from_hub(model, NOW)
    assert hub.ranges("model.safetensors") == [f"bytes={kept}-"]
    assert hub.ranges("config.json") == []  # it was there already
    assert model.path is not None
    verify(model.path, {name: entry.sha256 for name, entry in manifest.files.items()})
    assert [path.name for path in workplace.iterdir()] == ["lock"]


def test_what_a_run_left_wrong_is_downloaded_again(model: Model, hub: Hub) -> None:
    staging = django_settings.MODELS_DIR / ".installing" / "small" / f"from-{hub.commit}"
    staging.mkdir(parents=True)
    (staging / "model.safetensors").write_bytes(bytes(1_000_000))
    (staging / "config.json").write_text("x" * 10_000)
    install_from_hub(model, NOW)
    assert hub.ranges("model.safetensors") == ["bytes=1000000-", None]
    assert model.path is not None


def test_parts_of_another_commit_are_not_mixed_in(model: Model, hub: Hub) -> None:
    other = django_settings.MODELS_DIR / ".installing" / "small" / "from-another"
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(bytes(1_000_000))
    install_from_hub(model, NOW)
    assert hub.ranges("model.safetensors") == [None]
    assert not other.exists()


def test_bytes_that_have_another_sha256_than_the_hub_says_are_not_installed(
    model: Model, hub: Hub
) -> None:
    hub.wrong_bytes = True
    with pytest.raises(CannotInstall, match=r"model\.safetensors is not what the hub says it is"):
        install_from_hub(model, NOW)
    assert model.path is None
    hub.wrong_bytes = False
    install_from_hub(model, NOW)
    assert model.path is not None


def test_weights_of_another_sha256_than_the_catalogues_are_not_installed(
    model: Model, hub: Hub, tmp_path: Path
) -> None:
    model = write_catalogue(tmp_path / "catalogue.toml", ENTRY + f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(CannotInstall, match="the catalogue says 000"):
        install_from_hub(model, NOW)
    assert model.path is None


def test_what_the_hub_answers_is_said_with_what_can_be_done(model: Model, hub: Hub) -> None:
    hub.missing = "model.safetensors"
    with pytest.raises(CannotInstall, match=r"the hub refuses: .*404"):
        install_from_hub(model, NOW)
    hub.missing = None
    hub.status, hub.error_code = 401, "GatedRepo"
    with pytest.raises(CannotInstall, match=r"someone/small is gated: .* set HF_TOKEN"):
        install_from_hub(model, NOW)
    hub.error_code = "RepoNotFound"
    with pytest.raises(CannotInstall, match=r"no someone/small, or it is private and HF_TOKEN"):
        install_from_hub(model, NOW)
    hub.status, hub.error_code = 404, "RevisionNotFound"
    with pytest.raises(CannotInstall, match="someone/small has no revision main"):
        install_from_hub(model, NOW)
    assert model.path is None


def test_a_hub_that_is_not_there_is_said_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:23001")
    with pytest.raises(CannotInstall, match=r"the hub cannot be reached: .* goes on from there"):
        install_from_hub(model, NOW)


def test_a_checkpoint_of_a_folder_is_installed_with_its_own_sha256(
    model: Model, repository: Path
) -> None:
    manifest = install_from_folder(model, repository, NOW)
    assert manifest.commit is None
    assert model.installed_revision == manifest.files["model.safetensors"].sha256
    assert model.path is not None
    with pytest.raises(CannotInstall, match="there is no folder"):
        install_from_folder(model, repository / "nowhere", NOW)


def test_a_second_installation_takes_the_place_of_the_first(
    model: Model, repository: Path, tmp_path: Path
) -> None:
    install_from_folder(model, repository, NOW)
    first = model.installed_revision
    other = make_repository(tmp_path / "other")
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "model.safetensors").write_bytes(content)
    install_from_folder(model, other, NOW)
    assert model.installed_revision != first


def test_a_calibration_outlasts_another_installation_and_counts_for_the_same_weights_only(
    model: Model, repository: Path, tmp_path: Path
) -> None:
    install_from_folder(model, repository, NOW)
    calibration = make(model, choose_ranges(unit_vectors(100, model.dimensions)))
    write_calibration(calibration, calibration_file(model))
    install_from_folder(model, repository, NOW)
    assert find_calibration(model) == calibration
    other = make_repository(tmp_path / "other")
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "model.safetensors").write_bytes(content)
    install_from_folder(model, other, NOW)
    assert find_calibration(model) is None


def test_an_entry_that_names_another_checkpoint_than_is_installed_is_not_installed(
    model: Model, repository: Path, tmp_path: Path
) -> None:
    install_from_folder(model, repository, NOW)
    for old, new in (("someone/", "nobody/"), ("pooling", 'revision = "v2"\npooling')):
        changed = write_catalogue(tmp_path / "catalogue.toml", ENTRY.replace(old, new))
        assert changed.path is None


def with_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def renamed_pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04K\x01." * 1000)


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def pooled_otherwise(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')


def with_dense_module(folder: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, r"no model\.safetensors, only pytorch_model\.bin: such files can run code"),
        (renamed_pickle, r"model\.safetensors is no file of safetensors"),
        (sharded, "has its weights in several files"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors$"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is no JSON"),
        (lambda folder: with_config(folder, model_type="t5"), "model_type t5, .* entry bert"),
        (lambda folder: with_config(folder, hidden_size=64), "hidden_size 64, .* entry 32"),
        (lambda folder: with_config(folder, max_position_embeddings=64), "context_tokens 128"),
        (pooled_otherwise, "says another pooling than the catalogue's entry, mean"),
        (with_dense_module, "a module Dense, which Annex does not compute"),
    ],
)
def test_a_checkpoint_that_is_not_the_entrys_or_not_safe_is_refused_by_name(
    model: Model, tmp_path: Path, spoil: object, message: str
) -> None:
    folder = make_repository(tmp_path / "spoilt")
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(CannotInstall, match=message):
        install_from_folder(model, folder, NOW)
    assert model.path is None


def test_code_in_a_repository_is_neither_fetched_nor_run(
    model: Model, hub: Hub, tmp_path: Path
) -> None:
    folder = make_repository(tmp_path / "coded")
    with_config(folder, auto_map={"AutoModel": "modeling.Model"})
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    hub.repositories["someone/small"] = folder
    install_from_hub(model, NOW)
    assert model.path is not None
    assert not (model.path / "modeling.py").exists()
    assert hub.ranges("modeling.py") == []


def test_a_removed_model_is_gone_with_what_was_half_installed(
    model: Model, repository: Path
) -> None:
    install_from_folder(model, repository, NOW)
    (django_settings.MODELS_DIR / ".installing" / "small" / "from-x").mkdir()
    remove(model)
    assert model.path is None
    assert not (django_settings.MODELS_DIR / "small").exists()
    assert not (django_settings.MODELS_DIR / ".installing" / "small" / "from-x").exists()
    remove(model)


# What each architecture's checkpoints of the catalogue have: pooling, and text around an input.
KINDS = [
    ("bert", "mean", "", ""),
    ("xlm-roberta", "cls", "query: ", ""),
    ("xlm-roberta", "mean", "query: ", ""),
    ("nomic-bert", "mean", "search_query: ", ""),
    ("qwen3", "last", "Instruct: find\nQuery:", ""),
    ("qwen3", "last", "<system>find</system>", "<end>\n"),
]


@pytest.mark.parametrize(("architecture", "pooling", "prompt", "suffix"), KINDS)
def test_an_installed_checkpoint_gives_the_vectors_of_sentence_transformers(
    model: Model, tmp_path: Path, architecture: str, pooling: str, prompt: str, suffix: str
) -> None:
    reference = save_repository(architecture, pooling, tmp_path)
    kind = CONFIGS[architecture].model_type
    entry = ENTRY.replace('"bert"', f'"{kind}"').replace('"mean"', f'"{pooling}"')
    entry += f"prompts = {{ search_query = {json.dumps(prompt)} }}\nsuffix = {json.dumps(suffix)}\n"
    model = write_catalogue(tmp_path / "catalogue.toml", entry)
    install_from_folder(model, tmp_path / "repository", NOW)
    batch = tokenize_now(model, CORPUS, "search_query")
    sequences = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
    assert model.path is not None
    encoder = Encoder(model.path, pooling=model.pooling, device="cpu", dtype=torch.float32)
    expected = reference.encode([text + suffix for text in CORPUS], prompt=prompt)
    np.testing.assert_allclose(encoder.encode(sequences).vectors, expected, atol=2e-5)
    without = reference.encode(CORPUS)
    assert bool(prompt) is bool(np.abs(without - expected).max() > 1e-2)
