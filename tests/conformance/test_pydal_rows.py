"""PyDAL's rows as dicts: of one table, of a join, of an aggregate, with their values as they are."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from dbservice import DAL
from dbservice.service import Running

from ..sample_service import add_users, items, order, users, values

SINCE = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)


def owner_with_items(db: DAL) -> dict[str, Any]:
    user: dict[str, Any] = db[users].insert_row(
        {"email": "owner", "balance": Decimal("12.50"), "since": SINCE, "settings": {"a": [1.5, None]}}
    )
    for key in ("x", "y"):
        db[items].insert_row({"user_id": user["id"], "key": key})
    return user


async def test_a_row_of_one_table_is_its_columns(running: Running) -> None:
    def read(db: DAL) -> Any:
        user = owner_with_items(db)
        rows = db(db[users].id == user["id"]).select()
        return user, rows.first().as_dict(), rows.as_list(), rows.as_dict()

    user, row, rows, by_id = await running.writes.run(read)
    assert row == user and rows == [user] and by_id == {user["id"]: user}


async def test_a_row_of_a_join_is_nested_by_table(running: Running) -> None:
    def read(db: DAL) -> Any:
        user = owner_with_items(db)
        table = db[items]
        rows = db(table.user_id == db[users].id).select(orderby=table.id)
        found = [row.as_dict() for row in rows]
        assert rows.as_list() == found and list(rows.as_dict().values()) == found
        return user, [table.get_row(row[table._tablename].id) for row in rows], found

    user, held, found = await running.writes.run(read)
    assert [set(row) for row in found] == [{"users", "items_"}] * 2
    for row, item, key in zip(found, held, "xy", strict=True):
        assert row["users"] == user
        assert row["items_"]["key"] == key
        assert list(row["items_"].values()) == list(item.values())


async def test_columns_of_a_join_are_nested_by_table(running: Running) -> None:
    def read(db: DAL) -> Any:
        owner_with_items(db)
        user, item = db[users], db[items]
        joined = db(user.id > 0).select(
            user.email,
            user.balance,
            user.since,
            item.key,
            left=item.on(item.user_id == user.id),
            orderby=item.id,
        )
        return joined.as_list()

    user = {"email": "owner", "balance": Decimal("12.50"), "since": SINCE}
    rows = await running.writes.run(read)
    assert rows == [{"users": user, "items_": {"key": key}} for key in "xy"]
    assert all(type(row["users"]["balance"]) is Decimal for row in rows)


async def test_an_outer_join_without_a_match_is_none_in_each_column(running: Running) -> None:
    def read(db: DAL) -> Any:
        db[users].insert_row({"email": "alone"})
        user, item = db[users], db[items]
        return (
            db(user.email == "alone")
            .select(user.email, item.id, item.key, left=item.on(item.user_id == user.id))
            .as_list()
        )

    assert await running.writes.run(read) == [
        {"users": {"email": "alone"}, "items_": {"id": None, "key": None}}
    ]


async def test_an_aggregate_is_under_extra(running: Running) -> None:
    def read(db: DAL) -> Any:
        table = db[values]
        for number, moment in ((Decimal("1.10"), SINCE), (Decimal("2.25"), SINCE + dt.timedelta(days=1))):
            table.insert_row({"string": "g", "decimal": number, "timestamp": moment, "integer": 2**31 - 1})
        count, total, latest = table.id.count(), table.decimal.max(), table.timestamp.max()
        whole = table.integer.sum()
        rows = db(table.string == "g").select(table.string, count, total, latest, whole, groupby=table.string)
        (row,) = rows.as_list()
        assert row == rows.first().as_dict()
        first = rows.first()
        assert [first[each] for each in (count, total, latest, whole)] == list(row["_extra"].values())
        assert row["_extra"][str(count)] == 2
        named = db(table.string == "g").select(total.with_alias("most"), latest.with_alias("latest"))
        return row, named.as_list()

    row, named = await running.writes.run(read)
    assert row[next(key for key in row if key != "_extra")] == {"string": "g"}
    extra = list(row["_extra"].values())
    assert extra == [2, Decimal("2.25"), SINCE + dt.timedelta(days=1), 2 * (2**31 - 1)]
    assert [type(value) for value in extra] == [int, Decimal, dt.datetime, int]
    assert named == [{"_extra": {"most": Decimal("2.25"), "latest": SINCE + dt.timedelta(days=1)}}]


async def test_rows_of_joins_and_aggregates_are_equal_when_their_values_are(running: Running) -> None:
    def read(db: DAL) -> Any:
        owner_with_items(db)
        user, item = db[users], db[items]
        one, other = db(item.user_id == user.id).select(user.id, item.key, orderby=item.id)
        (same, _) = db(item.user_id == user.id).select(user.id, item.key, orderby=item.id)
        count = item.id.count()
        groups = db(item.id > 0).select(item.key, count, groupby=item.key)
        assert repr(one) != repr(other) and "owner" not in repr(one) and "'x'" in repr(one)
        return one == same, one == other, groups[0] == groups[1]

    assert await running.writes.run(read) == (True, False, False)


async def test_what_would_alter_values_is_refused_in_joins_too(running: Running) -> None:
    def convert(db: DAL) -> Any:
        owner_with_items(db)
        rows = db(db[items].user_id == db[users].id).select()
        for alter in (
            lambda: rows.as_list(datetime_to_str=True),
            lambda: rows.first().as_dict(datetime_to_str=True),
            rows.as_json,
            rows.first().as_json,
        ):
            with pytest.raises(TypeError, match="alter decimals and times"):
                alter()

    await running.writes.run(convert)


async def test_a_row_says_nothing_of_its_methods(running: Running) -> None:
    """PyDAL puts update_record and delete_record into each row."""

    def update(db: DAL) -> Any:
        db[order].insert_row({"group": "a"})
        row = db(db[order].group == "a").select().first()
        row.update_record(group="b")
        return row.as_dict()

    row = await running.writes.run(update)
    assert set(row) == {"id", "group", "created_at", "updated_at"} and row["group"] == "b"


async def test_rows_may_be_read_one_by_one_from_the_first_statement_on(running: Running) -> None:
    await running.writes.run(add_users, "a", "b")

    def read(db: DAL) -> Any:
        db.drop_connection()
        return [row.email for row in db(db[users].id > 0).iterselect(orderby=db[users].email)]

    assert await running.writes.run(read) == ["a", "b"]
    with pytest.raises(RuntimeError, match="inside a unit of work"):
        running.writes.db(running.writes.db[users].id > 0).iterselect()
