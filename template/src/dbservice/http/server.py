"""uvicorn with the limits of a service, and how it stops."""

import contextvars
import functools
import gc
import logging
import signal
import time
from typing import TYPE_CHECKING, Any

import uvicorn

from .. import logs
from ..settings import Settings
from .connections import Connections, maximum_connections
from .protocol import HTTPProtocol

if TYPE_CHECKING:
    from ..service import Running, Service

logger = logging.getLogger("dbservice.cli")


async def run(service: "Service", settings: Settings, host: str, port: int) -> int:
    """Serve HTTP until a signal, and return the exit code. Raises StartupError."""
    async with service.running(settings) as running:
        limits = service.limits
        connections = Connections(limits, running.load, maximum_connections(limits, settings.db_pool_size))
        config = uvicorn.Config(
            service.app,
            host=host,
            port=port,
            lifespan="off",  # it runs already: a startup error is one line, not a traceback
            http=functools.partial(  # type: ignore[arg-type]
                HTTPProtocol, connections=connections, limits=limits, metrics=running.metrics
            ),
            log_config=None,
            access_log=logs.access_log(settings),
            timeout_graceful_shutdown=limits.drain,  # type: ignore[arg-type]
            server_header=False,
        )
        server = _Server(config, running, connections, settings.shutdown_delay)
        gc.collect()
        gc.freeze()  # excludes imported modules from later collections, which saves tens of milliseconds each
        # with Python's 700, every few requests cause a collection, which visits all requests in flight
        gc.set_threshold(7000, 10, 10)
        try:
            await server.serve()
        except SystemExit:  # uvicorn has logged why it cannot listen
            return 1
    return 0


class _Server(uvicorn.Server):
    """uvicorn's server, which is not ready for `delay` seconds before it stops: those who send it requests hear of it by
    /readyz, and send none to a closed port. SIGINT and a second signal stop it at once."""

    def __init__(
        self, config: uvicorn.Config, running: "Running", connections: Connections, delay: float
    ) -> None:
        super().__init__(config)
        self._running, self._connections, self._delay = running, connections, delay
        running.load.tasks = self.server_state.tasks
        self._stops_at: float | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        # a signal interrupts some request, which its lines of the log are not about
        contextvars.Context().run(self._handle_exit, sig, frame)

    def _handle_exit(self, sig: int, frame: Any) -> None:
        running = self._running
        if not running.draining and sig == signal.SIGTERM and self._delay:
            logger.info("stopping on SIGTERM in %g seconds", self._delay)
            self._stops_at = time.monotonic() + self._delay
        else:
            logger.info("stopping on %s", signal.Signals(sig).name)
            self._stops_at = time.monotonic()
            super().handle_exit(sig, frame)
            self._captured_signals.clear()  # uvicorn would raise the signal again before the pools are closed
        running.draining = True
        self._connections.drain()
        ends_at = self._stops_at + running.service.limits.drain
        running.ends_at = min(ends_at, running.ends_at or ends_at)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._connections.start()

    async def on_tick(self, counter: int) -> bool:
        if self._stops_at is not None and time.monotonic() >= self._stops_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            self._connections.stop()
