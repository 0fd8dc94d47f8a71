"""Checkpoints: from files on disk to a model that computes."""

import json
import math
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from inference.engine.attention import ATTENTION
from inference.engine.lean_transformers import without_first_values
from inference.engine.linear import PackedLinear, can_pack

# A worker's log is no terminal.
disable_progress_bar()  # type: ignore[no-untyped-call]

WEIGHTS_FILE = "model.safetensors"
MOST_NAMED = 5  # of the weights that are missing
PRODUCTS = 16  # of each type, to find the faster one


class IncompleteCheckpoint(Exception):
    """Weights of the model are not in its files; the message names them."""


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The checkpoint as a model of transformers', ready to compute.

    Raises IncompleteCheckpoint where a weight is missing, which transformers would make up.
    """
    model: PreTrainedModel
    with without_first_values():
        model, info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=dtype,
            attn_implementation=ATTENTION,
            output_loading_info=True,
        )
    # Of a model that takes images as well, the part that reads texts.
    part = "language_model." if hasattr(model, "language_model") else ""
    missing = sorted(
        name
        for name in info["missing_keys"]
        if name.startswith(part) and not name.startswith("pooler.")
    )
    if missing:
        raise IncompleteCheckpoint(f"{folder} has no {', '.join(missing[:MOST_NAMED])}")
    model = getattr(model, "language_model", model)
    model.config.use_cache = False  # of keys and values: nothing is generated here
    if getattr(model, "pooler", None) is not None:
        # BERT's serves another task; its matrix product would be wasted.
        model.register_module("pooler", None)
    module: nn.Module = model  # whose `to` has types
    module.to(device).eval()
    return model


def default_device() -> torch.device:
    """The GPU that torch finds, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes it natively and faster, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return _best_processor_dtype()


@cache
def _best_processor_dtype() -> torch.dtype:
    """Measured where the names of instructions do not tell: those of AVX-512 compute bfloat16 twice
    as fast as float32 on an AMD processor, and half as fast on an Intel one without AMX."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("amx_bf16"):
        return torch.bfloat16
    if not capabilities.get("avx512_bf16") or not can_pack():
        return torch.float32
    return _faster_dtype((torch.bfloat16, torch.float32))


@torch.inference_mode()
def _faster_dtype(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """By the best time of a product as large as those of a small model; in turns, so that whatever
    else the processor does slows all of them alike."""
    layers = [PackedLinear(nn.Linear(384, 384).to(dtype)) for dtype in dtypes]
    states = [torch.zeros(256, 384, dtype=dtype) for dtype in dtypes]
    seconds = dict.fromkeys(dtypes, math.inf)
    for _ in range(PRODUCTS):
        for dtype, layer, rows in zip(dtypes, layers, states, strict=True):
            started = time.perf_counter()
            layer(rows)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return min(seconds, key=seconds.__getitem__)


def estimate_memory_bytes(folder: Path, dtype: torch.dtype | None = None) -> int:
    """Memory that the folder's weights take as `dtype`, by default what this machine computes in;
    from the file's header alone."""
    dtype = dtype or best_dtype(default_device())
    with (folder / WEIGHTS_FILE).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    # What sees images is not kept.
    kept = (tensor for name, tensor in header.items() if "visual." not in name)
    numbers: int = sum(math.prod(tensor["shape"]) for tensor in kept)
    return numbers * dtype.itemsize
