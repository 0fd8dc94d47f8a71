"""What the engine leaves out of transformers, and that it is there for others."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from inference.engine.checkpoint import WEIGHTS_FILE, IncompleteCheckpoint, load_model
from inference.engine.lean_transformers import without_first_values
from tests.inference.engine.checkpoints import CONFIGS, save_checkpoint

CPU = torch.device("cpu")


def run(code: str, *arguments: str) -> None:
    """In a process of its own, where nothing is imported yet."""
    assert subprocess.run([sys.executable, "-c", code, *arguments]).returncode == 0


def test_the_engine_computes_without_what_it_does_not_use(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from inference.engine import Encoder
for folder in sys.argv[1:]:
    encoder = Encoder(Path(folder))
    encoder.warm_up()
    assert not encoder.encode([np.arange(2, 9, dtype=np.int32)]).failed
left_out = {"scipy", "sympy", "torch._dynamo", "torch._inductor", "torch.distributed.tensor"}
assert not left_out & sys.modules.keys(), left_out & sys.modules.keys()
"""
    run(code, *(str(save_checkpoint(name, tmp_path / name)) for name in CONFIGS))


def test_what_is_left_out_is_there_for_whoever_uses_it() -> None:
    run("""
import torch, inference.engine
from transformers.masking_utils import TransformGetItemToIndex
double = torch.compile(lambda number: number * 2, backend="eager")
assert double(torch.ones(2)).tolist() == [2, 2]
assert torch._dynamo.utils.counters["stats"]["calls_captured"] == 1
from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex as of_torch
assert isinstance(TransformGetItemToIndex(), of_torch)
""")


def test_what_is_there_already_stays() -> None:
    run("""
import torch._dynamo
dynamo = torch._dynamo
import inference.engine
assert torch._dynamo is dynamo
""")


def test_the_list_of_models_is_that_of_transformers() -> None:
    run("""
import pathlib, transformers
from inference.engine import lean_transformers as lean
of_the_file = str(pathlib.Path(transformers.__file__).parent / "models" / "__init__.py")
assert len(lean._of_folder(of_the_file)) > 1
assert lean._of_folder(of_the_file) == lean._define_import_structure(of_the_file)
transformers.models.bert.modeling_bert.BertModel
transformers.BertModel
""")


def test_first_values_are_left_out_for_a_while_only() -> None:
    of_class = vars(PreTrainedModel)["get_init_context"]
    with without_first_values():
        assert nn.init.zeros_(torch.ones(1)) is None
        contexts = PreTrainedModel.get_init_context(torch.float32, False, False, None)
        assert contexts
        assert torch.device("meta") not in contexts
    assert vars(PreTrainedModel)["get_init_context"] is of_class
    assert nn.init.zeros_(torch.ones(1)).tolist() == [0]


@pytest.mark.parametrize(
    ("architecture", "unused", "needed"),
    [
        ("bert", "pooler.", "embeddings.word_embeddings.weight"),
        ("qwen3-vl", "visual.", "language_model.embed_tokens.weight"),
    ],
)
def test_a_checkpoint_without_a_weight_is_refused_by_name(
    tmp_path: Path, architecture: str, unused: str, needed: str
) -> None:
    weights = save_checkpoint(architecture, tmp_path) / WEIGHTS_FILE

    def load_without(part: str) -> None:
        tensors = load_file(weights)
        kept = {name: tensor for name, tensor in tensors.items() if part not in name}
        assert len(kept) < len(tensors)
        save_file(kept, weights, metadata={"format": "pt"})
        load_model(tmp_path, CPU, torch.float32)

    load_without(unused)
    with pytest.raises(IncompleteCheckpoint, match=f"has no {re.escape(needed)}$"):
        load_without(needed)
