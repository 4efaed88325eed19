"""What a span says of a statement: its text without values, what it does, and to which tables."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..redaction import redact_sql


class Described(NamedTuple):
    """A statement, by the conventions of OpenTelemetry."""

    summary: str
    """`SELECT users`: the name of its spans."""
    attributes: Mapping[str, str]


def described(sql: str, string_quotes: str) -> Described:
    """The description of `sql`, whose literals are left out."""
    return _of_redacted(redact_sql(sql, string_quotes))


described_query = lru_cache(1024)(described)
"""The same for the text of a `Query`, of which there are few."""


@lru_cache(1024)
def _of_redacted(text: str) -> Described:
    words = text.split(None, 1)
    operation = words[0].upper() if words else "?"
    tables = list(dict.fromkeys(_name(found) for found in _TABLES.finditer(text)))
    summary = " ".join([operation, *tables])[:255]
    attributes = {"db.operation.name": operation, "db.query.summary": summary, "db.query.text": text}
    if len(tables) == 1:
        attributes["db.collection.name"] = tables[0]
    return Described(summary, attributes)


def _name(found: re.Match[str]) -> str:
    return found[1].strip('"`').replace('""', '"').replace("``", "`")


_TABLES = re.compile(
    r"""(?:\AUPDATE|\b(?:FROM|JOIN|INTO))\s+(?:["`\w$]+\.)?("(?:[^"]|"")+"|`(?:[^`]|``)+`|\w+)""",
    re.IGNORECASE,
)
