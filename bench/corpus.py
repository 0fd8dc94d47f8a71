"""Real paragraphs that every machine with Python has: its language reference and its docstrings.

In English, of a few words to a few hundred, in an order that does not depend on the machine.
"""

import ast
import random
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

MIN_CHARACTERS = 40
MAX_CHARACTERS = 2_000


def real_paragraphs(count: int, seed: int = 0) -> list[str]:
    """`count` different paragraphs, the same for the same Python version and `seed`."""
    return random.Random(seed).sample(_all_paragraphs(), count)


@cache  # two seconds of processor time
def _all_paragraphs() -> list[str]:
    found = {
        paragraph
        for text in _documents()
        for paragraph in (" ".join(part.split()) for part in text.split("\n\n"))
        if MIN_CHARACTERS <= len(paragraph) <= MAX_CHARACTERS
    }
    return sorted(found)


def _documents() -> Iterator[str]:
    yield from topics.values()
    library = Path(sysconfig.get_path("stdlib"))
    for file in library.glob("[a-z]*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""
