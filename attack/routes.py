"""Routes that the probes add to the stamped service: what a service's own code could do, and an attacker make use of."""

import time
from collections.abc import Callable
from typing import Any

from pydal.objects import Expression
from sqlalchemy import column, text

from dbservice import DAL, BadValue, Reads, Row, Writes, query
from dbservice.http import Router

from ..tables import Users

router = Router("attack")


class Hostile:
    """An object whose text is SQL."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def __str__(self) -> str:
        return self.sql

    __repr__ = __str__


class IdRow(Row):
    id: int


@router.post("/units", status_code=201)
async def slow_unit(body: dict[str, Any], writes: Writes) -> str:
    """Insert a user by a unit of work that takes so many seconds."""

    def unit(db: DAL) -> None:
        time.sleep(body["seconds"])
        db[Users].insert(email=body["email"])

    await writes.run(unit)
    return "done"


@router.post("/pairs/{first}/{second}")
async def update_both(first: int, second: int, writes: Writes) -> str:
    """Add 1 to the visits of both users, in this order."""

    def unit(db: DAL) -> None:
        users = db[Users]
        for each in (first, second):
            db(users.id == each).update(visits=users.visits + 1)

    await writes.run(unit)
    return "done"


@router.post("/sql/{way}")
async def sql(way: str, body: dict[str, str], writes: Writes, reads: Reads) -> list[Any]:
    """Let a string from the client reach PyDAL, the driver or a read where SQL could stand; 422 where it is refused."""
    given = body["sql"]
    try:
        if way == "read":
            statement = text("SELECT id FROM users WHERE email = :given").columns(column("id"))
            return [row.id for row in await reads.all(query(IdRow, statement), given=Hostile(given))]
        return await writes.run(lambda db: _rows(WAYS[way](db, given)))
    except (TypeError, SyntaxError) as error:
        raise BadValue("sql", f"is refused: {error}") from None


def _rows(found: Any) -> list[Any]:
    return [found] if isinstance(found, int) else [str(row) for row in found or ()]


def _placeholder(db: DAL) -> str:
    return "?" if db._adapter.dbengine == "sqlite" else "%s"


WAYS: dict[str, Callable[[DAL, str], Any]] = {
    "query": lambda db, s: db(s).select(db[Users].id),
    "and": lambda db, s: db((db[Users].id > 0) & s).select(db[Users].id),
    "delete": lambda db, s: db((db[Users].id > 0) | s).delete(),
    "orderby": lambda db, s: db(db[Users].id > 0).select(db[Users].id, orderby=db[Users].id | s),
    "orderby text": lambda db, s: db(db[Users].id > 0).select(db[Users].id, orderby=s),
    "groupby": lambda db, s: db(db[Users].id > 0).select(db[Users].id, groupby=db[Users].id | s),
    "having": lambda db, s: db(db[Users].id > 0).select(
        db[Users].id, groupby=db[Users].id, having=(db[Users].id > 0) & s
    ),
    "distinct": lambda db, s: db(db[Users].id > 0).select(db[Users].id, distinct=s),
    "count": lambda db, s: db(db[Users].id > 0).count(distinct=s),
    "limitby": lambda db, s: db(db[Users].id > 0).select(db[Users].id, limitby=(0, s)),
    "select": lambda db, s: db(db[Users].id > 0).select(s),
    "left": lambda db, s: db(db[Users].id > 0).select(db[Users].id, left=s),
    "join": lambda db, s: db(db[Users].id > 0).select(db[Users].id, join=[s]),
    "escape": lambda db, s: db(db[Users].email.like("a", escape=s)).select(db[Users].id),
    "alias": lambda db, s: db(db[Users].id > 0).select(db[Users].id.with_alias(s)),
    "cast": lambda db, s: db(db[Users].id > 0).select(db[Users].email.cast("string", length=s)),
    "belongs": lambda db, s: db(db[Users].id.belongs(s)).select(db[Users].id),
    "coalesce": lambda db, s: db(db[Users].id > 0).select(db[Users].email.coalesce(Expression(db, s))),
    "update": lambda db, s: db(db[Users].id > 0).update(email=Expression(db, s)),
    "insert": lambda db, s: db[Users].insert(email=Expression(db, s)),
    "parameter": lambda db, s: db.executesql(
        f"SELECT id FROM users WHERE email = {_placeholder(db)}", [Hostile(s)]
    ),
    "parameters": lambda db, s: db.executesql(
        f"SELECT id FROM users WHERE email = {_placeholder(db)}", [[Hostile(s)]]
    ),
    "two statements": lambda db, s: db.executesql(f"SELECT 1; {s}"),
}
