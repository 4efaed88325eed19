"""Text is unique, sorted, compared and searched by code point on every engine."""

import asyncio
import itertools
import re
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dbservice import DAL, BadValue, Conflict, Row, query
from dbservice.service import Running

from ..boundary_values import HOSTILE_TEXTS, OPERATORS
from ..sample_service import order, users, values

# fmt: off
VARIANTS = (
    *(
        "k", "K", "k ", " k", "k  ", "k\t", "k\n", "\u212a", "\uff4b", "k\u0301", "k\u200b", "k\u00ad",
        "\u200dk",
    ),
    *(
        "e", "\u00e9", "e\u0301", "E", "\u00c9", "E\u0301", "è", "ê", "ё", "\u0435", "s", "ſ", "ss", "ß", "ẞ",
        "SS",
    ),
    *(
        "ﬁ", "fi", "i", "İ", "I", "ı", "i\u0307", "æ", "ae", "œ", "oe", "\u212b", "\u00c5", "A\u030a", "å",
        "\u00b5", "\u03bc",
    ),
    *(
        "", " ", "\u00a0", "\u3000", "\ufeff", "\x01", "\x7f", "\u0080", "\u2028", "0", "00", "0 ", "\u0660",
        "\uff11",
    ),
    *("\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "😀", "😁", "👨‍👩‍👧", "👩‍👩‍👧", "\U0010ffff"),
    *(
        "日", "日本", "か", "\u304c", "か\u3099", "カ", "\uff76", "אב", "ab", "a\u0308", "\u00e4", "'", "''", "\\",
        "\\\\",
    ),
    *("%", "_", "\x1a", "a", "a ", "A", "a\x01", "a\uffff", "a😀", "T", "F", "1", "1.0", "1e0"),
)
# fmt: on
"""All different; many of them equal to one another under some collation."""


class Found(Row):
    """A value of the column under test."""

    value: str


async def found(running: Running, statement: Any, **parameters: Any) -> list[str]:
    return [row.value for row in await running.reads.all(query(Found, statement), **parameters)]


def test_the_texts_under_test_are_all_different() -> None:
    assert len(set(VARIANTS)) == len(VARIANTS) > 80


# --- unique


async def test_text_is_unique_by_code_point(client: httpx.AsyncClient, running: Running) -> None:
    for text in VARIANTS:
        response = await client.post("/v1/order", json={"group": text})
        assert response.status_code == 201 and response.json()["group"] == text, (text, response.text)
    for text in VARIANTS:
        assert (await client.post("/v1/order", json={"group": text})).status_code == 409, text
    assert sorted(await found(running, sa.select(order.c.group.label("value")))) == sorted(VARIANTS)
    first, second = (await client.get("/v1/order", params={"limit": 2})).json()["items"]
    taken = await client.patch(f"/v1/order/{first['id']}", json={"group": second["group"]})
    assert taken.status_code == 409
    assert (await client.patch(f"/v1/order/{first['id']}", json={"group": first["group"]})).status_code == 200


async def test_the_longest_text_is_unique_to_its_end(client: httpx.AsyncClient) -> None:
    for end in ("a", "b", "B", "é", "😀", " "):
        assert (await client.post("/v1/users", json={"email": "😀" * 254 + end})).status_code == 201
        assert (await client.post("/v1/users", json={"email": "😀" * 254 + end})).status_code == 409
    assert (await client.post("/v1/users", json={"email": "😀" * 256})).status_code == 422


async def test_pydal_meets_the_same_unique_constraint(running: Running) -> None:
    def insert(db: DAL, text: str) -> None:
        db[users].insert(email=text)

    for text in VARIANTS:
        await running.writes.run(insert, text)
    for text in VARIANTS:
        with pytest.raises(Conflict):
            await running.writes.run(insert, text)


# --- order


TEXT_COLUMNS = [values.c.string, values.c.text]


async def fill(running: Running, column: sa.Column[Any], texts: Any) -> None:
    def insert(db: DAL) -> None:
        db(db[values].id > 0).delete()
        for text in texts:
            db[values].insert_row({column.name: text})

    await running.writes.run(insert)


def pydal(db: DAL, column: sa.Column[Any], make: Any = None, descending: bool = False) -> list[str]:
    field = db[values].column(column.name)
    where = make(field) if make else db[values].id > 0
    return [row[field] for row in db(where).select(field, orderby=~field if descending else field)]


@pytest.mark.parametrize("column", TEXT_COLUMNS, ids=lambda column: column.name)
async def test_text_is_sorted_by_code_point(running: Running, column: sa.Column[Any]) -> None:
    await fill(running, column, VARIANTS)
    some, by_code_point = sa.select(column.label("value")), sorted(VARIANTS)
    assert await found(running, some.order_by(column)) == by_code_point
    assert await found(running, some.order_by(column.desc())) == by_code_point[::-1]
    assert await running.writes.run(pydal, column) == by_code_point
    assert await running.writes.run(pydal, column, None, True) == by_code_point[::-1]
    for f, expected in ((sa.func.min, by_code_point[0]), (sa.func.max, by_code_point[-1])):
        assert await found(running, sa.select(f(column).label("value"))) == [expected]
    assert sorted(await found(running, some.distinct())) == by_code_point
    assert sorted(await found(running, some.group_by(column))) == by_code_point


async def test_long_text_is_sorted_to_its_end(running: Running) -> None:
    """MySQL and MariaDB look at the first 1024 bytes only, as they come."""
    texts = ["x" * 3000 + end for end in ("b", "a", "é", "B", "", "😀", " ")]
    await fill(running, values.c.text, texts)
    assert await found(running, sa.select(values.c.text.label("value")).order_by(values.c.text)) == sorted(
        texts
    )
    assert await running.writes.run(pydal, values.c.text) == sorted(texts)


@examples(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), max_size=30
    )
)
async def test_any_text_is_sorted_by_code_point(running: Running, texts: list[str]) -> None:
    await fill(running, values.c.string, texts)
    statement = sa.select(values.c.string.label("value")).order_by(values.c.string)
    assert (
        await found(running, statement) == sorted(texts) == await running.writes.run(pydal, values.c.string)
    )


# --- comparison


@pytest.mark.parametrize("column", TEXT_COLUMNS, ids=lambda column: column.name)
@pytest.mark.parametrize("operator", OPERATORS)
async def test_text_is_compared_by_code_point(
    running: Running, column: sa.Column[Any], operator: str
) -> None:
    texts = sorted({*VARIANTS, *HOSTILE_TEXTS})
    await fill(running, column, texts)
    where = getattr(column, operator)(sa.bindparam("beside"))
    statement = query(Found, sa.select(column.label("value")).where(where).order_by(column))
    for beside in (*texts[::3], *HOSTILE_TEXTS):
        expected = [text for text in texts if OPERATORS[operator](text, beside)]
        assert [row.value for row in await running.reads.all(statement, beside=beside)] == expected, beside
        made = await running.writes.run(pydal, column, lambda field, b=beside: getattr(field, operator)(b))
        assert made == expected, beside


async def test_belongs_finds_exactly_the_given_texts(running: Running) -> None:
    texts = sorted({*VARIANTS, *HOSTILE_TEXTS})
    await fill(running, values.c.string, texts)
    some = [*texts[::4], "not there", "') OR ('1'='1"]
    assert await running.writes.run(pydal, values.c.string, lambda field: field.belongs(some)) == texts[::4]
    fixed = (
        sa.select(values.c.string.label("value")).where(values.c.string == texts[5]).order_by(values.c.string)
    )
    assert await found(running, fixed) == [texts[5]]


async def test_a_hostile_parameter_finds_nothing(running: Running) -> None:
    await fill(running, values.c.string, ["a", "b"])
    for column, text in itertools.product((values.c.string, values.c.text, values.c.enum), HOSTILE_TEXTS):
        assert (
            await found(running, sa.select(column.label("value")).where(column == sa.bindparam("x")), x=text)
            == []
        )
    assert len(await running.writes.run(pydal, values.c.string)) == 2


# --- patterns


# fmt: off
PATTERNS = (
    *(
        "k", "K", "k%", "K%", "%k", "%k%", "k_", "_", "__", "%", "", "é", "e%", "É%", "_\u0301", "😀", "%😀%",
        "日_",
    ),
    *(
        "/%", "%/%%", "/_", "//", "/__", "'%", "%'", "\\", "\\%", "%\\", "\\\\", "\\_", "[a-z]", "a.*", ".",
        "^k$", "*", "?",
    ),
)
# fmt: on
"""With `/` as the escape character."""


def matches(pattern: str, text: str) -> bool:
    """What LIKE means."""
    parts = re.findall(r"/.|.", pattern, re.DOTALL)
    special = {"%": ".*", "_": "."}
    return bool(re.fullmatch("".join(special.get(p) or re.escape(p[-1]) for p in parts), text, re.DOTALL))


@pytest.mark.parametrize("column", TEXT_COLUMNS, ids=lambda column: column.name)
async def test_like_is_exact(running: Running, column: sa.Column[Any]) -> None:
    await fill(running, column, VARIANTS)
    statement = query(
        Found, sa.select(column.label("value")).where(column.like(sa.bindparam("p"), escape="/"))
    )
    for pattern in PATTERNS:
        expected = sorted(text for text in VARIANTS if matches(pattern, text))
        assert sorted([row.value for row in await running.reads.all(statement, p=pattern)]) == expected, (
            pattern
        )
        made = await running.writes.run(pydal, column, lambda field, p=pattern: field.like(p, escape="/"))
        assert made == expected, pattern


@pytest.mark.parametrize("column", TEXT_COLUMNS, ids=lambda column: column.name)
async def test_pydals_searches_are_exact(running: Running, column: sa.Column[Any]) -> None:
    texts = sorted({*VARIANTS, *HOSTILE_TEXTS})
    await fill(running, column, texts)
    for part in ("k", "K", "é", "e", "%", "_", "\\", "'", "\\'", "' OR 1=1 -- ", "😀", "日", " ", "T", ";"):
        searches: list[tuple[Any, Any]] = [
            (lambda field, p=part: field.startswith(p), [t for t in texts if t.startswith(part)]),
            (lambda field, p=part: field.endswith(p), [t for t in texts if t.endswith(part)]),
            (lambda field, p=part: field.contains(p, case_sensitive=True), [t for t in texts if part in t]),
            # PyDAL takes a backslash for itself
            (lambda field, p=part: field.like(p), [t for t in texts if matches(part.replace("/", "//"), t)]),
        ]
        for number, (search, expected) in enumerate(searches):
            assert await running.writes.run(pydal, column, search) == expected, (number, part)


@pytest.mark.parametrize("column", TEXT_COLUMNS, ids=lambda column: column.name)
async def test_without_an_escape_character_a_backslash_is_one(
    running: Running, column: sa.Column[Any]
) -> None:
    texts = sorted({*VARIANTS, *HOSTILE_TEXTS})
    await fill(running, column, texts)
    some = sa.select(column.label("value"))
    p: sa.BindParameter[Any] = sa.bindparam("p")
    for pattern in ("\\", "\\%", "%\\", "%\\%", "\\_", "%\\\\%"):
        expected = [text for text in texts if matches(pattern, text)]
        assert sorted(await found(running, some.where(column.like(p)), p=pattern)) == expected
        others = [text for text in texts if text not in expected]
        assert sorted(await found(running, some.where(column.not_like(p)), p=pattern)) == others
    assert sorted(await found(running, some.where(column.contains("\\")))) == [t for t in texts if "\\" in t]


async def test_letters_are_not_folded_by_the_engines(running: Running) -> None:
    """MySQL knows what the small letter of É is, the others only of A to Z."""
    searches: list[Any] = [
        lambda field: field.lower() == "é",
        lambda field: field.upper() == "É",
        lambda field: field.ilike("é"),
        lambda field: field.contains("é", case_sensitive=False),
    ]
    for search in searches:
        with pytest.raises(TypeError, match="do not fold the same letters"):
            await running.writes.run(pydal, values.c.string, search)


async def test_a_pattern_may_be_longer_than_the_column(running: Running) -> None:
    await fill(running, values.c.string, ["a" * 40])
    like = values.c.string.like(sa.bindparam("p"))
    assert await found(
        running, sa.select(values.c.string.label("value")).where(like), p="%" + "a" * 40 + "%"
    ) == ["a" * 40]


async def test_a_length_is_counted_in_code_points(running: Running) -> None:
    await fill(running, values.c.string, VARIANTS)

    def lengths(db: DAL) -> list[tuple[str, int]]:
        field = db[values].string
        return [(row[field], row[field.len()]) for row in db(db[values].id > 0).select(field, field.len())]

    assert all(length == len(text) for text, length in await running.writes.run(lengths))
    long = sa.select(values.c.string.label("value")).where(sa.func.char_length(values.c.string) > 2)
    assert sorted(await found(running, long)) == sorted(text for text in VARIANTS if len(text) > 2)


# --- what is no text


async def test_nul_is_refused_wherever_text_goes(client: httpx.AsyncClient, running: Running) -> None:
    for path in ("/v1/order", "/v1/users"):
        name = "group" if path == "/v1/order" else "email"
        for text in ("\0", "a\0", "\0a"):
            response = await client.post(path, json={name: text})
            assert response.status_code == 422 and "NUL" in response.json()["detail"]
    for search in (
        lambda field: field == "a\0",
        lambda field: field.like("a\0%"),
        lambda field: field.startswith("\ud800"),
        lambda field: field.belongs(["a", "b\0"]),
    ):
        with pytest.raises(BadValue):
            await running.writes.run(pydal, values.c.string, search)


async def test_nothing_is_lost_between_many_writers(client: httpx.AsyncClient, running: Running) -> None:
    """Each of the connections of both pools has the session that text needs."""
    texts = [f"{number} 😀 \\' é" for number in range(40)]
    await asyncio.gather(*(client.post("/v1/values", json={"string": text}) for text in texts))
    statement = query(
        Found, sa.select(values.c.string.label("value")).where(values.c.string == sa.bindparam("x"))
    )
    rows = await asyncio.gather(*(running.reads.all(statement, x=text) for text in texts))
    assert [[row.value for row in each] for each in rows] == [[text] for text in texts]
