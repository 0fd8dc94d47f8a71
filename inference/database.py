"""The database from the event loop: queries run in a few threads, on pooled connections."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import connection

P = ParamSpec("P")
R = TypeVar("R")

_threads = ThreadPoolExecutor(
    max_workers=settings.DATABASE_POOL_SIZE, thread_name_prefix="database"
)


async def run_in_database_thread(
    function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Await `function(*args, **kwargs)`, run in a thread that may use the ORM."""
    call = partial(_call, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


def _call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return function(*args, **kwargs)
    finally:
        connection.close()  # gives it back to the pool
