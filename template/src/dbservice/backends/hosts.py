"""The servers that a connection may lead to, in the order in which they are tried.

One that failed is tried last until it is seen to work again: `Watch` looks, so that no request waits for a host that is
down."""

import asyncio
import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from ..addresses import Address

if TYPE_CHECKING:
    from .interface import Backend

logger = logging.getLogger(__name__)

_FILE = Address("", 0)
_SHORTEST = 2.0
"""Seconds that each of several hosts has for a connection, if its share of `Limits.connect` is less."""


class Hosts:
    """The servers for one kind of connections. Thread-safe."""

    def __init__(
        self, addresses: Sequence[Address], *, fallback: Sequence[Address] = (), writes: bool
    ) -> None:
        self.addresses = tuple(addresses) or (_FILE,)
        """Those that are meant, in the order of preference."""
        self.writes = writes
        """Whether they must take writes."""
        self._all = (*self.addresses, *(each for each in fallback if each not in self.addresses))
        self.several = len(self._all) > 1
        self._failed: dict[Address, str] = {}

    def in_order(self) -> Sequence[Address]:
        """All of them, those that failed last."""
        failed = self._failed.copy()
        return sorted(self._all, key=failed.__contains__) if failed else self._all

    def is_best(self, address: Address) -> bool:
        """Whether no server before this one is known to work."""
        return all(each in self._failed for each in self._all[: self._all.index(address)])

    def failed(self, address: Address, reason: str) -> None:
        """A connection could not be opened there, or the server cannot be used."""
        if self.several and self._failed.setdefault(address, reason) is reason:
            logger.warning("passing over %s: %s", address, reason)

    def works(self, address: Address) -> None:
        if self._failed and self._failed.pop(address, None) is not None:
            logger.info("using %s again", address)

    @property
    def failing(self) -> list[Address]:
        """Those that failed and have not worked since."""
        return list(self._failed)

    @property
    def falls_back(self) -> bool:
        """Whether none of those that are meant works."""
        return len(self._all) > len(self.addresses) and all(each in self._failed for each in self.addresses)

    def timeout(self, seconds: float) -> float:
        """The share that one of them has of the timeout for opening a connection."""
        return max(min(seconds, _SHORTEST), seconds / len(self._all))


class Watch:
    """Looks every `Limits.host_check` seconds whether servers that failed work again."""

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend
        kinds = {id(each): each for each in (backend.hosts, backend.read_hosts) if each.several}
        self._kinds: Iterable[Hosts] = kinds.values()
        self._task = asyncio.ensure_future(self._look()) if kinds else None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._backend.limits.host_check)
            for hosts in self._kinds:
                for address in hosts.failing:
                    await _in_thread(self._ask, hosts, address)

    def _ask(self, hosts: Hosts, address: Address) -> None:
        try:
            with closing(self._backend.open_usable(address, hosts)):
                hosts.works(address)
        except Exception:
            return  # as before


async def _in_thread(function: Any, *arguments: Any) -> None:
    """Run it in a daemon thread: drivers wait in C, and the end of the process must not wait for them."""
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def run() -> None:
        try:
            function(*arguments)
        finally:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="watch hosts", daemon=True).start()
    await done.wait()
