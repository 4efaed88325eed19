"""Values in statements that are built at run time: what a client sent is refused as it is in a parameter, and what the
programmer did wrong stays a TypeError."""

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.sql import ColumnElement

from dbservice import BadValue, Reads, Row, query
from dbservice.http import Router
from dbservice.service import Running
from dbservice.settings import Settings

from ..assertions import problem
from ..sample_service import sample_service, served, users, values
from .reading import IdRow

c = values.c
IDS = sa.select(c.id).order_by(c.id)

BAD: list[tuple[str, Any, str]] = [
    ("string", "a\0b", "must not contain the character NUL (U+0000)"),
    ("string", "\ud800", "must not contain half of a surrogate pair"),
    ("string", 5, "must be a string"),
    ("text", b"x", "must be a string"),
    ("enum", 1, "must be a string"),
    ("integer", "5", "must be a whole number"),
    ("integer", 1.0, "must be a whole number"),
    ("integer", True, "must be a whole number"),
    ("integer", 2**31, "must be between -2147483648 and 2147483647"),
    ("bigint", 2**63, "must be between -9223372036854775808 and 9223372036854775807"),
    ("boolean", 1, "must be true or false"),
    ("float", float("nan"), "must be a finite number"),
    ("float", "1", "must be a number"),
    ("date", "2024-01-31", "must be a date"),
    ("date", dt.datetime(2024, 1, 31, tzinfo=dt.UTC), "must be a date"),
    ("time", dt.time(1, tzinfo=dt.UTC), "must be a time of day without an offset"),
    ("timestamp", dt.datetime(2024, 1, 31), "must have an offset from UTC"),
    ("timestamp", "2024-01-31T00:00:00Z", "must be a timestamp"),
    ("uuid", str(uuid.UUID(int=1)), "must be a UUID"),
    ("binary", "x", "must be bytes"),
]
COMPARE: list[Callable[[Any, Any], ColumnElement[bool]]] = [
    lambda column, value: column == value,
    lambda column, value: column != value,
    lambda column, value: column < value,
    lambda column, value: value >= column,
    lambda column, value: column.between(value, value),
    lambda column, value: column.in_([value]),
    lambda column, value: column.is_distinct_from(value),
    lambda column, value: sa.and_(c.id > 0, sa.or_(c.id == 1, column == value)),
    lambda column, value: c.id.in_(sa.select(c.id).where(column == value)),
    lambda column, value: sa.exists().where(column == value),
]


@pytest.mark.parametrize(("name", "value", "sentence"), BAD)
def test_a_value_that_its_column_cannot_hold_is_the_clients_fault(
    name: str, value: Any, sentence: str
) -> None:
    for compare in COMPARE:
        with pytest.raises(BadValue) as raised:
            query(IdRow, IDS.where(compare(c[name], value)))
        assert raised.value.detail == f"{name} {sentence}"
        assert raised.value.errors == [{"field": name, "message": sentence}]


@pytest.mark.parametrize(("name", "value", "sentence"), BAD)
async def test_in_a_parameter_it_is_refused_with_the_same_message(
    running: Running, name: str, value: Any, sentence: str
) -> None:
    asked = query(IdRow, IDS.where(c[name] == sa.bindparam(name)))
    with pytest.raises(BadValue) as raised:
        await running.reads.all(asked, **{name: value})
    assert raised.value.detail == f"{name} {sentence}"


def test_the_value_itself_is_not_repeated() -> None:
    for compare in COMPARE:
        with pytest.raises(BadValue) as raised:
            query(IdRow, IDS.where(compare(c.string, "geheim\0")))
        assert "geheim" not in f"{raised.value} {raised.value.errors}"


def test_each_value_is_named_after_its_column() -> None:
    for condition, field in (
        (c.string.like("a\0%"), "string"),
        (c.string.contains("\0"), "string"),
        (c.string.concat("\0") == "x", "string"),
        (c.integer + "x" > 5, "integer"),
        (sa.literal("x", c.integer.type) == c.integer, "integer"),
        (c.integer == sa.bindparam("number", "x", c.integer.type), "number"),
        (sa.func.coalesce(c.string, "\0") == c.string, "a value"),
        (sa.func.char_length(c.string) > 2**70, "a value"),
        (sa.func.max(c.integer) == "x", "a value"),
    ):
        with pytest.raises(BadValue) as raised:
            query(IdRow, sa.select(c.id).where(condition))
        assert [each["field"] for each in raised.value.errors or ()] == [field], condition


def test_what_the_programmer_did_wrong_is_named_before_any_value() -> None:
    """Whatever the client sent, a statement that is wrong by itself is not its fault."""
    for wrong in (
        c.decimal == c.integer,
        c.json == "x",
        sa.func.lower(c.string) == "a\0",
        sa.func.coalesce(c.decimal, 1) == Decimal(1),
        sa.literal(Decimal(1)) == sa.literal_column("1"),
    ):
        for statement in (
            IDS.where(wrong, c.string == "\0"),
            IDS.where(c.string == "\0", wrong),
            IDS.where(wrong).limit(-1),
        ):
            with pytest.raises(TypeError):
                query(IdRow, statement)


async def test_a_client_reads_422_where_a_statement_is_built_for_each_request(
    migrated: Settings, tmp_path: Path
) -> None:
    router = Router("search")

    @router.get("")
    async def search(
        reads: Reads, email: str | None = None, rate: float | None = None, top: int = 10, skip: int = 0
    ) -> list[IdRow]:
        statement = sa.select(users.c.id)
        if email is not None:
            statement = statement.where(users.c.email == email)
        if rate is not None:
            statement = statement.where(users.c.rate < rate)
        return await reads.all(query(IdRow, statement.limit(top).offset(skip)))

    service = sample_service(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as client:
        assert (await client.get("/v1/search?email=nobody&rate=0.5")).json() == []
        for asked, field in (
            ("email=a%00b", "email"),
            ("rate=nan", "rate"),
            ("rate=inf", "rate"),
            ("top=-1", "limit"),
            (f"top={2**63}", "limit"),
            ("skip=-1", "offset"),
            (f"skip={2**64}", "offset"),
        ):
            body = problem(await client.get(f"/v1/search?{asked}"), 422)
            assert [each["field"] for each in body["errors"]] == [field], asked


# --- LIMIT and OFFSET

NOT_A_COUNT: list[tuple[Any, str]] = [
    (-1, "must be between 0 and 9223372036854775807"),
    (2**63, "must be between 0 and 9223372036854775807"),
    (-(2**70), "must be between 0 and 9223372036854775807"),
    ("5", "must be a whole number"),
    ("a dozen", "must be a whole number"),
    (True, "must be a whole number"),
    (1.5, "must be a whole number"),
    (Decimal(2), "must be a whole number"),
    (None, "must be a whole number"),
]


@pytest.mark.parametrize(("value", "sentence"), NOT_A_COUNT)
async def test_a_limit_or_offset_that_is_no_number_of_rows_is_refused(
    running: Running, value: Any, sentence: str
) -> None:
    limit: Any = sa.bindparam("limit")
    offset: Any = sa.bindparam("offset")
    inside = sa.select(c.id).order_by(c.id).limit(limit).offset(offset).subquery()
    for statement in (IDS.limit(limit).offset(offset), sa.select(inside.c.id)):
        asked = query(IdRow, statement)
        for name, given in (("limit", (value, 0)), ("offset", (1, value))):
            with pytest.raises(BadValue) as raised:
                await running.reads.all(asked, limit=given[0], offset=given[1])
            assert raised.value.errors == [{"field": name, "message": sentence}]
    assert running.reads.in_use == 0


@pytest.mark.parametrize("value", [-1, 2**63, -(2**70)])
def test_a_limit_or_offset_in_the_statement_is_checked_too(value: int) -> None:
    for name in ("limit", "offset"):
        bounded = getattr(IDS, name)(value)
        for statement in (bounded, IDS.where(c.id.in_(bounded)), sa.select(bounded.subquery().c.id)):
            with pytest.raises(BadValue) as raised:
                query(IdRow, statement)
            assert raised.value.detail == f"{name} must be between 0 and 9223372036854775807"


async def test_any_number_of_rows_may_be_asked_for(running: Running) -> None:
    for _ in range(3):
        await running.writes.run(lambda db: db[values].insert_row({}) and None)
    every = await running.reads.all(query(IdRow, IDS))
    parameters = query(IdRow, IDS.limit(sa.bindparam("limit")).offset(sa.bindparam("offset")))
    for limit, offset in ((0, 0), (1, 1), (2, 0), (3, 2), (2**63 - 1, 1), (1, 2**63 - 1)):
        expected = every[offset : offset + limit]
        assert await running.reads.all(query(IdRow, IDS.limit(limit).offset(offset))) == expected
        assert await running.reads.all(parameters, limit=limit, offset=offset) == expected


class Number(Row):
    """The key of a page."""

    id: int


@pytest.mark.parametrize("limit", [0, -1, -5, 2**63 - 1, 2**63, "5", True, 1.5, None])
async def test_a_page_of_no_number_of_rows_is_refused(running: Running, limit: Any) -> None:
    await running.writes.run(lambda db: db[values].insert_row({}) and None)
    pages = query(Number, sa.select(c.id).order_by(c.id).limit(sa.bindparam("limit")))
    with pytest.raises(BadValue) as raised:
        await running.reads.page(pages, limit=limit)
    assert [each["field"] for each in raised.value.errors or ()] == ["limit"]
