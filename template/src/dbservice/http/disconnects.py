"""Ends a GET or HEAD whose client is gone: nobody waits for what it reads, and others wait for its connection.

Other methods go on: a client may well hang up and rely on what it has asked to be stored. One timer looks at all requests
in flight, so that a request costs an entry in a dict, and no task or timer of its own."""

import asyncio
import weakref
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

_INTERVAL = 0.5
"""Seconds from one look to the next."""


class DisconnectMiddleware:
    """Cancels the task of a GET or HEAD whose client is gone, on servers that say so without being awaited: uvicorn."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._in_flight: dict[asyncio.Task[Any], Any] = {}
        self._cancelled: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        # uvicorn's record of the request: to await `receive()` would take a body away from the route
        request, task = getattr(receive, "__self__", None), asyncio.current_task()
        if task is None or not hasattr(request, "disconnected"):
            await self.app(scope, receive, send)
            return
        self._in_flight[task] = request
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look)
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if task not in self._cancelled:
                raise
            task.uncancel()
            # nobody reads it, but the metrics count it: 499 is nginx's "client closed request"
            await send({"type": "http.response.start", "status": 499, "headers": []})
        finally:
            del self._in_flight[task]

    def _look(self) -> None:
        for task, request in self._in_flight.items():
            if request.disconnected and task not in self._cancelled:
                self._cancelled.add(task)
                task.cancel()
        self._timer = None
        if self._in_flight:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look)
