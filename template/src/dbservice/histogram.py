"""A histogram of durations for `/metrics` that costs a request next to nothing: without locks, for the event loop alone."""

from bisect import bisect_left
from collections.abc import Iterator

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
"""The upper bounds of the buckets, in seconds."""
_NAMES = (*map(str, BOUNDS), "+Inf")


class Histogram:
    """How often something took how long."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * len(_NAMES)
        self.seconds = 0.0
        """All durations together."""

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Each upper bound, and the number of durations up to it."""
        total = 0
        for name, count in zip(_NAMES, self._counts, strict=True):
            total += count
            yield name, total
