"""TorchScript: torch's graphs that run without the interpreter, beside its other threads.

Torch advises `torch.export` and `torch.compile` instead. The first makes graphs that Python runs,
the second needs a compiler on the machine; docs/engine.md says what these save.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, jit

F = TypeVar("F", bound=Callable[..., Any])


def trace(function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """The operators that the function calls for those arguments, as a graph for others like them.

    What the function itself decides by their sizes and numbers becomes part of the graph: try it
    with others. Raises what torch raises for operators that it cannot trace.
    """
    with _quiet(), torch.inference_mode():
        traced = jit.trace(function, arguments, check_trace=False)  # type: ignore[no-untyped-call]

    def run(*arguments: Tensor) -> Tensor:
        # Otherwise the first calls are watched, to fuse operators for which there is no compiler.
        with jit.optimized_execution(False):  # type: ignore[attr-defined]
            result: Tensor = traced(*arguments)
        return result

    return run


def compiled_if_tracing(function: F) -> F:
    """The function; while a graph is traced, compiled, so that its branches and loops stay."""
    return compiled(function) if torch._C._is_tracing() else function


@cache
def compiled(function: F) -> F:
    """The function, written in the part of Python that TorchScript knows, without Python."""
    with _quiet():
        script: F = jit.script(function)
    return script


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        warnings.simplefilter("ignore", jit.TracerWarning)  # type: ignore[attr-defined]
        yield
