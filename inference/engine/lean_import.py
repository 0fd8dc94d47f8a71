"""transformers without what takes a good part of a worker's start and is not used.

scipy: transformers asks for it wherever it is installed, for the losses of object detection alone;
it is installed because the package with MiniLM's weights requires sentence-transformers.

Its list of models: read from the source files of all of them, once for `transformers` and once more
for `transformers.models`, which names its `__init__.py` instead of its folder.
"""

from pathlib import Path
from typing import Any

import transformers.utils
from transformers.utils import import_utils

_define_import_structure = import_utils.define_import_structure


def _is_not_used() -> bool:
    return False


def _of_folder(module_path: str | Path, prefix: str | None = None) -> Any:
    path = Path(module_path)
    return _define_import_structure(path.parent if path.is_file() else path, prefix)


transformers.utils.is_scipy_available = _is_not_used  # type: ignore[attr-defined]
import_utils.define_import_structure = _of_folder  # type: ignore[assignment]
