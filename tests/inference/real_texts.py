"""Real texts that every machine with Python has: docstrings of the standard library."""

import ast
import sysconfig
from pathlib import Path

MODULES = [
    "argparse",
    "collections/__init__",
    "datetime",
    "decimal",
    "email/message",
    "json/encoder",
]
MODULES += ["logging/__init__", "pathlib", "random", "socket", "statistics", "subprocess"]
MODULES += ["tempfile", "textwrap", "threading", "typing", "unittest/mock", "zipfile"]


def real_texts(count: int) -> list[str]:
    """`count` different docstrings, of a few words to a few pages."""
    found: dict[str, None] = {}
    for module in MODULES:
        source = (Path(sysconfig.get_path("stdlib")) / f"{module}.py").read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found[ast.get_docstring(node) or "."] = None
    texts = [text for text in found if len(text) > 10]
    assert len(texts) >= count
    return texts[:: len(texts) // count][:count]
