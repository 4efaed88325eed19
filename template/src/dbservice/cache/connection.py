"""The connection to Redis or Valkey: a time limit on every command, and no error while the server is away."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from ..errors import StartupError
from ..limits import Limits
from ..redaction import describe
from ..settings import Settings

logger = logging.getLogger(__name__)

_LOG_INTERVAL = 5.0


class CacheConnection:
    """The cache of the service `service`, in the server that `settings.cache_host` names; without one it is always away.

    Raises StartupError if there is a server and the package `redis` is not installed."""

    def __init__(self, service: str, settings: Settings, limits: Limits) -> None:
        self._prefix, self._limits = f"{service}:", limits
        self._target = f"{settings.cache_host}:{settings.cache_port}"
        self._closed = False
        self._away = False
        self._ask_again = 0.0
        self._logged = float("-inf")
        self._driver = load_driver() if settings.cache_host else None
        self._commands = self._subscriptions = None
        if self._driver:
            self._commands, self._subscriptions = self._driver.clients(settings)

    @property
    def is_up(self) -> bool | None:
        """Whether the server has answered the last command; None if there is no server."""
        return None if self._driver is None else not self._away

    def name_of(self, key: str) -> bytes:
        """The name of a key or channel in the server."""
        return (self._prefix + key).encode(errors="surrogatepass")

    async def run(self, *command: Any) -> Any:
        """The server's answer; None if it did not answer, or with an error."""
        client = self._commands
        if client is None:
            return None
        return await self._answer(command[0], lambda: client.execute_command(*command))

    async def run_together(self, *commands: Sequence[Any]) -> list[Any] | None:
        """The answers to commands of one transaction; None if the server did not answer, or with an error."""
        if self._commands is None:
            return None
        pipeline = self._commands.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        found: list[Any] | None = await self._answer("MULTI", pipeline.execute)
        return found

    async def messages(self, channel: bytes) -> AsyncIterator[bytes]:
        """What is published to `channel`, until `close`. Subscribes again after a failure."""
        while not self._closed:
            if self._driver is None or self._subscriptions is None:
                await asyncio.sleep(self._limits.cache_pause)
                continue
            subscription = self._subscriptions.pubsub(ignore_subscribe_messages=True)
            try:
                async with asyncio.timeout(self._limits.cache):
                    await subscription.subscribe(channel)
                while True:
                    message = await subscription.get_message(timeout=None)
                    if message is not None:
                        yield message["data"]
            except self._driver.ERRORS as error:
                if not self._closed:
                    self._log("SUBSCRIBE", error)
                    await asyncio.sleep(self._limits.cache_pause)
            finally:
                await subscription.aclose()

    async def close(self) -> None:
        """Close all connections; `messages` end."""
        self._closed = True
        for client in filter(None, (self._commands, self._subscriptions)):
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self._limits.cache):
                    await client.connection_pool.disconnect()

    async def _answer(self, command: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        assert self._driver
        now = time.monotonic()
        if now < self._ask_again:
            return None
        if self._away:  # one asks whether it is back, the others do not wait for that
            self._ask_again = now + self._limits.cache_pause
        try:
            # redis-py closes the connection of a command that is cancelled: its answer may still come
            async with asyncio.timeout(self._limits.cache):
                answer = await ask()
        except self._driver.ERRORS as error:
            if not self._driver.is_refusal(error):
                self._away = True
                self._ask_again = time.monotonic() + self._limits.cache_pause
            self._log(command, error)
            return None
        if self._away:
            self._away, self._ask_again = False, 0.0
        return answer

    def _log(self, command: str, error: BaseException) -> None:
        if time.monotonic() - self._logged < _LOG_INTERVAL:
            return
        self._logged = time.monotonic()
        if self._driver and self._driver.is_refusal(error):
            logger.warning("the cache %s refuses %s: %s", self._target, command, describe(error))
        else:
            reason = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
            logger.warning("the cache %s is away, and the service works without it: %s", self._target, reason)


def load_driver() -> Any:
    """The module `driver`. Raises StartupError if the package `redis` is not installed."""
    try:
        from . import driver
    except ImportError as error:
        raise StartupError(
            "CACHE_HOST is set, but the package redis is not installed: in pyproject.toml, add"
            ' "src/dbservice/requirements-cache.txt" to [tool.setuptools.dynamic] dependencies.'
        ) from error
    return driver
