"""Encoding in one process: the matrix-product ceiling, the engine and sentence-transformers take
turns, so that whatever else the machine does slows all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from bench.ceiling import Ceiling
from bench.workload import Workload
from inference.engine import Encoder, TextEncoder

DEFAULT_BATCH = 32  # of sentence-transformers
BATCHES = (8, 16, 32, 64, 128)

Say = Callable[[str], None]


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Rates are texts a second, one for each round; by dtype where it matters.

    `sweep` is by "dtype, batch size", on fewer texts; worst_cosine: with float32
    sentence-transformers.
    """

    workload: str
    tokens_per_text: float
    flops_per_token: float
    best_dtype: str
    token_budget: int
    ceiling_gflops: dict[str, dict[str, float]]
    engine: dict[str, list[float]]
    engine_from_text: list[float]
    sentence_transformers_default: list[float]
    sentence_transformers_best: list[float]
    sentence_transformers_best_setting: str
    sweep: dict[str, float]
    worst_cosine: dict[str, float]

    def ceiling_tokens_per_s(self, dtype: str) -> float:
        return max(self.ceiling_gflops[dtype].values()) * 1e9 / self.flops_per_token

    def share_of_ceiling(self, dtype: str) -> float:
        tokens_per_s = median(self.engine[dtype]) * self.tokens_per_text
        return tokens_per_s / self.ceiling_tokens_per_s(dtype)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The engine on the workload."""

    workload: Workload
    text_encoder: TextEncoder

    @property
    def encoder(self) -> Encoder:
        return self.text_encoder.encoder

    def encode(self, texts: int | None = None) -> NDArray[np.float32]:
        """(B, D) float32, of the first `texts` of the workload, or of all."""
        encoded = self.encoder.encode(self.workload.sequences[:texts])
        if encoded.failed:
            raise RuntimeError(f"the engine failed on texts {encoded.failed}")
        return encoded.vectors

    def encode_from_text(self) -> NDArray[np.float32]:
        return self.text_encoder.encode(self.workload.texts).vectors

    def tokens_per_s(self, texts: int | None = None) -> float:
        return sum(self.workload.lengths[:texts]) / elapsed_s(lambda: self.encode(texts))

    def latency_s(self, sequence: NDArray[np.int32], calls: int) -> float:
        """The median time of one text alone."""
        return median(elapsed_s(lambda: self.encoder.encode([sequence])) for _ in range(calls))


def load_engine(workload: Workload, dtype: torch.dtype | None = None) -> Engine:
    """Loaded and warm; `dtype` as the engine itself decides, unless given."""
    text_encoder = TextEncoder(
        workload.folder,
        pooling=workload.model.pooling,
        max_tokens=workload.model.context_tokens,
        dtype=dtype,
    )
    text_encoder.encode(workload.texts[:100])
    return Engine(workload=workload, text_encoder=text_encoder)


def measure_encoding(
    workload: Workload, engine: Engine, *, rounds: int, sweep_texts: int, say: Say
) -> Encoding:
    float32, texts = torch.float32, workload.texts
    dtypes = find_dtypes(engine)
    engines = {dtypes[0]: engine} | {dtype: load_engine(workload, dtype) for dtype in dtypes[1:]}
    peers = {dtype: _load_sentence_transformer(workload, dtype) for dtype in dtypes}
    budget = engine.encoder.token_budget
    ceilings = {dtype: Ceiling(workload.sizes, dtype, budget) for dtype in dtypes}

    say(f"sentence-transformers in {len(dtypes) * len(BATCHES)} settings")
    sweep = _sweep(peers, texts[:sweep_texts])
    dtype, batch = max(sweep, key=lambda setting: sweep[setting])
    contestants: dict[str, Callable[[], object]] = {
        **{name(each): engines[each].encode for each in dtypes},
        "from text": engine.encode_from_text,
        "default": lambda: peers[float32].encode(texts, batch_size=DEFAULT_BATCH),
        "best": lambda: peers[dtype].encode(texts, batch_size=batch),
    }
    rates: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for number in range(1, rounds + 1):
        say(f"ceiling, engine and sentence-transformers, round {number} of {rounds}")
        for ceiling in ceilings.values():
            ceiling.measure()
        for contestant, encode in contestants.items():
            rates[contestant].append(len(texts) / elapsed_s(encode))

    say("fidelity")
    reference = np.asarray(peers[float32].encode(texts, batch_size=batch))
    cosines = {each: worst_cosine(engines[each].encode(), reference) for each in dtypes}
    return Encoding(
        workload=workload.describe(),
        tokens_per_text=workload.tokens / len(texts),
        flops_per_token=workload.flops_per_token,
        best_dtype=name(dtypes[0]),
        token_budget=budget,
        ceiling_gflops={name(dtype): ceiling.rates() for dtype, ceiling in ceilings.items()},
        engine={name(dtype): rates[name(dtype)] for dtype in dtypes},
        engine_from_text=rates["from text"],
        sentence_transformers_default=rates["default"],
        sentence_transformers_best=rates["best"],
        sentence_transformers_best_setting=_setting(dtype, batch),
        sweep={_setting(*setting): rate for setting, rate in sweep.items()},
        worst_cosine={name(dtype): cosine for dtype, cosine in cosines.items()},
    )


def find_dtypes(engine: Engine) -> list[torch.dtype]:
    """What the engine and its peers are tried in: the engine's own type, float32, and bfloat16
    where the processor has it, also where the engine finds float32 faster."""
    capabilities = torch.cpu.get_capabilities()
    has_bfloat16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    native = [torch.bfloat16] if has_bfloat16 else []
    return list(dict.fromkeys([engine.encoder.dtype, torch.float32, *native]))


def _sweep(
    peers: dict[torch.dtype, SentenceTransformer], texts: list[str]
) -> dict[tuple[torch.dtype, int], float]:
    """Texts a second of sentence-transformers by dtype and batch size."""
    rates = {}
    for dtype, peer in peers.items():
        for batch in BATCHES:
            started = time.perf_counter()
            peer.encode(texts, batch_size=batch)
            rates[dtype, batch] = len(texts) / (time.perf_counter() - started)
    return rates


def _setting(dtype: torch.dtype, batch: int) -> str:
    return f"{name(dtype)}, batch {batch}"


def _load_sentence_transformer(workload: Workload, dtype: torch.dtype) -> SentenceTransformer:
    model = SentenceTransformer(
        str(workload.folder), device="cpu", model_kwargs={"dtype": dtype}, local_files_only=True
    )
    model.encode(workload.texts[:32])
    return model


def worst_cosine(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The smallest cosine of the rows of two (B, D)."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)  # (B,)
    cosines = (vectors.astype(np.float64) * reference).sum(1) / lengths
    return float(cosines.min())


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def elapsed_s(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
