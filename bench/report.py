"""What a run found: a table of medians, and the gates, each a ratio of the service to a hand-written server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load import Sample, median, ratio

Samples = Mapping[tuple[str, int, str], Sequence[Sample]]
NAMES = {"get": "GET", "list": "LIST 50", "post": "POST"}


@dataclass(frozen=True)
class Gate:
    """`measure` of the service, divided by that of `base`, must be at least (or at most) `bound`."""

    sentence: str
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
QUIET = 0.1
"""Share of the machine that other programs may take before the ratios are not worth much."""


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


def gates(
    samples: Samples, services: Sequence[str], copies: Mapping[str, tuple[float, float]] | None
) -> bool:
    """Print them; whether the service passes all that were measured."""
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
                f"| {gate.sentence} at {gate.clients} clients | {sign} {gate.bound} x {gate.base} | {name}"
                f" | {value:.2f} | {'PASS' if good else 'FAIL'} |"
            )
    if copies:
        (ours, _), (empty, value) = copies["template"], copies["empty"]
        good = value <= COPY_BOUND
        passed = passed and good
        print(
            f"| `copier copy` of the default service, {ours:.2f} s | <= {COPY_BOUND} x an empty template, {empty:.2f} s"
            f" | S | {value:.2f} | {'PASS' if good else 'FAIL'} |"
        )
        same, value = copies["same files"]
        print(
            f"| (Copier's own cost per file: the same files, all empty, nothing asked, {same:.2f} s) | | S | {value:.2f} | |"
        )
    loudest = max((each.other_load for runs in samples.values() for each in runs), default=0)
    if loudest > QUIET:
        print(f"\nOther programs took up to {loudest:.0%} of the machine: run it again on a quiet one.")
    return passed
