"""The ceiling and the engine on a few texts: the pieces run."""

import numpy as np
import pytest
import torch

from bench.ceiling import Ceiling
from bench.encoding import load_engine, worst_cosine
from bench.workload import Sizes, load_workload


def test_a_ceiling_has_a_rate_for_each_product() -> None:
    ceiling = Ceiling(
        Sizes(hidden_size=16, intermediate_size=32, num_hidden_layers=1), torch.float32, 64
    )
    ceiling.measure()
    rates = ceiling.rates()
    assert {"nn.Linear 64×16×16", "nn.Linear 2048×32×16"} <= rates.keys()
    assert min(rates.values()) > 0


def test_the_engine_encodes_the_workload_ready_and_from_text() -> None:
    engine = load_engine(load_workload(5), torch.float32)
    assert worst_cosine(engine.encode(), engine.encode_from_text()) == pytest.approx(1.0)
    assert engine.tokens_per_s() > 0


def test_the_worst_cosine_is_that_of_the_worst_row() -> None:
    reference = np.eye(3, dtype=np.float32)
    vectors = np.array([[2, 0, 0], [0, 3, 0], [0, 1, 1]], dtype=np.float32)
    assert worst_cosine(vectors, reference) == pytest.approx(0.5**0.5)
