"""The report of a run: a table of medians, and the gates, each a ratio of the service to a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load import Sample, median, ratio
from overload import Result

Samples = Mapping[tuple[str, int, str], Sequence[Sample]]
NAMES = {"get": "GET", "list": "LIST 50", "post": "POST"}


@dataclass(frozen=True)
class Gate:
    """The service's `measure` divided by that of `base` must be at least (or at most) `bound`."""

    title: str
    operation: str
    clients: int
    measure: str
    base: str
    bound: float
    at_least: bool = True

    def value(self, samples: Samples, name: str) -> float | None:
        ours = samples.get((self.operation, self.clients, name))
        theirs = samples.get((self.operation, self.clients, self.base))
        return ratio(ours, theirs, self.measure) if ours and theirs else None


GATES = (
    Gate("GET, requests a second", "get", 64, "rps", "L1", 1.0),
    Gate("LIST, requests a second", "list", 64, "rps", "L1", 1.2),
    Gate("POST, requests a second", "post", 64, "rps", "W", 1.0),
    Gate("GET, 99th percentile", "get", 256, "p99", "L1", 1.0, at_least=False),
    Gate("GET, CPU seconds per 1000", "get", 64, "cpu", "L1", 1.0, at_least=False),
)
COPY_BOUND = 1.2
OVERLOAD_BOUND = 0.9
MAX_OTHER_LOAD = 0.1
"""Share of the machine's CPU that other programs may use before the ratios become unreliable."""


def table(samples: Samples, names: Sequence[str]) -> None:
    print(
        "\n|         |   c | server | req/s |  p50 ms |  p99 ms |  /L1 |   /W | CPU s/1k | PG s/1k | bad | other load |"
    )
    print(
        "|---------|----:|--------|------:|--------:|--------:|-----:|-----:|---------:|--------:|----:|-----------:|"
    )
    for operation, clients in dict.fromkeys((key[0], key[1]) for key in samples):
        for name in names:
            ours = samples.get((operation, clients, name))
            if not ours:
                continue
            ratios = []
            for base in ("L1", "W"):
                theirs = samples.get((operation, clients, base))
                ratios.append(f"{ratio(ours, theirs, 'rps'):.2f}" if theirs else "")
            print(
                f"| {NAMES[operation]:7} | {clients:3} | {name:6} | {median(ours, 'rps'):5.0f} | {median(ours, 'p50'):7.2f}"
                f" | {median(ours, 'p99'):7.2f} | {ratios[0]:>4} | {ratios[1]:>4} | {median(ours, 'cpu'):8.3f}"
                f" | {median(ours, 'database_cpu'):7.3f} | {sum(each.bad for each in ours):3} | {median(ours, 'other_load'):10.0%} |"
            )


def overload_table(results: Sequence[Result]) -> None:
    print(
        "\n| units of work | clients | peak, work/s | goodput, work/s | busy | answers in the time measured |"
    )
    print("|---|--:|--:|--:|--:|---|")
    for each in results:
        answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(each.overload.answers.items()))
        print(
            f"| {each.case} | {each.clients} | {each.peak.work:.2f} | {each.overload.work:.2f}"
            f" | {each.overload.busy:.0%} | {answers} |"
        )


def gates(
    samples: Samples,
    services: Sequence[str],
    copies: tuple[float, float, float] | None,
    overloads: Sequence[Result] | None = None,
) -> bool:
    """Print the gates and return whether all measured ones pass. `copies` is what `prepare.copies` returns, `overloads` what
    `overload.measure` does."""
    passed = True
    print("\n| gate | bound | service | ratio | |\n|---|---|---|--:|---|")
    for gate in GATES:
        for name in services:
            value = gate.value(samples, name)
            if value is None:
                continue
            good = value >= gate.bound if gate.at_least else value <= gate.bound
            passed = passed and good
            sign = ">=" if gate.at_least else "<="
            print(
                f"| {gate.title} at {gate.clients} clients | {sign} {gate.bound} x {gate.base} | {name}"
                f" | {value:.2f} | {'PASS' if good else 'FAIL'} |"
            )
    for each in overloads or ():
        good = each.ratio >= OVERLOAD_BOUND
        passed = passed and good
        print(
            f"| goodput, units of {each.case}, {each.clients} clients | >= {OVERLOAD_BOUND} x the peak | S"
            f" | {each.ratio:.2f} | {'PASS' if good else 'FAIL'} |"
        )
    if copies:
        ours, blank, value = copies
        good = value <= COPY_BOUND
        passed = passed and good
        print(
            f"| `copier copy` of the default service, {ours:.2f} s | <= {COPY_BOUND} x the same files, all empty,"
            f" {blank:.2f} s | S | {value:.2f} | {'PASS' if good else 'FAIL'} |"
        )
    other_load = max((each.other_load for runs in samples.values() for each in runs), default=0)
    if other_load > MAX_OTHER_LOAD:
        print(f"\nOther programs used up to {other_load:.0%} of the CPU: run it again on an idle machine.")
    return passed
