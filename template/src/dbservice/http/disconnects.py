"""Cancels requests whose client is gone: nobody waits for what they read, and others wait for their connections.

One timer looks at all requests in flight, so that a request costs an entry in a dict, and no task or timer of its own."""

import asyncio
import weakref
from typing import Any

from starlette.types import Receive

_INTERVAL = 0.5
"""Seconds from one look to the next."""


class DisconnectWatch:
    """Cancels the task of a watched request whose client is gone, on servers that say so without being awaited: uvicorn."""

    def __init__(self) -> None:
        self._in_flight: dict[asyncio.Task[Any], Any] = {}
        self._cancelled: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, receive: Receive) -> asyncio.Task[Any] | None:
        """Watch the running task, if the server allows it, until `remove`."""
        # uvicorn's record of the request: to await `receive()` would take a body away from the route
        request, task = getattr(receive, "__self__", None), asyncio.current_task()
        if task is None or not hasattr(request, "disconnected"):
            return None
        self._in_flight[task] = request
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look)
        return task

    def remove(self, task: asyncio.Task[Any]) -> None:
        del self._in_flight[task]

    def has_cancelled(self, task: asyncio.Task[Any]) -> bool:
        return task in self._cancelled

    def _look(self) -> None:
        for task, request in self._in_flight.items():
            if request.disconnected and task not in self._cancelled:
                self._cancelled.add(task)
                task.cancel()
        self._timer = None
        if self._in_flight:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look)
