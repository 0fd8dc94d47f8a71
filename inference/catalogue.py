"""The catalogue: which embedding models there are, and everything that is fixed about each."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from django.conf import settings

from inference.catalogue_file import Contradiction, read_tables
from inference.checkpoints import (
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Manifest,
    find_manifest,
    package_folder,
)
from inference.upstream.entries import Upstream

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")

Pooling = Literal["mean", "cls", "last"]
# config.json's model_type, of those classes of transformers that the engine runs.
Architecture = Literal["bert", "xlm-roberta", "nomic_bert", "qwen3", "qwen3_vl"]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One embedding model; docs/catalogue.md explains every field."""

    id: str
    checkpoint: str
    description: str = ""
    revision: str = "main"
    architecture: Architecture | None = None
    pooling: Pooling = ""  # type: ignore[assignment]  # of an upstream's model only
    dimensions: Count
    output_dimensions: tuple[Count, ...] = ()
    default_output_dimension: int = 0
    context_tokens: Count
    max_inputs: Count = 96
    max_input_characters: Count
    max_request_tokens: Count = 800_000
    prompts: dict[str, str] = {}
    suffix: str = ""
    package: str | None = None
    folder: str | None = None
    sha256: str | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    upstream: Upstream | None = None

    def __post_init__(self) -> None:
        """Lengths that are not stated are that of the checkpoint's own vectors."""
        if not self.output_dimensions:
            msgspec.structs.force_setattr(self, "output_dimensions", (self.dimensions,))
        if not self.default_output_dimension:
            msgspec.structs.force_setattr(self, "default_output_dimension", self.dimensions)
        for contradiction in _contradictions(self):
            raise contradiction

    def prompt(self, input_type: str) -> tuple[str, str]:
        """What is put before and after a text of that type."""
        return self.prompts.get(input_type, ""), self.suffix

    @property
    def manifest(self) -> Manifest | None:
        """What `manage.py models install` has installed for this entry as it stands."""
        manifest = find_manifest(settings.MODELS_DIR / self.id) if self.folder is None else None
        if manifest is None:
            return None
        is_same = (manifest.checkpoint, manifest.revision) == (self.checkpoint, self.revision)
        return manifest if is_same else None

    @property
    def path(self) -> Path | None:
        """The checkpoint's folder on this machine; None while it is not installed."""
        if self.folder is None:
            return settings.MODELS_DIR / self.id if self.manifest else None
        root = package_folder(self.package) if self.package else Path(settings.BASE_DIR)
        path = None if root is None else root / self.folder
        return path if path and (path / TOKENIZER_FILE).is_file() else None

    @property
    def weights(self) -> dict[str, str]:
        """The SHA-256 that each file of weights must have. Raises ModelNotInstalled."""
        if self.folder is not None:
            return {WEIGHTS_FILE: self.sha256} if self.sha256 else {}
        manifest = self.manifest  # once: it is read from the disk
        if manifest is None:
            raise ModelNotInstalled(self)
        files = manifest.files.items()
        return {name: file.sha256 for name, file in files if name.endswith(".safetensors")}

    @property
    def installed_revision(self) -> str:
        """What tells these weights from others: the hub's commit, or their own SHA-256.
        Raises ModelNotInstalled."""
        manifest = self.manifest
        if manifest and manifest.commit:
            return manifest.commit
        return next(iter(self.weights.values()), self.revision)


def _contradictions(model: Model) -> Iterator[Contradiction]:
    """What of an entry cannot be right, in itself or beside the rest of it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model.id):
        yield Contradiction("id", "must be letters, digits, full stops, - and _, at most 100")
    if model.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", model.sha256):
        yield Contradiction("sha256", "must be 64 hexadecimal digits in small letters")
    for input_type in model.prompts.keys() - set(INPUT_TYPES):
        there_are = ", ".join(INPUT_TYPES)
        yield Contradiction(f"prompts.{input_type}", f"is no input_type: there are {there_are}")
    largest = max(model.output_dimensions)
    if largest > model.dimensions:
        yield Contradiction(
            "output_dimensions",
            f"cannot hold {largest}: a vector of the checkpoint has {model.dimensions} dimensions",
        )
    if list(model.output_dimensions) != sorted(set(model.output_dimensions)):
        yield Contradiction("output_dimensions", "must rise, each one stated once")
    if model.default_output_dimension not in model.output_dimensions:
        yield Contradiction(
            "default_output_dimension",
            f"is {model.default_output_dimension} (by default, dimensions), which must be one of "
            f"output_dimensions: {', '.join(map(str, model.output_dimensions))}",
        )
    if model.upstream is None:
        for key in ("architecture", "pooling"):
            if not getattr(model, key):
                yield Contradiction(key, "is missing: Annex itself runs this entry")
    if model.package is not None and model.folder is None:
        yield Contradiction("folder", "is missing: where in the package the checkpoint lies")
    if model.folder is not None and model.sha256 is None and model.upstream is None:
        yield Contradiction("sha256", "is missing: nothing else tells what lies in the folder")


class UnknownModel(Exception):
    """No such model; `known` lists those that can be asked for."""

    def __init__(self, model_id: str, known: tuple[str, ...]) -> None:
        super().__init__(model_id)
        self.model_id = model_id
        self.known = known


class ModelNotInstalled(Exception):
    """The catalogue knows the model, but its checkpoint is not on this machine."""

    def __init__(self, model: Model) -> None:
        super().__init__(f"{model.id} is not installed: {model_command('install', model.id)}")
        self.model = model


def model_command(verb: str, model_id: str) -> str:
    """The command that does something about a model, as one types it."""
    return f"manage.py models {verb} {model_id}"


@lru_cache(maxsize=1)
def load_catalogue() -> dict[str, Model]:
    """The models by id, from the file that MODEL_CATALOGUE names; read once a process.

    Raises InvalidCatalogue.
    """
    return read_tables(Path(settings.MODEL_CATALOGUE), "model", Model)


def installed_models() -> dict[str, Model]:
    """The models whose checkpoints are on this machine now."""
    return {id_: model for id_, model in load_catalogue().items() if model.path is not None}


def get_model(model_id: str) -> Model:
    """The installed model of that id. Raises UnknownModel, ModelNotInstalled."""
    model = load_catalogue().get(model_id)
    if model is None:
        raise UnknownModel(model_id, tuple(installed_models()))
    if model.path is None:
        raise ModelNotInstalled(model)
    return model


def queue_name(model_id: str, pool: str) -> str:
    """The Celery queue of a model's workers in a pool, which pools.pool_name() names. A plan's name
    for a pool has no full stop, and no region's has."""
    return f"embed.{pool}.{model_id}"


def model_of_queue(queue: str) -> str:
    """The id of the model that a queue of `queue_name` is for."""
    return queue.split(".", 3)[3]
