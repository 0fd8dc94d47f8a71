"""Small checkpoints for tests/e2e/catalogue.toml: true architectures, seeded weights.

    python -m tests.e2e.checkpoints FOLDER

makes FOLDER/MODEL_ID for each of them.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedConfig, Qwen3Config, XLMRobertaConfig

CORPUS = ["Paris is the capital of France.", "Füchse springen über Hunde", "敏捷的棕色狐狸"]
CONFIGS: dict[str, PreTrainedConfig] = {
    "cohere-embed-multilingual": XLMRobertaConfig(
        vocab_size=400,
        hidden_size=1024,
        num_hidden_layers=1,
        num_attention_heads=16,
        intermediate_size=256,
        max_position_embeddings=514,
        type_vocab_size=1,
    ),
    "cohere-embed-v4": Qwen3Config(
        vocab_size=400,
        hidden_size=1536,
        num_hidden_layers=1,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=128,
        intermediate_size=256,
        max_position_embeddings=512,
    ),
}


def save_checkpoint(config: PreTrainedConfig, folder: Path) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer().save(str(folder / "tokenizer.json"))


def tokenizer() -> Tokenizer:
    """Byte pairs, so that every text has tokens; <s> and </s> around it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


if __name__ == "__main__":
    for model_id, config in CONFIGS.items():
        save_checkpoint(config, Path(sys.argv[1]) / model_id)
