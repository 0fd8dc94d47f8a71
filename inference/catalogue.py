"""The catalogue: which embedding models there are, and everything that is fixed about each."""

import tomllib
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec
from django.conf import settings

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One embedding model. `folder` is inside `package` where that is given."""

    id: str
    checkpoint: str
    folder: str
    sha256: str
    pooling: Literal["mean", "cls", "last"]
    dimensions: int
    context_tokens: int
    max_inputs: int
    max_input_characters: int
    package: str | None = None
    prompts: dict[str, str] = {}

    @property
    def path(self) -> Path | None:
        """The checkpoint's folder on this machine; None while it is not installed."""
        return _find_folder(self.package, self.folder)


@cache
def _find_folder(package: str | None, folder: str) -> Path | None:
    root = Path(settings.BASE_DIR)
    if package is not None:
        spec = find_spec(package)  # of a top-level package: nothing is imported
        if spec is None or spec.origin is None:
            return None
        root = Path(spec.origin).parent
    path = root / folder
    return path if (path / "tokenizer.json").is_file() else None


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: tuple[Model, ...]


class UnknownModel(Exception):
    """No such model; `known` lists those that can be asked for."""

    def __init__(self, model_id: str, known: tuple[str, ...]) -> None:
        super().__init__(model_id)
        self.model_id = model_id
        self.known = known


class TooManyInputs(Exception):
    """More texts than the model takes in one request."""

    def __init__(self, model: Model, count: int) -> None:
        super().__init__(count)
        self.model = model
        self.count = count


class InputTooLong(Exception):
    """The text at `index` has more characters than the model takes."""

    def __init__(self, model: Model, index: int, characters: int) -> None:
        super().__init__(characters)
        self.model = model
        self.index = index
        self.characters = characters


@lru_cache(maxsize=1)
def load_catalogue() -> dict[str, Model]:
    """The models by id, from the file that MODEL_CATALOGUE names; read once a process."""
    document = tomllib.loads(Path(settings.MODEL_CATALOGUE).read_text())
    catalogue = msgspec.convert(document, Catalogue)
    return {model.id: model for model in catalogue.model}


@lru_cache(maxsize=1)
def installed_models() -> dict[str, Model]:
    """The models whose weights are on this machine; looked up once a process."""
    return {id_: model for id_, model in load_catalogue().items() if model.path is not None}


def get_model(model_id: str) -> Model:
    """The installed model of that id. Raises UnknownModel."""
    installed = installed_models()
    if model_id not in installed:
        raise UnknownModel(model_id, tuple(installed))
    return installed[model_id]


def check_inputs(model: Model, texts: Sequence[str]) -> None:
    """Raise TooManyInputs or InputTooLong where `texts` are more than the model takes."""
    if len(texts) > model.max_inputs:
        raise TooManyInputs(model, len(texts))
    for index, text in enumerate(texts):
        if len(text) > model.max_input_characters:
            raise InputTooLong(model, index, len(text))


def queue_name(model_id: str, pool: str) -> str:
    """The Celery queue of a model's workers in a pool. A pool's name has no full stop."""
    return f"embed.{pool}.{model_id}"


def model_of_queue(queue: str) -> str:
    """The id of the model that a queue of `queue_name` is for."""
    return queue.split(".", 2)[2]
