"""Long computations, in one thread beside the event loop: several threads would only compete for the interpreter."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_thread = ThreadPoolExecutor(1, thread_name_prefix="offloaded")


async def offload(function: Callable[..., T], *arguments: object) -> T:
    """What `function` answers or raises; one call after another."""
    context, loop = contextvars.copy_context(), asyncio.get_running_loop()
    return await loop.run_in_executor(_thread, lambda: context.run(function, *arguments))
