"""What no column takes: wrong Python values given to PyDAL and to reads, bodies that are not quite JSON. Refused with a
sentence, on every engine alike; never altered, never executed."""

import datetime as dt
import json
import uuid
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dbservice import DAL, BadValue, Row, query
from dbservice import types as t
from dbservice.service import Running

from ..boundary_values import BOUNDARY_VALUES, HOSTILE_TEXTS
from ..sample_service import items, metadata, users, values
from ..unit.test_types import ALTERED, kind

COLUMNS = [column for column in values.columns if column.name in BOUNDARY_VALUES]
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
async def test_pydal_takes_no_wrong_value(running: Running, column: sa.Column[Any]) -> None:
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


class One(Row):
    """An id."""

    id: int


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.name != "json"], ids=lambda column: column.name)
async def test_no_wrong_value_is_compared(running: Running, column: sa.Column[Any]) -> None:
    """In WHERE too, where some engines would take 0 for every text."""
    name = column.name
    await running.writes.run(lambda db: db[values].insert_row({}) and None)
    statement = query(One, sa.select(values.c.id).where(column == sa.bindparam("x")))
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
async def test_no_wrong_id_is_looked_for(running: Running, wrong: Any) -> None:
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


async def test_what_is_required_is_required(running: Running) -> None:
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
async def test_a_hostile_text_is_a_text_or_refused(running: Running, column: sa.Column[Any]) -> None:
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
async def test_any_text_or_bytes_are_stored_or_refused(
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


# --- expressions: what the database would compute


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
async def test_the_database_counts(running: Running, name: str, start: Any, make: Any, end: Any) -> None:
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
async def test_what_does_not_fit_is_refused(running: Running, name: str, make: Any) -> None:
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
async def test_what_the_engines_compute_each_in_its_way_is_refused(
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


# --- bodies


@pytest.mark.parametrize(("body", "sentence"), ALTERED, ids=lambda value: repr(value[:30]))
async def test_a_body_that_would_be_altered_is_refused(
    client: httpx.AsyncClient, body: bytes, sentence: str
) -> None:
    row = (await client.post("/v1/values", json={"json": 1})).json()
    for content in (body, b'{"json": ' + body + b"}", b'{"json": [' + body + b', 1], "enum": "a"}'):
        if not content.strip().startswith(b"{") or len(content) > 1024 * 1024:
            continue
        for method, path in (("POST", "/v1/values"), ("PATCH", f"/v1/values/{row['id']}")):
            response = await client.request(
                method, path, content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code == 422, response.text
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["errors"][0]["field"] == "body" and problem["detail"].endswith(".")
            assert len(problem["detail"]) < 200 and "Traceback" not in response.text
    assert (await client.get("/v1/values")).json()["items"] == [row]


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"null",
            b"[]",
            b"5",
            b'"text"',
            b"true",
            b"[{}]",
            b'{"string": "a"} {}',
            b"{",
            b"\0",
            b"\xff" * 100,
        ),
        *(
            b'{"string": "\xff"}',
            rb'{"string": "\ud800"}',
            rb'{"\ud800": 1}',
            rb'{"a\u0000b": 1}',
            b'{"": 1}',
            b'{"id": 1}',
        ),
        *(
            b'{"created_at": "2024-01-31T13:45:00Z"}',
            b'{"strin": "a"}',
            b'{"String": "a"}',
            b'{"string": "a", "x": 1}',
        ),
        *(
            b'{"string": {"$ne": null}}',
            b'{"integer": {"__class__": 1}}',
            b'{"json": ' + b"[" * 66 + b"]" * 66 + b"}",
        ),
        b'{"' + b"x" * 10_000 + b'": 1}',
    ],
    ids=lambda content: repr(content[:30]),
)
async def test_no_body_is_an_error_of_the_service(client: httpx.AsyncClient, content: bytes) -> None:
    for content_type in (
        "application/json",
        "application/json; charset=latin-1",
        "text/plain",
        "",
        "x",
        "application/xml",
    ):
        response = await client.post("/v1/values", content=content, headers={"content-type": content_type})
        assert response.status_code == 422, response.text
        problem = response.json()
        assert problem["errors"] and problem["detail"] and all(e["message"] for e in problem["errors"])
    assert (await client.get("/v1/values")).json() == {"items": [], "next": None}


@examples(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters(codec=None), max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*BOUNDARY_VALUES, "id", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
async def test_any_body_is_stored_or_refused(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v1/values", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (201, 422), response.text
    if response.status_code == 201:
        sent = json.loads(content)
        held = response.json()
        assert (await client.get(f"/v1/values/{held['id']}")).json() == held
        for name in sent.keys() - {"decimal", "whole_decimal", "long_decimal", "longest_decimal"}:
            assert held[name] == sent[name]
