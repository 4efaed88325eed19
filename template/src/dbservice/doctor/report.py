"""What a check has found, and the page of all of them."""

import enum
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass


class Status(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    status: Status
    text: str
    """What is, in a sentence without its full stop."""
    advice: str = ""
    """What to do about it, in a sentence."""


def ok(text: str) -> Finding:
    return Finding(Status.OK, text)


def warning(text: str, advice: str) -> Finding:
    return Finding(Status.WARNING, text, advice)


def failed(text: str, advice: str = "") -> Finding:
    return Finding(Status.FAILED, text, advice)


def skipped(text: str) -> Finding:
    return Finding(Status.SKIPPED, text)


def page(service: str, findings: Sequence[tuple[str, Finding]]) -> str:
    """The findings by name of the check, for people."""
    lines = []
    for name, each in findings:
        first = f"{each.status.value:8} {name:17} "
        lines += textwrap.wrap(
            each.text,
            118,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )
        if each.advice:
            arrow = " " * (len(first) - 3) + "-> "
            lines += textwrap.wrap(
                each.advice,
                118,
                initial_indent=arrow,
                subsequent_indent=" " * len(first),
                break_long_words=False,
                break_on_hyphens=False,
            )
    counts = {status: sum(each.status is status for _, each in findings) for status in Status}
    bad = [
        f"{counts[status]} {word}"
        for status, word in ((Status.FAILED, "failed"), (Status.WARNING, "warnings"))
        if counts[status]
    ]
    lines.append(f"{service}: {', '.join(bad) or 'all well'}.")
    return "\n".join(lines)


def as_json(service: str, findings: Sequence[tuple[str, Finding]]) -> str:
    """The same for programs."""
    checks = [
        {"check": name, "status": each.status.value.lower(), "text": each.text, "advice": each.advice}
        for name, each in findings
    ]
    return json.dumps({"service": service, "ok": not has_failed(findings), "checks": checks}, indent=2)


def has_failed(findings: Sequence[tuple[str, Finding]]) -> bool:
    return any(each.status is Status.FAILED for _, each in findings)
