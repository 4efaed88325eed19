"""Python values that no column takes, given to PyDAL and to reads: refused with a sentence on every engine alike,
never altered, never executed."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dbservice import DAL, BadValue, query
from dbservice import types as t
from dbservice.service import Running

from ..assertions import kind, nothing_happened
from ..boundary_values import BOUNDARY_VALUES, COLUMNS, HOSTILE_TEXTS
from ..sample_service import items, users, values
from .reading import IdRow

UTC = dt.UTC


# fmt: off
_INJECTED = (
    *(
        "1; DROP TABLE items; --", "1); DROP TABLE items; --", "'; DROP TABLE items; --", "(SELECT 1)",
        "1 OR 1=1", "NULL",
    ),
    *(
        "' || (SELECT email FROM users) || '", "1e0", "CURRENT_TIMESTAMP", "\\'; DROP TABLE items; --",
        "x' OR 'x'='x",
    ),
)


WRONG: dict[str, list[Any]] = {
    "string": [
        "a" * 41, "😀" * 41, "a\0", "\ud800", b"bytes", 5, 1.5, True, Decimal(1), ["a"], {"a": 1},
        dt.date(2024, 1, 1),
    ],
    "text": ["a\0", "\udfff", b"bytes", bytearray(b"x"), 5, True, uuid.UUID(int=1), object()],
    "integer": [
        2**31, -(2**31) - 1, 1.0, 1.5, "1", True, Decimal(1), None.__class__, float("nan"), b"1", [1],
        *_INJECTED,
    ],
    "bigint": [2**63, -(2**63) - 1, 10**400, 1.0, "1", False, Decimal("1.5"), *_INJECTED],
    "boolean": [0, 1, "T", "F", "", "true", 1.0, Decimal(1), b"\1", [], *_INJECTED],
    "decimal": [
        *(
            0.1, 1.0, float("nan"), float("inf"), "1.00", True, Decimal("NaN"), Decimal("sNaN"),
            Decimal("-Infinity"),
        ),
        *(
            Decimal("0.001"), Decimal("10000000000"), Decimal("1E+10"), Decimal("1E-3"), 10**10, b"1",
            *_INJECTED,
        ),
    ],
    "whole_decimal": [0.0, Decimal("0.5"), 10**18, "1", *_INJECTED],
    "long_decimal": [1.5, Decimal("1E+28"), Decimal("1E-11"), "1", *_INJECTED],
    "longest_decimal": [1.5, Decimal("1E+35"), Decimal("1E-31"), "1", *_INJECTED],
    "float": [
        float("nan"), float("inf"), float("-inf"), -0.0, 2**53 + 1, 10**400, "1.5", Decimal("1.5"), True, 1j,
        *_INJECTED,
    ],
    "date": [
        dt.datetime(2024, 1, 31, tzinfo=UTC), dt.datetime(2024, 1, 31), "2024-01-31", 0, dt.time(1),
        *_INJECTED,
    ],
    "time": [
        dt.time(1, tzinfo=UTC), dt.timedelta(hours=1), "01:00:00", dt.datetime(2024, 1, 31, tzinfo=UTC), 0,
        *_INJECTED,
    ],
    "timestamp": [
        *(dt.datetime(2024, 1, 31), dt.date(2024, 1, 31), "2024-01-31T13:45:00Z", 0, 1706708700.0),
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5))),
        dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-5))), *_INJECTED,
    ],
    "json": [
        *(
            "\0", float("nan"), [float("inf")], {"a": 2**63}, {1: 2}, {None: 1}, {"a": Decimal(1)},
            {"a": b"x"}, {1, 2},
        ),
        *(dt.date(2024, 1, 31), object(), ["\ud800"], {"\0": 1}, iter([1]), json.loads("[" * 65 + "]" * 65)),
    ],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "x", 5, b"0" * 16, *_INJECTED],
    "binary": ["text", "", 5, [1, 2], None.__class__, Decimal(1), *_INJECTED],
    "enum": ["A", "a ", "", "c", "a\0", 0, True, ["a"], b"a", *_INJECTED],
}
# fmt: on
"""By column of `values`, what is no value of it."""


def the_ways_to_write(name: str, row_id: int, value: Any) -> list[Any]:
    def field(db: DAL) -> Any:
        return db[values].column(name)

    return [
        lambda db: db[values].insert_row({name: value}),
        lambda db: db[values].insert(**{field(db).name: value}),
        lambda db: db[values].bulk_insert([{field(db).name: value}]),
        lambda db: db[values].update_row(row_id, {name: value}),
        lambda db: db(db[values].id == row_id).update(**{field(db).name: value}),
        lambda db: db(db[values].id == row_id).select().first().update_record(**{field(db).name: value}),
        lambda db: db[values].update_or_insert(db[values].id == row_id, **{field(db).name: value}),
        lambda db: db[values].insert(**{field(db).name: lambda: value}),
    ]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_pydal_refuses_invalid_values(running: Running, column: sa.Column[Any]) -> None:
    name = column.name
    python = kind(column).check(next(python for sent, python, _ in BOUNDARY_VALUES[name] if sent != ""))
    row = await running.writes.run(lambda db: db[values].insert_row({name: python}))
    for wrong in WRONG[name]:
        for number, write in enumerate(the_ways_to_write(name, row["id"], wrong)):
            with pytest.raises((BadValue, TypeError)) as refusal:
                await running.writes.run(write)
            if isinstance(refusal.value, BadValue):
                assert refusal.value.detail.startswith(f"{name} must "), (wrong, number)
    await nothing_happened(running, 1)
    assert await running.writes.run(lambda db: db[values].get_row(row["id"])) == row


def is_no_parameter(column: sa.Column[Any], value: Any) -> bool:
    try:
        kind(column).parameter(value)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.name != "json"], ids=lambda column: column.name)
async def test_an_invalid_value_is_refused_in_a_condition(running: Running, column: sa.Column[Any]) -> None:
    """In WHERE too, where some engines would take 0 for every text."""
    name = column.name
    await running.writes.run(lambda db: db[values].insert_row({}) and None)
    statement = query(IdRow, sa.select(values.c.id).where(column == sa.bindparam("x")))
    for wrong in WRONG[name]:

        def select(db: DAL, compare: Any) -> Any:
            return db(compare(db[values].column(name))).select()

        for compare in (
            lambda field, w=wrong: field == w,
            lambda field, w=wrong: field > w,
            lambda field, w=wrong: field.belongs([w]),
        ):
            with pytest.raises((BadValue, TypeError)):
                await running.writes.run(select, compare)
        if is_no_parameter(column, wrong):
            with pytest.raises(BadValue, match=r"^x must "):
                await running.reads.all(statement, x=wrong)
        else:  # a text that is too long, or no value of the enum: it may be asked for, and is not there
            assert isinstance(kind(column), t.String | t.Text | t.Enum)
            assert await running.reads.all(statement, x=wrong) == []
    await nothing_happened(running, 1)


@pytest.mark.parametrize("wrong", [*_INJECTED, "1", 1.5, True, Decimal(1), -(2**64), b"1", [1], float("nan")])
async def test_pydal_refuses_an_id_of_another_type(running: Running, wrong: Any) -> None:
    await running.writes.run(lambda db: db[values].insert_row({}) and None)
    for use in (
        lambda db: db[values].get_row(wrong),
        lambda db: db[values].update_row(wrong, {"string": "x"}),
        lambda db: db[values].delete_row(wrong),
        lambda db: db(db[values].id == wrong).delete(),
        lambda db: db(db[values].id.belongs([wrong])).delete(),
    ):
        with pytest.raises(BadValue, match=r"^id must be"):
            await running.writes.run(use)
    await nothing_happened(running, 1)


async def test_pydal_refuses_null_in_required_columns_and_unknown_columns(running: Running) -> None:
    user = await running.writes.run(lambda db: db[users].insert_row({"email": "a"}))
    for write in (
        lambda db: db[users].insert_row({}),
        lambda db: db[users].insert_row({"email": None}),
        lambda db: db[users].insert_row({"email": "b", "active": None}),
        lambda db: db[users].insert(),
        lambda db: db[users].insert(email=None),
        lambda db: db[users].insert(email="b", active=None),
        lambda db: db[users].insert(email="b", settings=None),
        lambda db: db[users].update_row(user["id"], {"balance": None}),
        lambda db: db(db[users].id == user["id"]).update(kind=None),
        lambda db: db(db[users].id == user["id"]).update(note=None),
        lambda db: db[items].insert_row({"user_id": None}),
    ):
        with pytest.raises(BadValue):
            await running.writes.run(write)
    for write in (
        lambda db: db[users].insert_row({"email": "b", "nickname": "x"}),
        lambda db: db[users].insert(email="b", nickname="x"),
        lambda db: db[users].update_row(user["id"], {"nickname": "x"}),
        lambda db: db(db[users].id == user["id"]).update(nickname="x"),
    ):
        with pytest.raises(TypeError, match="users has no column nickname"):
            await running.writes.run(write)
    assert await running.writes.run(lambda db: db[users].get_row(user["id"])) == user
    assert await running.writes.run(lambda db: db(db[users].id > 0).count()) == 1


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_a_hostile_text_is_stored_as_text_or_refused(running: Running, column: sa.Column[Any]) -> None:
    """In any column type: stored to the letter or refused, never executed."""
    name, stored = column.name, []
    for text in (*HOSTILE_TEXTS, *_INJECTED):
        for write in the_ways_to_write(name, 0, text)[:3]:
            try:
                await running.writes.run(write)
                stored.append(text)
            except BadValue:
                assert name not in ("string", "text", "json"), text
    await nothing_happened(running, len(stored))
    rows = await running.writes.run(
        lambda db: [
            db[values].get_row(r.id)
            for r in db(db[values].id > 0).select(db[values].id, orderby=db[values].id)
        ]
    )
    assert [row[name] for row in rows] == stored


@examples(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    column=st.sampled_from(COLUMNS),
    value=st.text() | st.text("'\"\\%;-/*\0 )(ab1😀", max_size=30) | st.binary(max_size=30),
)
async def test_any_text_or_bytes_are_stored_unchanged_or_refused(
    running: Running, column: sa.Column[Any], value: Any
) -> None:
    def write(db: DAL) -> Any:
        db(db[values].id > 0).delete()
        added = db[values].insert_row({column.name: value})
        return db[values].get_row(added["id"])[column.name]

    try:
        held = await running.writes.run(write)
    except BadValue:
        return
    assert held == value and type(held) is type(value)
