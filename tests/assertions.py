"""Assertions that many tests share."""

from contextlib import closing
from typing import Any

import httpx
import sqlalchemy as sa

from dbservice import DAL
from dbservice import types as t
from dbservice.service import Running

from .sample_service import metadata, values

SECRET = "geheim-4711"
"""A value that no answer and no log may hold."""


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that `answer` is, which must be this one and complete."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (
        {"type", "title", "status", "detail"}
        <= body.keys()
        <= {"type", "title", "status", "detail", "errors"}
    )
    assert body["status"] == status and body["detail"].endswith(".")
    assert ("retry-after" in answer.headers) == (status == 503)
    return body


def kind(column: sa.Column[Any]) -> t.ColumnType:
    assert isinstance(column.type, t.ColumnType)
    return column.type


def identical(one: Any, other: Any) -> bool:
    """Equal, of the same type, and told apart by nothing that Python shows."""
    return type(one) is type(other) and one == other and repr(one) == repr(other)


def written(db: DAL) -> int:
    return int(db(db[values].id > 0).count())


async def nothing_happened(running: Running, rows: int) -> None:
    assert await running.writes.run(written) == rows
    with closing(running.backend.connect()) as connection:
        cursor = connection.cursor()
        for table in metadata.sorted_tables:
            cursor.execute(
                f"SELECT count(*) FROM {running.backend.dialect().identifier_preparer.quote(table.name)}"
            )
            assert len(cursor.fetchall()) == 1
