"""Tiny checkpoints of each architecture, with seeded weights, as transformers saves them, and with
the kind of tokenizer that checkpoints of that architecture have."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import (
    AutoModel,
    BertConfig,
    NomicBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3VLConfig,
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
    "qwen3-vl": Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 64,
            "max_position_embeddings": 128,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [4, 2, 2],
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        # No text of these tests has them.
        image_token_id=VOCABULARY + 1,
        video_token_id=VOCABULARY + 2,
        vision_start_token_id=VOCABULARY + 3,
        vision_end_token_id=VOCABULARY + 4,
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


# What tokenizers are trained on: several scripts, so that their pieces differ.
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and search_query: finds it again.",
    "Straße, naïve café, déjà vu; l'été à Orléans coûte 12,50 €.",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "敏捷的棕色狐狸跳过懒狗。素早い茶色の狐がのろまな犬を飛び越える。",
    "def embed(texts): return [model(text) for text in texts]",
]


def word_piece() -> Tokenizer:
    """Of BERT: small letters, [CLS] and [SEP] around a text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=special, limit_alphabet=90, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """Of XLM-RoBERTa: SentencePiece's pieces, <s> and </s> around a text, padding at 1."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    """Of Qwen3: byte pairs, <|endoftext|> after a text; only as many bytes as there is room for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


TOKENIZERS = {
    "bert": (word_piece, "[PAD]"),
    "xlm-roberta": (unigram, "<pad>"),
    "nomic-bert": (word_piece, "[PAD]"),
    "qwen3": (byte_level, "<|endoftext|>"),
}


def save_repository(architecture: str, pooling: str, folder: Path) -> SentenceTransformer:
    """`folder` as a repository of the hub looks, and sentence-transformers' model of it."""
    bare = save_checkpoint(architecture, folder / "bare")
    tokenizer, padding = TOKENIZERS[architecture]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token=padding)  # type: ignore[no-untyped-call]
    fast.save_pretrained(bare)
    transformer = Transformer(str(bare), model_kwargs={"attn_implementation": "eager"})
    mode = {"last": "lasttoken"}.get(pooling, pooling)
    reference = SentenceTransformer(
        modules=[transformer, Pooling(CONFIGS[architecture].hidden_size, mode), Normalize()],
        device="cpu",
    )
    reference.save_pretrained(str(folder / "repository"))
    return reference
