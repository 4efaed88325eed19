"""Where units of work run one at a time, when they deadlock again and again.

PostgreSQL finds a deadlock after a second, and units that update the same rows in opposite orders deadlock at every
meeting: with eight clients one unit a second gets through. One at a time, they take milliseconds."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any


class Lane:
    """One lock for all functions in the lane, each of which stays there for a time that its deadlocks have earned it."""

    def __init__(self) -> None:
        self.functions: dict[Any, float] = {}
        """Each with the time when it leaves the lane; empty nearly always."""
        self._lock = threading.Lock()

    def add(self, function: Callable[..., Any], lost: float, deadlocks: int) -> None:
        """Let units of `function` run one at a time, because so many deadlocks have cost one of them `lost` seconds: as long
        as that after the first, which may be the only one for a day, ten times as long after the second."""
        until = time.monotonic() + min(_LONGEST, lost if deadlocks == 1 else 10 * lost)
        key = _key(function)
        self.functions[key] = max(until, self.functions.get(key, 0.0))

    def enter(self, function: Callable[..., Any], deadline: float | None) -> "threading.Lock | None":
        """The acquired lock, to be released after the attempt; None if `function` is not in the lane, or the unit has waited
        for a third of its time: the lane spares deadlocks, and nothing is wrong without it."""
        key, now = _key(function), time.monotonic()
        until = self.functions.get(key)
        if until is None:
            return None
        if until < now:
            self.functions.pop(key, None)
            return None
        patience = max(0.0, deadline - now) / 3 if deadline is not None else _LONGEST
        return self._lock if self._lock.acquire(timeout=patience) else None


_LONGEST = 10.0
"""The most seconds that a function stays in the lane after a deadlock."""


def _key(function: Callable[..., Any]) -> Any:
    """The same for each function object that one `def` or `lambda` makes."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__code__", None) or getattr(function, "__func__", None) or type(function)
