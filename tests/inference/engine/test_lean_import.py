"""What the engine's import leaves out."""

import subprocess
import sys


def test_the_engine_is_imported_without_scipy() -> None:
    code = "import sys, inference.engine; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
