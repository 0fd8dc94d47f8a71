"""What `make bench` compares is tried alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import run
from bench.encoding import find_dtypes
from bench.peers import Infinity


@pytest.mark.parametrize(
    ("capabilities", "chosen", "tried"),
    [
        ({"avx512_bf16": True}, torch.float32, ["float32", "bfloat16"]),
        ({"amx_bf16": True}, torch.bfloat16, ["bfloat16", "float32"]),
        ({"avx512_f": True}, torch.float32, ["float32"]),
    ],
)
def test_infinity_is_tried_in_the_types_that_sentence_transformers_is(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    chosen: torch.dtype,
    tried: list[str],
) -> None:
    asked: list[str] = []

    @contextmanager
    def running_infinity(workload: object, dtype: str, log: Path) -> Iterator[Infinity]:
        yield Infinity(dtype=dtype, port=0)

    def measure_http_path(
        annex: object, engine: object, infinities: Sequence[Infinity], **_: object
    ) -> None:
        asked.extend(infinity.dtype for infinity in infinities)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(run, "find_why_no_infinity", lambda: "")
    monkeypatch.setattr(run, "running_infinity", running_infinity)
    monkeypatch.setattr(run, "measure_http_path", measure_http_path)
    engine: Any = SimpleNamespace(encoder=SimpleNamespace(dtype=chosen), workload=None)
    annex: Any = None
    assert dict(run._measure_annex(annex, engine, run.FULL, ["http"])) == {"http": None}
    assert asked == tried
    assert [str(dtype) for dtype in find_dtypes(engine)] == [f"torch.{dtype}" for dtype in tried]
