"""transformers without what takes a good part of a worker's start and is not used.

Parts of it: scipy is asked for wherever it is installed, for the losses of object detection alone
(the package with MiniLM's weights requires sentence-transformers, which requires it). Models over
several machines and flex attention bring torch.distributed's tensors and sympy.

torch._dynamo, the compiler behind `torch.compile`: transformers marks some functions for it when
they are defined. Nothing is compiled here, so a stand-in takes those marks while transformers is
imported, and they are lost. Afterwards `torch._dynamo` is what it was before: imported by whoever
first uses it. Import the engine before other threads use torch.

What is left out is so for the whole process; whoever imports transformers.modeling_utils before the
engine has it all.

Its list of models: read from the source files of all of them, once for `transformers` and once more
for `transformers.models`, which names its `__init__.py` instead of its folder.

First values of weights that a file has: `without_first_values`.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers.utils
from transformers.utils import import_utils

DYNAMO = "torch._dynamo"
INDEXING = f"{DYNAMO}._trace_wrapped_higher_order_op"
# Decorators that say how a function is to be compiled.
MARKS = ("allow_in_graph", "assume_constant_result", "disable")
NOT_USED = (
    "is_scipy_available",
    "is_torch_distributed_available",
    "is_torch_flex_attn_available",
)

_define_import_structure = import_utils.define_import_structure


def _is_not_used() -> bool:
    return False


def _of_folder(module_path: str | Path, prefix: str | None = None) -> Any:
    path = Path(module_path)
    return _define_import_structure(path.parent if path.is_file() else path, prefix)


def _marked(function: Any = None, *_: Any, **__: Any) -> Any:
    """A mark's function as it is; or, of a mark with arguments, the decorator."""
    return _marked if function is None else function


def _index_transformation() -> Any:
    return importlib.import_module(INDEXING).TransformGetItemToIndex()


@contextmanager
def _without_dynamo() -> Iterator[None]:
    if DYNAMO in sys.modules:  # whoever imported it has waited for it
        yield
        return
    dynamo, indexing = ModuleType(DYNAMO), ModuleType(INDEXING)
    vars(dynamo).update(dict.fromkeys(MARKS, _marked))
    vars(indexing)["TransformGetItemToIndex"] = _index_transformation
    sys.modules |= {DYNAMO: dynamo, INDEXING: indexing}
    torch._dynamo = dynamo
    try:
        yield
    finally:
        del torch._dynamo, sys.modules[INDEXING], sys.modules[DYNAMO]


for name in NOT_USED:
    setattr(transformers.utils, name, _is_not_used)
    setattr(import_utils, name, _is_not_used)
import_utils.define_import_structure = _of_folder  # type: ignore[assignment]

with _without_dynamo():
    import transformers.masking_utils
    from transformers import PreTrainedModel
    from transformers.initialization import no_init_weights


@contextmanager
def without_first_values() -> Iterator[None]:
    """Models that `from_pretrained` makes meanwhile have no weights but those of their files.

    transformers makes them on the meta device, whose operators are Python (and import sympy), and
    has torch initialize them there. Not for several threads at once.
    """
    of_class = vars(PreTrainedModel)["get_init_context"]

    def on_the_processor(cls: type[PreTrainedModel], *args: Any) -> list[Any]:
        contexts = of_class.__func__(cls, *args)
        return [context for context in contexts if not isinstance(context, torch.device)]

    setattr(PreTrainedModel, "get_init_context", classmethod(on_the_processor))  # noqa: B010
    try:
        with no_init_weights():
            yield
    finally:
        setattr(PreTrainedModel, "get_init_context", of_class)  # noqa: B010
