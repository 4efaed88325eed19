"""Values are sorted, compared and added up in the database as Python does it, on every engine."""

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, Row, query
from dbservice import types as t
from dbservice.service import Running

from ..assertions import kind
from ..boundary_values import BOUNDARY_VALUES, COLUMNS, OPERATORS
from ..sample_service import values

ORDERED = [c for c in COLUMNS if not isinstance(c.type, t.JSON | t.Boolean | t.Enum)]


class Value(Row):
    """One value."""

    value: Any


def _sortable(python: Any) -> Any:
    return python.hex if isinstance(python, uuid.UUID) else python


@pytest.mark.parametrize("column", ORDERED, ids=lambda column: column.name)
async def test_values_sort_and_compare_as_in_python(running: Running, column: sa.Column[Any]) -> None:
    name = column.name
    held = [kind(column).check(python) for _, python, _ in BOUNDARY_VALUES[name] if len(str(python)) < 1000]
    await running.writes.run(lambda db: [db[values].insert_row({name: value}) for value in held] and None)
    ordered = sorted(held, key=_sortable)

    def in_pydal(db: DAL, make: Any, orderby: Any = None) -> list[Any]:
        field = db[values].column(name)
        rows = db(make(field) if make else db[values].id > 0).select(field, orderby=orderby or field)
        return [row[field] for row in rows]

    class Held(Row):
        value: Any

    some = sa.select(column.label("value"))
    for statement, expected in (
        (some.order_by(column), ordered),
        (some.order_by(column.desc()), ordered[::-1]),
    ):
        rows = await running.reads.all(query(Held, statement))
        assert [repr(row.value) for row in rows] == [repr(value) for value in expected]
    assert await running.writes.run(in_pydal, None) == ordered
    for operator, compare in OPERATORS.items():
        statement = some.where(getattr(column, operator)(sa.bindparam("beside"))).order_by(column)
        compared = query(Held, statement)
        for beside in ordered[:: max(1, len(ordered) // 12)]:
            expected = [value for value in ordered if compare(_sortable(value), _sortable(beside))]
            assert [r.value for r in await running.reads.all(compared, beside=beside)] == expected, (
                operator,
                beside,
            )
            made = await running.writes.run(
                in_pydal, lambda field, o=operator, b=beside: getattr(field, o)(b)
            )
            assert made == expected, (operator, beside)


DECIMALS = [c for c in COLUMNS if isinstance(c.type, t.Numeric)]


@pytest.mark.parametrize("column", DECIMALS, ids=lambda column: column.name)
async def test_decimals_sort_and_add_up(running: Running, column: sa.Column[Any]) -> None:
    """Near one another and far apart, below zero and above, in more digits than a double or 64 bits hold."""
    kind_of = kind(column)
    assert isinstance(kind_of, t.Numeric)
    most = 10**kind_of.precision // 50
    units = [
        0,
        1,
        -1,
        2,
        -2,
        9,
        10,
        -9,
        -10,
        99,
        100,
        -100,
        most,
        most - 1,
        -most,
        1 - most,
        most // 3,
        -(most // 7),
    ]
    held = [kind_of.of_minor_units(unit) for unit in units * 2]
    await running.writes.run(
        lambda db: [db[values].insert_row({column.name: value}) for value in held] and None
    )

    async def one(expression: Any) -> Any:
        (row,) = await running.reads.all(query(Value, sa.select(expression.label("value"))))
        return row.value

    def in_pydal(db: DAL) -> Any:
        field = db[values].column(column.name)
        total, least, greatest = field.sum(), field.min(), field.max()
        (row,) = db(db[values].id > 0).select(total, least, greatest)
        descending = [r[field] for r in db(db[values].id > 0).select(field, orderby=~field)]
        return row[total], row[least], row[greatest], descending

    expected = (kind_of.of_minor_units(2 * sum(units)), min(held), max(held), sorted(held, reverse=True))
    descending = query(Value, sa.select(column.label("value")).order_by(column.desc()))
    rows = [row.value for row in await running.reads.all(descending)]
    read = (*[await one(f(column)) for f in (sa.func.sum, sa.func.min, sa.func.max)], rows)
    assert repr(read) == repr(expected)
    assert repr(await running.writes.run(in_pydal)) == repr(expected)
    equal = query(Value, sa.select(column.label("value")).where(column == sa.bindparam("x")))
    below = query(Value, sa.select(column.label("value")).where(column < sa.bindparam("x")))
    for unit in units:
        value = kind_of.of_minor_units(unit)
        assert len(await running.reads.all(equal, x=value)) == 2
        assert len(await running.reads.all(below, x=value)) == sum(one < value for one in held)
    await running.writes.run(lambda db: db(db[values].id > 0).delete())
    assert await one(sa.func.sum(column)) is None


async def test_sums_of_other_numbers_are_right(running: Running) -> None:
    numbers = (2**31 - 1, 2, -5, 7)
    await running.writes.run(
        lambda db: [db[values].insert_row({"integer": n, "float": n / 4}) for n in numbers] and None
    )

    def in_pydal(db: DAL, name: str) -> Any:
        total = db[values].column(name).sum()
        return db(db[values].id > 0).select(total).first()[total]

    for column, expected in ((values.c.integer, sum(numbers)), (values.c.float, sum(numbers) / 4)):
        (row,) = await running.reads.all(query(Value, sa.select(sa.func.sum(column).label("value"))))
        assert row.value == expected == await running.writes.run(in_pydal, column.name)
    await running.writes.run(
        lambda db: [db[values].insert_row({"bigint": -(2**63)}) for _ in range(3)] and None
    )
    (row,) = await running.reads.all(query(Value, sa.select(sa.func.sum(values.c.bigint).label("value"))))
    assert row.value == -3 * 2**63 == await running.writes.run(in_pydal, "bigint")
