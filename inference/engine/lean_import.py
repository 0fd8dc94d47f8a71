"""transformers without scipy, which takes half a second of a worker's start.

transformers asks for it wherever it is installed, for the losses of object detection alone; it is
installed because the package with MiniLM's weights requires sentence-transformers.
"""

import transformers.utils


def _is_not_used() -> bool:
    return False


transformers.utils.is_scipy_available = _is_not_used  # type: ignore[attr-defined]
