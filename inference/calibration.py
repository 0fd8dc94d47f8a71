"""Calibration: the fixed ranges of int8 and uint8, a file for each model.

A file is shipped with Annex, or made by `manage.py models calibrate` with the weights that are
installed. docs/quantization.md says how the ranges are chosen, and why so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from django.conf import settings
from numpy.typing import NDArray
from redis.asyncio import Redis

from inference.catalogue import INPUT_TYPES, Model, ModelNotInstalled
from inference.checkpoints import CALIBRATION_FILE
from inference.dispatch import Dispatcher, EncodeFailed, WorkerUnavailable
from inference.lanes import Overloaded
from inference.quantization import LEVELS, ZERO, reduce
from inference.tokenization import tokenize
from inference.upstream.calls import UpstreamFailed, UpstreamRejected, UpstreamUnavailable
from inference.upstream.upstreams import Upstreams

SHIPPED = Path(__file__).parent / "calibrations"
CORPUS = SHIPPED / "corpus.txt"

PERCENTILE = 99.99
STEP_UNIT = 2.0**-16  # coarser than what one machine computes otherwise than another
METHOD = (
    f"One step for all coordinates: the {PERCENTILE}th percentile of their absolute values, "
    "divided by 127 and rounded to a multiple of 2**-16. int8 is the coordinate over the step, "
    "rounded."
)
MIN_TEXTS = 100
TEXTS_AT_A_TIME = 32
TIMEOUT_S = 120.0
PATIENCE_S = 10.0  # with workers that are gone
FLOW_ID = "calibration"  # one flow among the attachments, which workers are fair between

Embed = Callable[[Sequence[str], str], Awaitable[NDArray[np.float32]]]


Bound = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Dimension = Annotated[int, msgspec.Meta(ge=1)]


class Corpus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a calibration was made on: a text file's name, digest and number of texts."""

    name: str
    sha256: str
    texts: int


class Ranges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least and the greatest value of each coordinate; one number stands for all of them."""

    minimum: Bound | tuple[Bound, ...]
    maximum: Bound | tuple[Bound, ...]

    def array(self, dimension: int) -> NDArray[np.float32]:
        """(2, dimension) float32. Raises ValueError."""
        rows = [np.array(row, np.float32) for row in (self.minimum, self.maximum)]
        if any(row.shape not in ((), (dimension,)) for row in rows):
            raise ValueError(f"{dimension} dimensions need one number, or {dimension}")
        ranges = np.stack([np.broadcast_to(row, dimension) for row in rows])
        if (ranges[0] > ranges[1]).any():
            raise ValueError(f"a minimum for {dimension} dimensions is above its maximum")
        return ranges


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A calibration file. version: the digest of its ranges. weights: the SHA-256 of each file of
    weights that it was made with. dimensions: the ranges of vectors cut to that many."""

    version: str
    model: str
    checkpoint: str
    revision: str
    weights: dict[str, str]
    method: str
    corpus: Corpus
    dimensions: dict[Dimension, Ranges]

    def __post_init__(self) -> None:
        expected = digest_of(self._arrays)
        if self.version != expected:
            raise ValueError(f"the version of these ranges is {expected}, not {self.version}")

    def ranges(self, dimension: int) -> NDArray[np.float32] | None:
        """The ranges (2, dimension) that `quantize` takes; None where there are none."""
        return self._arrays.get(dimension)

    @cached_property
    def _arrays(self) -> dict[int, NDArray[np.float32]]:
        return {dimension: ranges.array(dimension) for dimension, ranges in self.dimensions.items()}


class InvalidCalibration(Exception):
    """A calibration file is not what it must be."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file


class CannotCalibrate(Exception):
    """There are no vectors to choose ranges by; the text says why."""


def find_calibration(model: Model) -> Calibration | None:
    """The ranges for the weights that are installed: those made here, else those shipped.

    A file is read once a process, and again when it has changed. Raises InvalidCalibration.
    """
    for file in (calibration_file(model), SHIPPED / f"{model.id}.json"):
        try:
            changed_at_ns = file.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        calibration = read_calibration(file, changed_at_ns)
        made_for = (calibration.model, calibration.checkpoint, calibration.weights)
        if made_for == (model.id, model.checkpoint, model.weights):
            return calibration
    return None


def calibration_file(model: Model) -> Path:
    """Where `calibrate` puts what it makes, beside the installed weights."""
    return Path(settings.MODELS_DIR) / model.id / CALIBRATION_FILE


@lru_cache(maxsize=64)
def read_calibration(file: Path, changed_at_ns: int) -> Calibration:
    """Raises InvalidCalibration."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Calibration)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidCalibration(file, str(error)) from error


def read_corpus(file: Path) -> tuple[Corpus, list[str]]:
    """The texts of a UTF-8 file, a line each; lines that start with # say where they are from.

    Raises CannotCalibrate.
    """
    try:
        content = file.read_bytes()
        lines = content.decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotCalibrate(f"{file} cannot be read: {error}") from error
    texts = [line for line in lines if line.strip() and not line.startswith("#")]
    if len(texts) < MIN_TEXTS:
        raise CannotCalibrate(
            f"{file} has {len(texts)} texts, a line each: at least {MIN_TEXTS} are needed"
        )
    digest = sha256(content).hexdigest()
    return Corpus(name=file.name, sha256=digest, texts=len(texts)), texts


def choose_ranges(vectors: NDArray[np.float32]) -> Ranges:
    """Ranges by METHOD from vectors (B, D): zero is zero, and dot products keep their order."""
    largest = float(np.percentile(np.abs(vectors), PERCENTILE))
    step = max(1, round(largest / 127 / STEP_UNIT)) * STEP_UNIT
    # Halves, so that rounding down to a whole level, as quantisers do, rounds to the nearest.
    return Ranges(minimum=-(ZERO + 0.5) * step, maximum=(LEVELS - ZERO - 0.5) * step)


def make_calibration(model: Model, corpus: Corpus, vectors: NDArray[np.float32]) -> Calibration:
    """From vectors (B, D) of the corpus's texts, for each length that the model was trained for."""
    dimensions = {
        dimension: choose_ranges(reduce(vectors, dimension))
        for dimension in model.output_dimensions
    }
    arrays = {dimension: ranges.array(dimension) for dimension, ranges in dimensions.items()}
    return Calibration(
        version=digest_of(arrays),
        model=model.id,
        checkpoint=model.checkpoint,
        revision=model.installed_revision,
        weights=model.weights,
        method=METHOD,
        corpus=corpus,
        dimensions=dimensions,
    )


async def calibrate(
    model: Model,
    corpus_file: Path,
    *,
    pool: str,
    on_progress: Callable[[int, int], None],
) -> Calibration:
    """Ranges from vectors that the model's workers of `pool`, or its upstream, compute as they do
    for clients. `on_progress` is told how many texts of how many are done.

    Raises CannotCalibrate, ModelNotInstalled.
    """
    if model.path is None:
        raise ModelNotInstalled(model)
    corpus, texts = read_corpus(corpus_file)
    async with _embedding(model, pool) as embed:
        try:
            vectors = await _embed_all(model, texts, embed, on_progress)
        except WorkerUnavailable as error:
            command = f"manage.py serve_models {model.id}"
            raise CannotCalibrate(f"{error}; {command} starts one") from error
        except (
            EncodeFailed,
            Overloaded,
            UpstreamFailed,
            UpstreamRejected,
            UpstreamUnavailable,
        ) as error:
            raise CannotCalibrate(f"the vectors could not be computed: {error}") from error
    return make_calibration(model, corpus, vectors)


@asynccontextmanager
async def _embedding(model: Model, pool: str) -> AsyncIterator[Embed]:
    redis = Redis.from_url(settings.REDIS_URL)
    dispatcher, upstreams = Dispatcher(redis=redis), Upstreams()

    async def embed(texts: Sequence[str], input_type: str) -> NDArray[np.float32]:
        batch = await tokenize(model, texts, input_type)
        deadline_at = time.time() + TIMEOUT_S
        if model.upstream is None:
            return await dispatcher.encode(
                model, batch, pool=pool, flow_id=FLOW_ID, deadline_at=deadline_at
            )
        return await upstreams.embed(
            model,
            texts,
            batch,
            input_type=input_type,
            truncate="end",
            flow_id=FLOW_ID,
            deadline_at=deadline_at,
        )

    dispatcher.start()
    try:
        yield embed
    finally:
        await upstreams.stop()
        await dispatcher.stop()
        await redis.aclose()


async def _embed_all(
    model: Model, texts: Sequence[str], embed: Embed, on_progress: Callable[[int, int], None]
) -> NDArray[np.float32]:
    """Vectors (B, D): of each text with each prompt that there is. An upstream has its own."""
    prompts = {
        input_type if model.upstream else model.prompt(input_type): input_type
        for input_type in INPUT_TYPES
    }
    parts: list[NDArray[np.float32]] = []
    for input_type in prompts.values():
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            parts.append(
                await _patiently(embed, texts[start : start + TEXTS_AT_A_TIME], input_type)
            )
            on_progress(sum(map(len, parts)), len(prompts) * len(texts))
    return np.concatenate(parts)


async def _patiently(embed: Embed, texts: Sequence[str], input_type: str) -> NDArray[np.float32]:
    """What took minutes is not lost to a worker that restarts, or is too busy to say that it is
    there. Raises what `embed` does."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await embed(texts, input_type)
        except WorkerUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(1)


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Put it in place at once: a process reads the file as it was, or as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
    partial.replace(file)


def digest_of(arrays: Mapping[int, NDArray[np.float32]]) -> str:
    """12 hexadecimal digits over the ranges of every dimension."""
    digest = sha256()
    for dimension in sorted(arrays):
        digest.update(dimension.to_bytes(4, "little"))
        digest.update(arrays[dimension].astype("<f4").tobytes())
    return digest.hexdigest()[:12]
