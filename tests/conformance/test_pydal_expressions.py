"""What PyDAL lets the database compute in an update or a condition, and what it refuses because engines differ."""

from decimal import Decimal
from typing import Any

import pytest

from dbservice import DAL, BadValue
from dbservice import types as t
from dbservice.service import Running

from ..assertions import nothing_happened
from ..sample_service import items, users, values


async def row_of(running: Running, **columns: Any) -> dict[str, Any]:
    row: dict[str, Any] = await running.writes.run(lambda db: db[values].insert_row(columns))
    return row


@pytest.mark.parametrize(
    ("name", "start", "make", "end"),
    [
        ("integer", 5, lambda c: c.integer + 1, 6),
        ("integer", 5, lambda c: c.integer - 7, -2),
        ("integer", 5, lambda c: c.integer * 3, 15),
        ("integer", 5, lambda c: c.integer + c.integer * 2, 15),
        ("integer", 2**31 - 2, lambda c: c.integer + 1, 2**31 - 1),
        ("integer", None, lambda c: c.integer + 1, None),
        ("bigint", 2**63 - 2, lambda c: c.bigint + 1, 2**63 - 1),
        ("bigint", 1 - 2**63, lambda c: c.bigint - 1, -(2**63)),
        ("string", "it's", lambda c: c.string, "it's"),
        (
            "long_decimal",
            t.Numeric(38, 10).check(Decimal("-1.5")),
            lambda c: c.long_decimal,
            t.Numeric(38, 10).check(Decimal("-1.5")),
        ),
    ],
)
async def test_an_update_may_compute_with_whole_numbers(
    running: Running, name: str, start: Any, make: Any, end: Any
) -> None:
    row = await row_of(running, **{name: start})

    def update(db: DAL) -> Any:
        assert db(db[values].id == row["id"]).update(**{name: make(db[values])}) == 1
        return db[values].get_row(row["id"])[name]

    assert await running.writes.run(update) == end


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("integer", lambda c: c.integer + (2**31 - 1)),
        ("integer", lambda c: c.integer * (2**31 - 1)),
        ("integer", lambda c: c.bigint),
        ("bigint", lambda c: c.bigint + (2**63 - 1)),
        ("bigint", lambda c: c.bigint * (2**63 - 1)),
        ("bigint", lambda c: c.bigint * -(2**62)),
    ],
)
async def test_an_update_whose_result_does_not_fit_is_refused(running: Running, name: str, make: Any) -> None:
    """SQLite would turn it into a double, or keep it."""
    row = await row_of(running, integer=5, bigint=2**40)
    with pytest.raises(BadValue):
        await running.writes.run(lambda db: db(db[values].id == row["id"]).update(**{name: make(db[values])}))
    assert await running.writes.run(lambda db: db[values].get_row(row["id"])) == row


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("integer", lambda c: c.integer / 2),
        ("integer", lambda c: c.integer % 2),
        ("integer", lambda c: c.string),
        ("integer", lambda c: c.boolean),
        ("integer", lambda c: c.decimal),
        ("integer", lambda c: c.float),
        ("integer", lambda c: c.float * 2),
        ("boolean", lambda c: c.integer),
        ("decimal", lambda c: c.decimal + 1),
        ("decimal", lambda c: c.decimal * 2),
        ("decimal", lambda c: c.integer),
        ("decimal", lambda c: c.whole_decimal),
        ("decimal", lambda c: c.long_decimal),
        ("long_decimal", lambda c: c.long_decimal + c.long_decimal),
        ("float", lambda c: c.float * 1e300),
        ("float", lambda c: c.integer),
        ("string", lambda c: c.text),
        ("string", lambda c: c.string + "x"),
        ("string", lambda c: c.string.upper()),
        ("string", lambda c: c.integer),
        ("text", lambda c: c.binary),
        ("date", lambda c: c.timestamp),
        ("timestamp", lambda c: c.timestamp + 1),
        ("json", lambda c: c.json + "x"),
        ("json", lambda c: c.text),
        ("enum", lambda c: c.string),
        ("uuid", lambda c: c.string),
        ("binary", lambda c: c.string),
    ],
)
async def test_an_expression_that_engines_compute_differently_is_refused(
    running: Running, name: str, make: Any
) -> None:
    row = await row_of(
        running,
        integer=5,
        decimal=Decimal("1.5"),
        float=1e300,
        string="123",
        text="x" * 50,
        boolean=True,
        bigint=5,
    )
    field = values.c[name].name
    with pytest.raises((TypeError, SyntaxError)):
        await running.writes.run(
            lambda db: db(db[values].id == row["id"]).update(**{field: make(db[values])})
        )
    with pytest.raises((TypeError, SyntaxError)):
        await running.writes.run(lambda db: db[values].insert(**{field: make(db[values])}))
    with pytest.raises((TypeError, SyntaxError)):
        await running.writes.run(lambda db: db[values].insert_row({name: make(db[values])}))
    assert await running.writes.run(lambda db: db[values].get_row(row["id"])) == row
    await nothing_happened(running, 1)


async def test_columns_that_do_not_mix_are_not_compared(running: Running) -> None:
    await row_of(running, integer=5, decimal=Decimal("5"), string="5")

    def count(db: DAL, make: Any) -> int:
        return int(db(make(db[values])).count())

    for make in (
        lambda c: c.decimal == c.integer,
        lambda c: c.decimal == c.whole_decimal,
        lambda c: c.string == c.integer,
        lambda c: c.timestamp > c.date,
        lambda c: c.uuid == c.string,
        lambda c: c.decimal * 2 > Decimal(3),
        lambda c: c.decimal + 1 > Decimal(3),
    ):
        with pytest.raises((TypeError, SyntaxError)):
            await running.writes.run(count, make)
    for make in (
        lambda c: c.integer == c.integer,
        lambda c: c.integer + 1 == 6,
        lambda c: c.integer != c.bigint,
        lambda c: c.string + "x" == "5x",
        lambda c: c.string.len() == 1,
        lambda c: c.id == c.id,
        lambda c: c.decimal >= c.decimal,
    ):
        assert await running.writes.run(count, make) == (0 if "bigint" in make.__code__.co_names else 1)
    user = await running.writes.run(lambda db: db[users].insert_row({"email": "a"}))
    await running.writes.run(lambda db: db[items].insert_row({"user_id": user["id"]}) and None)

    def joined(db: DAL, make: Any) -> int:
        return int(db(make(db[items], db[users])).count())

    for join in (lambda item, user: item.user_id == user.id, lambda item, user: user.id == item.user_id):
        assert await running.writes.run(joined, join) == 1


async def test_a_row_may_be_read_to_be_changed(running: Running) -> None:
    """The way for everything that the database does not compute."""
    row = await row_of(running, decimal=Decimal("1.50"))

    def double(db: DAL) -> Any:
        locked = db(db[values].id == row["id"]).select(db[values].decimal, for_update=True).first()
        return db[values].update_row(row["id"], {"decimal": locked.decimal * 2})["decimal"]

    assert await running.writes.run(double) == Decimal("3.00")
