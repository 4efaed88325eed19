"""Log lines for the answers with 503 and other statuses of 500 and above: the first at once, further ones of the same kind
as one line a second, with their number. Under overload they would otherwise be most of the log, and of the work."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

from fastapi import Request

from ..correlation import NO_REQUEST

logger = logging.getLogger("dbservice.http")


class RefusalLog:
    """Of one application."""

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, str, str, int]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self,
        request: Request,
        status: int,
        detail: str,
        cause: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """`request` is answered with this status. `cause` and `fields` are logged with the first of its kind."""
        kind = (request.method, getattr(request.scope.get("route"), "path", "?"), detail, status)
        if kind in self._counted:
            self._counted[kind] += 1
            return
        if len(self._counted) < _MOST_KINDS:
            self._counted[kind] = 0
        logger.warning("%s %s: %s %s", *kind[:3], cause or f"(answered with {status})", extra=fields)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._report, context=NO_REQUEST)

    def _report(self) -> None:
        self._timer = None
        counted, self._counted = self._counted, Counter()
        for kind, count in counted.items():
            if count:
                logger.warning("%s %s: %s (answered with %d, %d times more within a second)", *kind, count)
                self._counted[kind] = 0  # it goes on: no line of its own for the next one
        if self._counted:
            self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._report, context=NO_REQUEST)


_PERIOD = 1.0
"""Seconds."""
_MOST_KINDS = 100
"""That are counted at a time: a service may put anything into a detail."""
