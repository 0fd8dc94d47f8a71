"""The GPU benchmark runs to its end where there is no GPU, on models of next to nothing."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from bench import gpu
from bench.gpu import COLUMNS, compare, main, speed_of

CPU = torch.device("cpu")
VECTORS = np.eye(2, dtype=np.float32)


class Peer:
    """A sentence-transformers that takes so long for every batch size, or as much memory."""

    def __init__(self, error: type[Exception] | None = None) -> None:
        self.error = error

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray[Any, Any]:
        if self.error:
            raise self.error
        return 2 * VECTORS


def test_the_benchmark_prints_a_row_for_each_model_and_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "BATCH_SIZES", (32,))
    rows = main(["--tiny", "--device", "cpu"])
    lengths = ["16", "128", "512", "8,192", "16-512"]
    assert [row[1] for row in rows if row[0] == "Qwen3-0.6B"] == lengths
    assert [row[1] for row in rows if row[0] == "XLM-R large"] == lengths
    assert [row[1] for row in rows if row[0] == "MiniLM"] == ["16", "128", "512", "16-512"]
    # The peer is sentence-transformers itself, and computes the same vectors.
    assert all(float(row[-1]) > 0.999 for row in rows)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}


def test_the_share_of_the_peak_is_given_for_sentence_transformers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1,000 tokens, whose matrix products take half a second at least."""
    times = iter([4.0, 2.0, 8.0])
    monkeypatch.setattr(gpu, "median_seconds", lambda *_: next(times))
    speed = partial(speed_of, 1_000, 0.5)
    found = compare({"sdpa": Peer()}, ["a", "b"], VECTORS, speed, 1.0, CPU)
    assert found == ("500", "0.25", "sdpa, batch 128", "2.00", "1.0000")


@pytest.mark.parametrize(
    ("peers", "reason"),
    [({}, "not installed"), ({"sdpa": Peer(torch.OutOfMemoryError)}, "out of memory")],
)
def test_without_a_figure_of_the_peer_its_columns_are_empty(
    peers: dict[str, Any], reason: str
) -> None:
    found = compare(peers, ["a", "b"], VECTORS, partial(speed_of, 1, 1.0), 1.0, CPU)
    assert found == (reason, "", "", "", "")
