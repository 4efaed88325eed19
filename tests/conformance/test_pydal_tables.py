"""PyDAL over the tables of a service, on every engine."""

import datetime as dt
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, Unavailable, query
from dbservice.addresses import Address
from dbservice.backends.hosts import Hosts
from dbservice.service import Running
from dbservice.settings import Settings

from ..sample_service import items, order, started, users
from .reading import Group


async def refused(running: Running, unit: Callable[[DAL], Any]) -> str:
    """The type and the words of the error that a unit of work ends with."""
    with pytest.raises((TypeError, BadValue)) as raised:
        await running.writes.run(unit)
    return f"{type(raised.value).__name__}: {raised.value}"


async def test_booleans_are_stored_and_read_as_booleans(running: Running) -> None:
    def write(db: DAL) -> list[Any]:
        for email, active in (("yes", True), ("no", False)):
            db[users].insert(email=email, active=active)
        table = db[users]
        return [
            [row.active for row in db(table.id > 0).select(orderby=table.email)],
            [row.email for row in db(table.active == True).select()],  # noqa: E712
            [row.email for row in db(table.active == False).select()],  # noqa: E712
        ]

    assert await running.writes.run(write) == [[False, True], ["yes"], ["no"]]
    with closing(running.backend.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT email FROM users WHERE active")
        assert [tuple(row) for row in cursor.fetchall()] == [("yes",)]


async def test_an_update_that_changes_nothing_counts_its_rows(running: Running) -> None:
    def write(db: DAL) -> list[int]:
        row_id = db[order].insert(group="same")
        then = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)  # given, or each update would move it
        query = db(db[order].id == row_id)
        return [query.update(group="same", updated_at=then) for _ in range(3)]

    assert await running.writes.run(write) == [1, 1, 1]


@pytest.mark.parametrize("hostile", ["0 OR 1=1", "0); DELETE FROM users; --", "1e400", "NaN", "(SELECT 1)"])
async def test_a_decimal_cannot_inject_sql(running: Running, hostile: str) -> None:
    await running.writes.run(lambda db: db[users].insert(email="kept"))
    units: list[Callable[[DAL], Any]] = [
        lambda db: db[users].insert(email="a", balance=hostile),
        lambda db: db(db[users].id > 0).update(balance=hostile),
        lambda db: db(db[users].balance == hostile).delete(),
        lambda db: db(db[users].balance.belongs([hostile])).delete(),
        lambda db: db(db[users].id == hostile).delete(),
        lambda db: db(db[users].rate > hostile).delete(),
    ]
    for unit in units:
        assert (await refused(running, unit)).startswith("BadValue")
    assert await running.writes.run(lambda db: db(db[users].email == "kept").count()) == 1


async def test_a_string_is_never_interpreted_as_sql(running: Running) -> None:
    units: list[Callable[[DAL], Any]] = [
        lambda db: db(db[users].email.belongs("SELECT email FROM users")).count(),
        lambda db: db(db[users].id.belongs("1) OR (1=1")).count(),
        lambda db: db(db[users].id > 0).select(orderby="(SELECT 1)"),
        lambda db: db(db[users].id > 0).select(orderby=[db[users].email, "1"]),
        lambda db: db(db[users].id > 0).select(db[users].email, groupby="email"),
        lambda db: db(db[users].id > 0).select(db[users].email, groupby=db[users].email, having="1=1"),
        lambda db: db(db[users].id > 0).select("(SELECT password FROM users)"),
        lambda db: db(db[users].id > 0).select(limitby=(0, "1; DROP TABLE users")),
    ]
    for unit in units:
        assert (await refused(running, unit)).startswith("TypeError")

    def nested(db: DAL) -> int:
        db[items].insert(user_id=db[users].insert(email="a"))
        named = db(db[users].email == "a").nested_select(db[users].id)
        return int(db(db[items].user_id.belongs(named)).count())

    assert await running.writes.run(nested) == 1


async def test_an_unknown_name_is_refused_and_not_dropped(running: Running) -> None:
    user = await running.writes.run(lambda db: db[users].insert(email="a"))
    units: list[Callable[[DAL], Any]] = [
        lambda db: db[users].insert(email="b", emial="c"),
        lambda db: db[users].bulk_insert([{"email": "b", "emial": "c"}]),
        lambda db: db[users].update_or_insert(db[users].email == "b", email="b", emial="c"),
        lambda db: db[users].insert_row({"email": "b", "emial": "c"}),
        lambda db: db[users].update_row(user, {"emial": "c"}),
        lambda db: db(db[users].id == user).update(emial="c"),
        lambda db: db(db[users].id == user).select().first().update_record(emial="c"),
    ]
    for unit in units:
        assert await refused(running, unit) == "TypeError: users has no column emial"
    assert await running.writes.run(lambda db: db(db[users].email == "b").count()) == 0


async def test_pydal_changes_no_schema(running: Running) -> None:
    for word in ("drop", "truncate", "create_index", "drop_index"):
        message = await refused(running, lambda db, word=word: getattr(db[order], word)())  # type: ignore[misc]
        assert "only migrations change the schema" in message
    await running.writes.run(lambda db: db[order].insert())


async def test_names_that_pydal_reserves_work(running: Running) -> None:
    def write(db: DAL) -> Any:
        user = db[users].insert(email="a")
        row = db[items].insert_row(
            {"user_id": user, "update_record": "x", "as_dict": "y", "select": "z", "items": "i"}
        )
        assert db[items].get_row(row["id"]) == row
        selected = db(db[items].id == row["id"]).select().first()
        return [
            selected[db[items].column(name).name] for name in ("update_record", "as_dict", "select", "items")
        ]

    assert await running.writes.run(write) == ["x", "y", "z", "i"]


async def test_a_percent_sign_in_a_statement_is_no_placeholder(running: Running) -> None:
    like = query(Group, sa.select(order.c.id, order.c.group).where(order.c.group.like("100%d%s%%")))
    rest = query(Group, sa.select(order.c.id, order.c.group).where(order.c.id % 1 == sa.bindparam("rest")))
    await running.writes.run(lambda db: db[order].insert(group="100%d%s%%"))
    assert [row.group for row in await running.reads.all(like)] == ["100%d%s%%"]
    assert len(await running.reads.all(rest, rest=0)) == 1
    assert await running.writes.run(lambda db: db(db[order].group == "100%d%s%%").count()) == 1
    assert await running.writes.run(lambda db: db(db[order].group.like("100%")).count()) == 1
    assert (
        await running.writes.run(lambda db: db(db[order].group.contains("0%d", case_sensitive=True)).count())
        == 1
    )
    assert await running.writes.run(lambda db: db(db[order].group.startswith("%")).count()) == 0


async def test_a_statement_fails_at_once_without_a_server(
    server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(server_settings, pool=2) as running:
        connect, attempts = type(running.backend).open_connection, 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal attempts
            attempts += 1
            return connect(*arguments, **options)

        monkeypatch.setattr(type(running.backend), "open_connection", counted)
        monkeypatch.setattr(running.backend, "hosts", Hosts([Address("127.0.0.1", 1)], writes=True))
        with pytest.raises(Unavailable, match="cannot be reached"):
            await running.writes.run(lambda db: db(db[order].id > 0).count())
        assert attempts == 1  # PyDAL's own would try five times, a second apart
