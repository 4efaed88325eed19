"""What reads and PyDAL compute and sort in the database: the same on every engine, of the same type."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, Row, query
from dbservice.service import Running
from dbservice.types import Date, Time, Timestamp

from ..sample_service import values

c, f = values.c, sa.func
NOW = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)


class Answer(Row):
    """A row of one computed value."""

    value: Any


@pytest.fixture
async def filled(running: Running) -> Running:
    """Three rows, of which one is all NULL."""

    def fill(db: DAL) -> None:
        db[values].insert_row(
            {"string": "B", "integer": 9, "bigint": 2**62, "long_decimal": Decimal("999.5"), "boolean": True}
        )
        db[values].insert_row(
            {"string": "a", "integer": 1, "bigint": 2**62, "long_decimal": Decimal(-3), "boolean": False}
        )
        db[values].insert_row({})

    await running.writes.run(fill)
    return running


async def asked(running: Running, statement: Any, **parameters: Any) -> list[Any]:
    return [row.value for row in await running.reads.all(query(Answer, statement), **parameters)]


def of(expression: Any) -> Any:
    return sa.select(expression.label("value")).order_by(c.id)


async def test_computed_text_is_compared_and_sorted_by_code_point(filled: Running) -> None:
    text = sa.case((c.integer > 3, "B"), (c.integer < 3, "_"), else_="a")
    assert await asked(filled, sa.select(text.label("value")).order_by(text)) == ["B", "_", "a"]
    assert await asked(filled, of(c.integer).where(text == sa.bindparam("x")), x="b") == []
    assert await asked(filled, of(c.integer).where(text == sa.bindparam("x")), x="B ") == []
    assert await asked(filled, sa.select(f.max(text).label("value"))) == ["a"]
    either = sa.case((c.integer > 3, "A"), else_="a")
    assert sorted(await asked(filled, sa.select(either.label("value")).distinct())) == ["A", "a"]


async def test_sums_and_truth_have_the_types_of_python(filled: Running) -> None:
    for expression, expected in (
        (f.sum(c.integer), 10),
        (f.sum(c.bigint), 2**63),
        (f.sum(c.boolean.is_(True).cast(sa.Integer)), 1),
        (f.count(c.integer), 2),
        (f.max(c.integer), 9),
    ):
        (found,) = await asked(filled, sa.select(expression.label("value")))
        assert (type(found), found) == (int, expected)
    assert await asked(filled, of(c.integer > 3)) == [True, False, None]
    (found,) = await asked(filled, of(c.integer > 3).limit(1))
    assert found is True

    def in_pydal(db: DAL) -> list[Any]:
        totals = [db[values].column(name).sum() for name in ("integer", "bigint")]
        row = db(db[values].id > 0).select(*totals).first()
        return [row[total] for total in totals]

    assert [repr(each) for each in await filled.writes.run(in_pydal)] == ["10", str(2**63)]


async def test_sums_of_long_decimals_compare_and_sort(filled: Running) -> None:
    total = f.sum(c.long_decimal)
    groups = sa.select(c.string.label("value")).where(c.string.is_not(None)).group_by(c.string)
    assert await asked(filled, groups.having(total < sa.bindparam("x")), x=Decimal(500)) == ["a"]
    assert await asked(filled, groups.order_by(total)) == ["a", "B"]
    running_total = f.sum(c.long_decimal).over(order_by=c.id)
    assert await asked(filled, of(running_total).where(c.string.is_not(None))) == [
        Decimal("999.5"),
        Decimal("996.5"),
    ]


async def test_null_sorts_before_every_value(filled: Running) -> None:
    some = sa.select(c.integer.label("value"))
    assert await asked(filled, some.order_by(c.integer)) == [None, 1, 9]
    assert await asked(filled, some.order_by(c.integer.desc())) == [9, 1, None]
    assert await asked(filled, some.order_by("value")) == [None, 1, 9]
    assert await asked(filled, some.order_by(sa.desc("value"), c.id)) == [9, 1, None]
    assert await asked(filled, some.order_by(c.integer.nulls_last())) == [1, 9, None]
    assert await asked(filled, some.order_by(c.integer.desc().nulls_first())) == [None, 9, 1]

    def in_pydal(db: DAL, by: Any) -> list[Any]:
        field = db[values].column("integer")
        return [row[field] for row in db(db[values].id > 0).select(field, orderby=by(field, db[values].id))]

    for by, expected in (
        (lambda field, key: field, [None, 1, 9]),
        (lambda field, key: ~field, [9, 1, None]),
        (lambda field, key: ~field | key, [9, 1, None]),
        (lambda field, key: [~field, key], [9, 1, None]),
        (lambda field, key: ~key, [None, 1, 9]),
    ):
        assert await filled.writes.run(in_pydal, by) == expected


async def test_dates_and_times_of_expressions_keep_their_types(filled: Running) -> None:
    for column, value in (
        (c.timestamp, NOW),
        (c.date, NOW.date()),
        (c.time, NOW.time()),
    ):
        (found,) = await asked(filled, of(f.coalesce(column, sa.literal(value, column.type))).limit(1))
        assert (type(found), found) == (type(value), value)
    for kind, value in ((Timestamp(), NOW), (Date(), NOW.date()), (Time(), NOW.time())):
        one = sa.select(sa.literal(value, kind).label("value"))
        assert await asked(filled, one) == [value]


async def test_a_sum_of_more_than_64_bits_is_refused_and_not_rounded(filled: Running) -> None:
    with pytest.raises(BadValue):
        await asked(filled, of(c.bigint * 4))


async def test_whole_numbers_are_computed_in_64_bits(running: Running) -> None:
    await running.writes.run(lambda db: db[values].insert_row({"integer": 2**31 - 1}))
    assert await asked(running, of(c.integer + 1)) == [2**31]
    assert await asked(running, of(c.integer * 2 - 3)) == [2**32 - 5]
    assert await asked(running, of(c.integer).where(c.integer + 1 > sa.bindparam("x")), x=5) == [2**31 - 1]


async def test_a_backslash_may_be_the_escape_character(running: Running) -> None:
    await running.writes.run(
        lambda db: [db[values].insert_row({"string": each}) for each in ("a%", "ab")] and None
    )
    assert await asked(running, of(c.string).where(c.string.like("a\\%", escape="\\"))) == ["a%"]


async def test_pydal_rows_return_values_unchanged(running: Running) -> None:
    held = {"long_decimal": Decimal("12345678901234567890.5"), "timestamp": NOW, "binary": b"\0\xff"}
    await running.writes.run(lambda db: db[values].insert_row(held))

    def rows(db: DAL) -> Any:
        found = db(db[values].id > 0).select()
        for lossy in (found.as_json, found.as_csv, found.first().as_json):
            with pytest.raises(TypeError, match="alter decimals and times"):
                lossy()
        return [
            found.first().as_dict(),
            found.as_list()[0],
            db[values][found.first().id].as_dict(),
            str(found),
        ]

    *answers, _ = await running.writes.run(rows)
    for answer in answers:
        assert {name: answer[name] for name in held} == held


async def test_pydal_takes_no_parts_of_times(running: Running) -> None:
    def hour(db: DAL) -> Any:
        return db(db[values].id > 0).select(db[values].column("time").hour())

    with pytest.raises(TypeError, match="compute it in Python"):
        await running.writes.run(hour)


async def test_pydal_takes_no_averages_of_whole_numbers(filled: Running) -> None:
    def average(db: DAL, name: str) -> Any:
        field = db[values].column(name).avg()
        return db(db[values].id > 0).select(field).first()[field]

    for name in ("integer", "decimal"):
        with pytest.raises(TypeError, match="divide in Python"):
            await filled.writes.run(average, name)
    await filled.writes.run(lambda db: db(db[values].id > 0).update(float=2.5))
    assert await filled.writes.run(average, "float") == 2.5


async def test_ids_are_generated_by_the_database(running: Running) -> None:
    added = await running.writes.run(lambda db: db[values].insert_row({"integer": 1}))
    for unit in (
        lambda db: db[values].update_row(added["id"], {"id": 77}),
        lambda db: db[values].insert(id=77),
        lambda db: db(db[values].id == added["id"]).update(id=77),
    ):
        with pytest.raises(TypeError, match="the database generates ids"):
            await running.writes.run(unit)
    assert await asked(running, of(c.id)) == [added["id"]]
