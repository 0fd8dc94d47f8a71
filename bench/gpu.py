"""The engine on a GPU: `python -m bench.gpu`; `--tiny --device cpu` tries the program itself.

Seeded weights of the true shapes and a tokenizer of one word an id: MiniLM, XLM-R large and
Qwen3-0.6B, at one length and at a mix of lengths. Prints tokens/s from ids to vectors, and texts
to vectors beside sentence-transformers itself, in bfloat16 with the best of its settings tried; and
what share of the same run's matrix-product peak each is. Where it is missing, so are its figures.
Needs only torch, transformers, numpy and `inference.engine`; writes bench/results/gpu.md on a GPU.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    XLMRobertaConfig,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from inference.engine import TextEncoder
from inference.engine.pooling import Pooling

RESULTS = Path(__file__).parent / "results" / "gpu.md"
LENGTHS = (16, 128, 512, 8_192)
ROUNDS = 3
BATCH_SIZES = (32, 128, 512)  # of sentence-transformers; 32 is its default
COLUMNS = (
    *("model", "tokens a text", "token budget"),
    *("ids to vectors, tokens/s", "share of peak"),
    *("texts to vectors, tokens/s", "share of peak"),
    *("sentence-transformers, tokens/s", "share of peak", "its setting"),
    *("ratio", "worst cosine with it"),
)

MODELS: dict[str, tuple[PreTrainedConfig, Pooling]] = {
    "MiniLM": (
        BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536
        ),
        "mean",
    ),
    "XLM-R large": (
        XLMRobertaConfig(
            vocab_size=250_002,
            hidden_size=1_024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4_096,
            max_position_embeddings=8_194,  # as bge-m3 and arctic have it
            type_vocab_size=1,
        ),
        "cls",
    ),
    "Qwen3-0.6B": (
        Qwen3Config(
            vocab_size=151_669,
            hidden_size=1_024,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=3_072,
            max_position_embeddings=32_768,
        ),
        "last",
    ),
}
TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
}


def shrink(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same architecture with next to nothing in it."""
    known = {key: value for key, value in TINY.items() if key in config.to_dict()}
    return type(config)(**{**config.to_dict(), **known, "layer_types": None})


def context_tokens(config: PreTrainedConfig) -> int:
    """The longest text; XLM-R's table of positions has two rows more."""
    return int(config.max_position_embeddings) - 2 * isinstance(config, XLMRobertaConfig)


def make_sequences(
    config: PreTrainedConfig, length: int | None, tokens: int
) -> list[NDArray[np.int32]]:
    """Random ids: texts of `length`, or of 16 to 512, together about `tokens` tokens."""
    rng = np.random.default_rng(0)
    longest = min(512, context_tokens(config))
    sizes: list[int] = []
    while sum(sizes) < tokens:
        sizes.append(length or int(rng.integers(16, longest + 1)))
    return [rng.integers(5, config.vocab_size, size).astype(np.int32) for size in sizes]


def flop_of(config: PreTrainedConfig, model: nn.Module, lengths: list[int]) -> float:
    """Of the matrix products: two for each weight and token, and those of attention."""
    embeddings = sum(
        module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding)
    )
    matrices = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and "pooler" not in name  # BERT's own, which nobody computes here
    )
    weights = matrices - embeddings
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(config.num_attention_heads * head)
    is_causal = isinstance(config, Qwen3Config)
    attention = sum(4 * width * n * n for n in lengths) * int(config.num_hidden_layers)
    return 2.0 * weights * sum(lengths) + attention / (2 if is_causal else 1)


@torch.inference_mode()
def peak_tflops(device: torch.device, size: int) -> float:
    """The best of square bfloat16 matrix products."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(20)]
    return 2 * size**3 / min(times) / 1e12


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """How long the function takes, what it asked of the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def save_tokenizer(folder: Path, config: PreTrainedConfig) -> None:
    """A tokenizer that reads the ids a text is written in, and adds none.

    The padding's word is no number: a special token is found inside other words too, "1" in "12".
    """
    vocabulary = {str(number): number for number in range(config.vocab_size)}
    padding = config.pad_token_id or 0
    del vocabulary[str(padding)]
    vocabulary["[PAD]"] = padding
    tokenizer = Tokenizer(WordLevel(vocabulary))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106 — not a password
        model_max_length=context_tokens(config),
    ).save_pretrained(folder)


def load_peers(folder: Path, device: torch.device, pooling: Pooling) -> dict[str, Any]:
    """sentence-transformers by the attention it uses; nothing where it is not installed."""
    if find_spec("sentence_transformers") is None:
        return {}
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as peer_modules

    ways = ["sdpa"]
    if device.type == "cuda" and is_flash_attn_2_available():
        ways.append("flash_attention_2")  # its own path without padding
    peers = {}
    for way in ways:
        options = {"dtype": torch.bfloat16, "attn_implementation": way}
        transformer = peer_modules.Transformer(str(folder), model_kwargs=options)
        pooled = peer_modules.Pooling(
            transformer.get_embedding_dimension(),
            pooling_mode={"mean": "mean", "cls": "cls", "last": "lasttoken"}[pooling],
        )
        modules = [transformer, pooled, peer_modules.Normalize()]
        peers[way] = SentenceTransformer(modules=modules, device=str(device))
    return peers


def measure(
    name: str, device: torch.device, tiny: bool, tokens: int, peak: float
) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each length."""
    config, pooling = MODELS[name]
    config = shrink(config) if tiny else config
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        torch.manual_seed(0)
        model = AutoModel.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
        model.save_pretrained(folder)
        save_tokenizer(folder, config)
        ours = TextEncoder(folder, pooling=pooling, device=str(device), dtype=torch.bfloat16)
        peers = load_peers(folder, device, pooling)
        for length in [*(n for n in LENGTHS if n <= context_tokens(config)), None]:
            sequences = make_sequences(config, length, tokens)
            texts = [" ".join(map(str, sequence)) for sequence in sequences]
            for made, read in zip(sequences, ours.tokenize(texts), strict=True):
                np.testing.assert_array_equal(made, read)
            for peer in peers.values():
                read = peer.preprocess(texts[:1])["input_ids"][0].tolist()
                np.testing.assert_array_equal(sequences[0], read)
            count = sum(map(len, sequences))
            flop = flop_of(config, model, [len(s) for s in sequences])
            speed = partial(speed_of, count, flop / peak / 1e12)
            computed = median_seconds(partial(ours.encoder.encode, sequences), device)
            encoded = median_seconds(partial(ours.encode, texts), device)
            vectors = ours.encode(texts).vectors
            rows.append(
                (
                    name,
                    f"{length:,}" if length else "16-512",
                    f"{ours.encoder.token_budget:,}",
                    *speed(computed),
                    *speed(encoded),
                    *compare(peers, texts, vectors, speed, encoded, device),
                )
            )
    return rows


def speed_of(tokens: int, least_s: float, elapsed_s: float) -> tuple[str, str]:
    """Tokens/s, and the share of the peak: of the `least_s` that the matrix products could take."""
    return f"{tokens / elapsed_s:,.0f}", f"{least_s / elapsed_s:.2f}"


def compare(
    peers: dict[str, Any],
    texts: list[str],
    vectors: NDArray[np.float32],
    speed: Callable[[float], tuple[str, str]],
    encoded: float,
    device: torch.device,
) -> tuple[str, ...]:
    """sentence-transformers' speed, its setting, our ratio to it, the worst cosine with it."""
    found: dict[str, float] = {}
    worst = 1.0
    for way, peer in peers.items():
        for size in BATCH_SIZES:
            try:
                theirs = peer.encode(texts, batch_size=size)
                elapsed = median_seconds(partial(peer.encode, texts, batch_size=size), device)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                continue
            found[f"{way}, batch {size}"] = elapsed
            cosines = (vectors * theirs).sum(1) / np.linalg.norm(theirs, axis=1)
            worst = min(worst, float(cosines.min()))
    if not found:
        return "not installed" if not peers else "out of memory", "", "", "", ""
    setting = min(found, key=found.__getitem__)
    elapsed = found[setting]
    return *speed(elapsed), setting, f"{elapsed / encoded:.2f}", f"{worst:.4f}"


def median_seconds(function: Callable[[], object], device: torch.device) -> float:
    """The median time of a few rounds, in seconds, after one that is not counted."""
    function()
    return statistics.median(seconds(function, device) for _ in range(ROUNDS))


def main(arguments: list[str] | None = None) -> list[tuple[str, ...]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="models of next to nothing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=1 << 20, help="of a measurement")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    tokens = 2_000 if options.tiny else options.tokens
    peak = peak_tflops(device, 256 if options.tiny else 8_192)
    rows = [
        row for name in options.models for row in measure(name, device, options.tiny, tokens, peak)
    ]
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor"
    try:
        peer_version = version("sentence-transformers")
    except PackageNotFoundError:
        peer_version = "not installed"
    lines = [
        "# The engine on a GPU",
        "",
        f"`python -m bench.gpu`, {time.strftime('%Y-%m-%d')}: {hardware}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, sentence-transformers "
        f"{peer_version}. Measured peak of bfloat16 matrix products: {peak:,.1f} TFLOP/s. Seeded "
        "weights, random ids. The ratio compares texts to vectors, tokenising included in both, "
        f"with the best of sentence-transformers' settings tried (batches of {BATCH_SIZES}).",
        "",
        *("| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)),
    ]
    print("\n".join(lines))
    if device.type == "cuda" and not options.tiny:
        RESULTS.write_text("\n".join(lines) + "\n")
    return rows


if __name__ == "__main__":
    main()
