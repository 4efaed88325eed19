"""What a probe found, and the table of all of them."""

import json
import threading
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.process.raw_http import Answer

HEALTH_BOUND, SHORT_HEALTH_BOUND = 1.0, 3.0
"""Seconds within which /healthz is answered during any probe; more in the short form, which runs beside other tests."""


@dataclass
class Result:
    """The counts of one probe on one engine. Its methods may be called from several threads."""

    probe: str
    items: str  # of the issue that the probe comes from
    engine: str
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    """Requests that had no answer, or one that says that the outcome is unknown."""
    wrong: Counter[str] = field(default_factory=Counter)
    memory_before: float = 0.0
    memory: float = 0.0
    """The peak in megabytes."""
    descriptors: int = 0
    latencies: list[float] = field(default_factory=list)
    """Of /healthz, in seconds."""
    seconds: float = 0.0
    note: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def passed(self) -> bool:
        return not self.wrong

    def add(self, *, accepted: int = 0, refused: int = 0, unknown: int = 0) -> None:
        """Count requests that were answered as they should be."""
        with self._lock:
            self.sent += accepted + refused + unknown
            self.accepted += accepted
            self.refused += refused
            self.unknown += unknown

    def fail(self, sentence: str, number: int = 1, *, sent: int = 0) -> None:
        """Something is wrong, so many times."""
        if number:
            with self._lock:
                self.wrong[sentence] += number
                self.sent += sent

    def check(self, condition: object, sentence: str) -> None:
        if not condition:
            self.fail(sentence)

    def expect(
        self,
        what: str,
        answer: Answer | None,
        *,
        accepted: Container[int] = (),
        refused: Container[int] = (),
    ) -> None:
        """Count a request by the status of its answer; any other status is wrong, and so is a refusal that is no problem."""
        if answer is None:
            self.fail(f"{what}: no answer", sent=1)
        elif answer.status in accepted:
            self.add(accepted=1)
        elif answer.status not in refused:
            self.fail(f"{what}: {answer.status} {_detail(answer)}", sent=1)
        elif answer.headers.get("content-type") != "application/problem+json":
            self.fail(f"{what}: {answer.status} is no problem", sent=1)
        elif answer.status == 503 and "retry-after" not in answer.headers:
            self.fail(f"{what}: 503 without Retry-After", sent=1)
        else:
            self.add(refused=1)

    def watched(self, found: dict[str, Any], *, health: bool, bound: float) -> None:
        """Take what the monitor saw. If `health` is asked for, /healthz was to be answered each time, within `bound` seconds."""
        self.memory_before = self.memory_before or found["memory_before"]
        self.memory = max(self.memory, found["memory"])
        self.descriptors = max(self.descriptors, found["descriptors"])
        self.latencies += found["latencies"]
        if health:
            self.fail(
                f"/healthz failed: {found['failures'][0] if found['failures'] else ''}",
                len(found["failures"]),
            )
            slow = [each for each in found["latencies"] if each > bound]
            if slow:
                self.fail(f"/healthz took {max(slow):.1f} s", len(slow))


def line(result: Result) -> str:
    """A row of the table."""
    times = sorted(result.latencies) or [0.0]
    return (
        f"| {result.probe:<22} | {result.items:>5} | {result.engine:<10} | {result.sent:>6} | {result.accepted:>8}"
        f" | {result.refused:>7} | {result.unknown:>7} | {sum(result.wrong.values()):>5}"
        f" | {result.memory_before:>6.0f} | {result.memory:>6.0f} | {result.descriptors:>5}"
        f" | {1000 * times[-1]:>7.0f} | {1000 * times[int(0.99 * (len(times) - 1))]:>7.0f} | {result.seconds:>5.1f} |"
        f" {result.note}"
    ).rstrip()


HEAD = (
    "| probe                  | items | engine     |   sent | accepted | refused | unknown | wrong"
    " | MB before | MB peak | files | health max ms | p99 ms | s |\n"
    "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def table(results: Sequence[Result]) -> None:
    print(f"\n{HEAD}")
    for result in results:
        print(line(result))
    failed = [result for result in results if not result.passed]
    for result in failed:
        print(f"\n{result.probe} on {result.engine}:")
        for sentence, number in sorted(result.wrong.items(), key=lambda each: "traceback" not in each[0])[
            :20
        ]:
            print(f"  {number} x {sentence}")
    total = sum(result.sent for result in results)
    print(f"\n{len(results)} probes, {total} requests, {len(failed)} probes failed.")


def _detail(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body).get("detail", ""))
    except (ValueError, AttributeError):
        return repr(answer.body[:80])
