"""Installation: checkpoints from the hub or a folder into MODELS_DIR, checked, whole or not at all.

What is downloaded stays in a hidden folder until every file is there and right; a second run goes
on where the first was interrupted. Nothing of a checkpoint is ever run: code in a repository and
pickled weights are not fetched, and `auto_map` in its config.json is ignored.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import safetensors
from django.conf import settings
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # is public
from tqdm import tqdm

from inference.catalogue import Model
from inference.checkpoints import (
    CALIBRATION_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    InstalledFile,
    Manifest,
    hash_file,
    write_manifest,
)
from inference.upstream.entries import CredentialsUnusable, Upstream
from inference.upstream.tokenizer import TokenizerNotFetched, fetch_tokenizer

T = TypeVar("T", dict[str, Any], list[Any])

CONFIG_FILE = "config.json"
POOLING_FILE = "1_Pooling/config.json"
MODULES_FILE = "modules.json"
# What sentence-transformers reads besides; the engine does without.
OTHER_FILES = (
    POOLING_FILE,
    "config_sentence_transformers.json",
    MODULES_FILE,
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
PICKLE_SUFFIXES = (".bin", ".ckpt", ".h5", ".msgpack", ".pickle", ".pkl", ".pt", ".pth")
# The modules of sentence-transformers that the engine computes.
COMPUTED_MODULES = {"Transformer", "Pooling", "Normalize"}
# How sentence-transformers' 1_Pooling/config.json says what the catalogue calls so.
POOLING_MODES = {
    "cls": ("pooling_mode_cls_token", "cls"),
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "last": ("pooling_mode_lasttoken", "lasttoken"),
}


class CannotInstall(Exception):
    """Nothing was installed, and what was installed before is as it was; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A file at the hub: with Git LFS its SHA-256 is known, else the hash of git's blob."""

    name: str
    size_bytes: int
    sha256: str | None
    blob_id: str | None


def install_from_hub(model: Model, now: datetime) -> Manifest:
    """Download what is missing of the model's checkpoint. Raises CannotInstall."""
    with _locked(model), _explained(model):
        api = HfApi()
        info = api.model_info(model.checkpoint, revision=model.revision, files_metadata=True)
        if info.sha is None:
            raise CannotInstall(f"the hub names no commit of {model.checkpoint}")
        remote = {
            sibling.rfilename: Remote(
                name=sibling.rfilename,
                size_bytes=sibling.size or 0,
                sha256=sibling.lfs.sha256 if sibling.lfs else None,
                blob_id=sibling.blob_id,
            )
            for sibling in info.siblings or []
        }
        place = f"{model.checkpoint} at {model.revision}"
        names = _choose_files(model, list(remote), place)
        staging = _staging(model, info.sha)
        _require_disk(staging, sum(remote[name].size_bytes for name in names))
        files = {}
        for name in names:
            url = hf_hub_url(model.checkpoint, name, revision=info.sha, endpoint=api.endpoint)
            files[name] = _download(url, remote[name], staging / name)
        return _finish(model, staging, files, commit=info.sha, now=now)


def install_from_folder(model: Model, source: Path, now: datetime) -> Manifest:
    """Copy the model's checkpoint from `source`. Raises CannotInstall."""
    if not source.is_dir():
        raise CannotInstall(f"there is no folder {source}")
    with _locked(model), _explained(model):
        there = [str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()]
        names = _choose_files(model, there, str(source))
        staging = _staging(model, "folder")
        _require_disk(staging, sum((source / name).stat().st_size for name in names))
        files = {name: _copy(source / name, staging / name) for name in names}
        return _finish(model, staging, files, commit=None, now=now)


def install_from_upstream(model: Model, upstream: Upstream, now: datetime) -> Manifest:
    """Fetch the tokenizer that counts the tokens of an upstream's model. Raises CannotInstall."""
    with _locked(model), _explained(model):
        try:
            content = fetch_tokenizer(upstream)
        except (TokenizerNotFetched, CredentialsUnusable) as error:
            raise CannotInstall(str(error)) from error
        staging = _staging(model, "upstream")
        (staging / TOKENIZER_FILE).write_bytes(content)
        files = {TOKENIZER_FILE: _hash(staging / TOKENIZER_FILE)}
        return _finish(model, staging, files, commit=None, now=now)


def remove(model: Model) -> None:
    """Remove what was installed or half installed. Safe to repeat."""
    with _locked(model):
        home: Path = settings.MODELS_DIR / model.id
        if home.exists():
            # The rename first: what is half removed must not look installed.
            home.rename(_workplace(model) / "removed")
        _clear(model)


@contextmanager
def _locked(model: Model) -> Iterator[None]:
    """Hold the model's lock, so that no second process writes the same files."""
    workplace = _workplace(model)
    workplace.mkdir(parents=True, exist_ok=True)
    with (workplace / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotInstall(
                f"{model.id} is being installed or removed by another process"
            ) from None
        yield


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Raise CannotInstall, with what one can do about it, for what the hub or the disk answers."""
    again = "What was downloaded is kept: the same command goes on from there"
    try:
        yield
    except GatedRepoError as error:
        raise CannotInstall(
            f"{model.checkpoint} is gated: accept its licence at the hub, then set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CannotInstall(
            f"the hub has no {model.checkpoint}, or it is private and HF_TOKEN is not set"
        ) from error
    except RevisionNotFoundError as error:
        raise CannotInstall(f"{model.checkpoint} has no revision {model.revision}") from error
    except OfflineModeIsEnabled as error:
        raise CannotInstall("HF_HUB_OFFLINE is set: nothing is downloaded") from error
    except HfHubHTTPError as error:
        raise CannotInstall(f"the hub refuses: {_first_line(error)}. {again}") from error
    except httpx2.HTTPError as error:
        raise CannotInstall(f"the hub cannot be reached: {_first_line(error)}. {again}") from error
    except OSError as error:
        raise CannotInstall(f"{_first_line(error)}. {again}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _choose_files(model: Model, there: list[str], place: str) -> list[str]:
    """Those of the files `there` that are installed. Raises CannotInstall unless they suffice."""
    needed = [TOKENIZER_FILE] if model.upstream else [CONFIG_FILE, TOKENIZER_FILE]
    for name in needed:
        if name not in there:
            raise CannotInstall(f"{place} has no {name}")
    if model.upstream:
        return needed
    return [*needed, *_weights(there, place), *(name for name in OTHER_FILES if name in there)]


def _weights(there: list[str], place: str) -> list[str]:
    if WEIGHTS_FILE in there:
        return [WEIGHTS_FILE]
    if f"{WEIGHTS_FILE}.index.json" in there:
        raise CannotInstall(
            f"{place} has its weights in several files; the engine loads one {WEIGHTS_FILE}"
        )
    pickles = [name for name in there if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        raise CannotInstall(
            f"{place} has no {WEIGHTS_FILE}, only {', '.join(sorted(pickles))}: such files can run "
            "code when they are loaded. docs/catalogue.md says how to convert a checkpoint that "
            "you trust"
        )
    raise CannotInstall(f"{place} has no {WEIGHTS_FILE}")


def _workplace(model: Model) -> Path:
    """Where files are until they are all there and right; on the disk that they shall lie on."""
    path: Path = settings.MODELS_DIR / ".installing" / model.id
    return path


def _clear(model: Model, *, but: Path | None = None) -> None:
    """Delete what runs have left in the model's workplace."""
    for folder in _workplace(model).iterdir():
        if folder.is_dir() and folder != but:
            shutil.rmtree(folder)


def _staging(model: Model, origin: str) -> Path:
    """The folder for files of `origin`, with what an interrupted run has left there; those of other
    origins go."""
    staging = _workplace(model) / f"from-{origin}"
    _clear(model, but=staging)
    staging.mkdir(exist_ok=True)
    return staging


def _require_disk(staging: Path, needed_bytes: int) -> None:
    there = sum(file.stat().st_size for file in staging.rglob("*") if file.is_file())
    free = shutil.disk_usage(staging).free
    if needed_bytes - there > free:
        raise CannotInstall(
            f"{settings.MODELS_DIR} needs {(needed_bytes - there) // 1_000_000} MB more, "
            f"{free // 1_000_000} MB are free"
        )


def _download(url: str, remote: Remote, file: Path) -> InstalledFile:
    """The file, from where an earlier run has left it, and once more if it is not right then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        started_at_byte = file.stat().st_size if file.exists() else 0
        if started_at_byte > remote.size_bytes:
            file.unlink()
            continue
        with file.open("ab") as stream:
            http_get(
                url,
                stream,
                resume_size=started_at_byte,
                headers=build_hf_headers(),
                expected_size=remote.size_bytes,
                displayed_filename=remote.name,
            )
        installed = _hash(file)
        if _is_right(file, installed, remote):
            return installed
        file.unlink()
        if started_at_byte == 0:
            break
    raise CannotInstall(
        f"{remote.name} is not what the hub says it is: its sha256 should be "
        f"{remote.sha256 or f'that of the git blob {remote.blob_id}'}"
    )


def _is_right(file: Path, installed: InstalledFile, remote: Remote) -> bool:
    if remote.sha256 is not None:
        return installed.sha256 == remote.sha256
    content = file.read_bytes()  # small: the hub keeps large files with Git LFS
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return blob.hexdigest() == remote.blob_id


def _copy(source: Path, target: Path) -> InstalledFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return _hash(target)


def _hash(file: Path) -> InstalledFile:
    size_bytes = file.stat().st_size
    with progress(f"checking {file.name}", size_bytes) as bar:
        return InstalledFile(size_bytes=size_bytes, sha256=hash_file(file, bar.update))


def progress(what: str, total_bytes: int) -> "tqdm[Any]":
    """A bar of bytes, on terminals only."""
    return tqdm(desc=what, total=total_bytes, unit="B", unit_scale=True, disable=None, leave=False)


def _finish(
    model: Model,
    staging: Path,
    files: Mapping[str, InstalledFile],
    *,
    commit: str | None,
    now: datetime,
) -> Manifest:
    """Put a checkpoint that is whole and fits its entry where models are looked for."""
    if model.upstream is None:
        _check(model, staging, files)
    manifest = Manifest(
        checkpoint=model.checkpoint,
        revision=model.revision,
        commit=commit,
        installed_at=now,
        files=dict(files),
    )
    write_manifest(staging, manifest)
    home: Path = settings.MODELS_DIR / model.id
    if home.exists():
        # Of the same weights, mostly; with others nobody takes it.
        if (home / CALIBRATION_FILE).is_file():
            shutil.copyfile(home / CALIBRATION_FILE, staging / CALIBRATION_FILE)
        home.rename(_workplace(model) / "replaced")
    staging.rename(home)
    _clear(model)
    return manifest


def _check(model: Model, folder: Path, files: Mapping[str, InstalledFile]) -> None:
    """Raise CannotInstall where the checkpoint is not the one that the entry describes."""
    found = files[WEIGHTS_FILE].sha256
    if model.sha256 not in (None, found):
        raise CannotInstall(f"{WEIGHTS_FILE} has sha256 {found}, the catalogue says {model.sha256}")
    try:
        with safetensors.safe_open(folder / WEIGHTS_FILE, framework="numpy"):
            pass
    except safetensors.SafetensorError as error:
        raise CannotInstall(f"{WEIGHTS_FILE} is no file of safetensors: {error}") from error
    config = _read_json(folder / CONFIG_FILE, dict)
    text = config.get("text_config", config)  # of a model that takes images as well
    facts = {
        "model_type": (config.get("model_type"), model.architecture),
        # n_embd in configs that follow GPT-2's names, nomic-embed-text's among them
        "hidden_size": (text.get("hidden_size", text.get("n_embd")), model.dimensions),
    }
    for key, (stated, wanted) in facts.items():
        if stated != wanted:
            raise CannotInstall(
                f"{CONFIG_FILE} says {key} {stated}, the catalogue's entry {wanted}"
            )
    positions = text.get("max_position_embeddings")
    if isinstance(positions, int) and positions < model.context_tokens:
        raise CannotInstall(
            f"{CONFIG_FILE} says max_position_embeddings {positions}, the catalogue's entry "
            f"context_tokens {model.context_tokens}"
        )
    _check_modules(folder)
    _check_pooling(model, folder)


def _check_modules(folder: Path) -> None:
    """Raise CannotInstall where vectors go through more than the engine computes."""
    if not (folder / MODULES_FILE).is_file():
        return
    for module in _read_json(folder / MODULES_FILE, list):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in COMPUTED_MODULES:
            raise CannotInstall(f"{MODULES_FILE} has a module {kind}, which Annex does not compute")


def _check_pooling(model: Model, folder: Path) -> None:
    if not (folder / POOLING_FILE).is_file():
        return
    modes = _read_json(folder / POOLING_FILE, dict)
    flag, name = POOLING_MODES[model.pooling]
    if not modes.get(flag) and modes.get("pooling_mode") != name:
        raise CannotInstall(
            f"{POOLING_FILE} says another pooling than the catalogue's entry, {model.pooling}"
        )


def _read_json(file: Path, kind: type[T]) -> T:
    """The object or list in a file. Raises CannotInstall."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise CannotInstall(f"{file.name} is no JSON: {error}") from error
    if not isinstance(content, kind):
        raise CannotInstall(f"{file.name} holds a {type(content).__name__}, not a {kind.__name__}")
    return content
