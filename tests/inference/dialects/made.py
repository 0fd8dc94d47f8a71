"""Embeddings as the engine would have made them, for dialects to render."""

import numpy as np

from billing.rate_limits import Limits, Standing
from inference.calibration import Corpus, make_calibration
from inference.catalogue import load_catalogue
from inference.embeddings import Embeddings, Space
from inference.quantization import EmbeddingType
from inference.tokenization import TokenBatch

MODEL = load_catalogue()["all-minilm-l6-v2"]


def make_embeddings(
    *types: EmbeddingType, texts: int = 2, whole_lengths: tuple[int, ...] | None = None
) -> Embeddings:
    """Of four tokens a text; those are cut that had more before."""
    vectors = np.random.default_rng(1).normal(size=(texts, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.full(texts, 4, dtype=np.int32)
    whole = lengths if whole_lengths is None else np.array(whole_lengths, dtype=np.int32)
    corpus = Corpus(name="made up", sha256="0" * 64, texts=texts)
    return Embeddings(
        request_id="request-1",
        space=Space(
            model=MODEL,
            input_type="search_document",
            dimension=384,
            calibration=make_calibration(MODEL, corpus, vectors),
        ),
        types=types,
        vectors=vectors,
        tokens=TokenBatch(
            ids=np.zeros(4 * texts, dtype=np.int32),
            lengths=lengths,
            whole_lengths=whole,
            cut={int(index): "left" for index in np.flatnonzero(whole > lengths)},
        ),
        standing=Standing(
            limits=Limits(requests=9, tokens=9),
            used_requests=1,
            used_tokens=8,
            reset_s=1,
            asked_at=0,
        ),
    )
