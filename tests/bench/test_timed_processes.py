"""The processes with clocks, and without parts, name functions of the product: there are such."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.spans import LOG_VARIABLE


@pytest.mark.parametrize("module", ["bench.timed_web", "bench.without", "bench.timed_worker"])
def test_the_functions_that_are_replaced_are_there(module: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        LOG_VARIABLE: str(tmp_path / "spans"),
        "BENCH_WITHOUT": "authentication,limits,metering",
    }
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
