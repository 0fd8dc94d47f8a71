"""Tiny checkpoints of each architecture, with seeded weights, as transformers saves them."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    BertConfig,
    NomicBertConfig,
    PreTrainedConfig,
    Qwen3Config,
    XLMRobertaConfig,
)

VOCABULARY = 200

CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    ),
    "xlm-roberta": XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130,
        pad_token_id=1,
    ),
    "nomic-bert": NomicBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    ),
    "qwen3": Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
    ),
}


def save_checkpoint(architecture: str, folder: Path) -> Path:
    """`folder`, with the architecture's checkpoint in it. Weights are large enough to matter."""
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIGS[architecture], dtype=torch.float32)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.15)
            elif "norm" not in name.lower():
                weights.normal_(0, 0.05)
    model.save_pretrained(folder)
    return folder


def random_sequences(lengths: list[int], seed: int = 0) -> list[NDArray[np.int32]]:
    """Sequences of ids that no architecture takes for padding."""
    rng = np.random.default_rng(seed)
    return [rng.integers(2, VOCABULARY, length).astype(np.int32) for length in lengths]
