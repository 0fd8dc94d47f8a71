"""Residency: several models under one memory budget."""

from pathlib import Path

import pytest
import torch

from inference.engine import Encoder, ModelStore, ModelTooLarge, estimate_memory_bytes
from tests.inference.engine.checkpoints import save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint("nomic-bert", tmp_path_factory.mktemp("model"))


class Loader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: list[str] = []
        self.huge: set[str] = set()

    def load(self, model_id: str) -> Encoder:
        self.loaded.append(model_id)
        return Encoder(self.folder, device="cpu", dtype=torch.float32)

    def estimate_bytes(self, model_id: str) -> int:
        return (
            10**12 if model_id in self.huge else estimate_memory_bytes(self.folder, torch.float32)
        )


def store_for(loader: Loader, models: float) -> ModelStore:
    size = Encoder(loader.folder, device="cpu", dtype=torch.float32).memory_bytes
    return ModelStore(
        memory_budget_bytes=int(models * size),
        load=loader.load,
        estimate_bytes=loader.estimate_bytes,
    )


def test_the_estimate_is_what_the_weights_take(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        taken = Encoder(folder, device="cpu", dtype=dtype).memory_bytes
        assert estimate_memory_bytes(folder, dtype) == pytest.approx(taken, rel=0.1)


def test_a_model_is_loaded_once_while_it_fits(folder: Path) -> None:
    loader = Loader(folder)
    store = store_for(loader, 2.5)
    first = store.get("a")
    assert store.get("b") is not first
    assert store.get("a") is first
    assert loader.loaded == ["a", "b"]
    assert store.memory_bytes == 2 * first.memory_bytes


def test_the_least_recently_used_model_goes_first(folder: Path) -> None:
    loader = Loader(folder)
    store = store_for(loader, 2.5)
    for model_id in ("a", "b", "a", "c"):
        store.get(model_id)
    assert store.resident == ("a", "c")
    store.get("b")
    assert store.resident == ("c", "b")
    assert loader.loaded == ["a", "b", "c", "b"]


def test_a_model_larger_than_the_budget_is_refused_and_evicts_nothing(folder: Path) -> None:
    loader = Loader(folder)
    store = store_for(loader, 1.5)
    store.get("a")
    loader.huge.add("huge")
    with pytest.raises(ModelTooLarge, match="huge takes 1,000,000,000,000 bytes"):
        store.get("huge")
    assert store.resident == ("a",)
