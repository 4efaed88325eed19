"""SQL as text: refused wherever PyDAL takes it, one statement at a time where it is asked for, values by their type."""

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg2.extensions
import pytest
import sqlalchemy as sa
from pydal.objects import Expression, Field, Query, Table

from dbservice import DAL, BadValue, query
from dbservice.service import Running

from ..sample_service import add_users, items, users, values
from ..subclass_values import Colour, Liar, LyingDecimal, LyingInt
from .reading import IdRow

HOSTILE = "1; DELETE FROM users; --"


class Hostile:
    """An object whose text is SQL, as drivers and PyDAL put it into statements."""

    def __str__(self) -> str:
        return "' OR 1=1 -- "

    __repr__ = __str__

    def __format__(self, _: str) -> str:
        return str(self)

    def __conform__(self, protocol: Any) -> Any:  # of psycopg2 and sqlite3
        return psycopg2.extensions.AsIs("1=1") if protocol is psycopg2.extensions.ISQLQuote else "1=1"


class HostileText(Liar):
    """A string whose str() is another."""


Unit = Callable[[DAL], Any]

REFUSED: dict[str, Unit] = {
    "db()": lambda db: db(HOSTILE).select(db[users].id),
    "db() of a dict": lambda db: db({"op": HOSTILE, "first": None}).select(db[users].id),
    "db()()": lambda db: db(db[users].id > 0)(HOSTILE).select(),
    "and": lambda db: db((db[users].id > 0) & HOSTILE).select(),
    "or": lambda db: db((db[users].id > 0) | HOSTILE).delete(),
    "not": lambda db: db(~Query(db, HOSTILE)).select(db[users].id),
    "Expression": lambda db: db(Expression(db, HOSTILE)).select(db[users].id),
    "Expression raw": lambda db: db(
        db[users].id == Expression(db, db._adapter.dialect.raw, HOSTILE)
    ).select(),
    "orderby |": lambda db: db(db[users].id > 0).select(orderby=db[users].id | HOSTILE),
    "orderby ~": lambda db: db(db[users].id > 0).select(orderby=~Expression(db, HOSTILE)),
    "orderby object": lambda db: db(db[users].id > 0).select(orderby=Hostile()),
    "groupby |": lambda db: db(db[users].id > 0).select(db[users].id, groupby=db[users].id | HOSTILE),
    "having": lambda db: db(db[users].id > 0).select(
        db[users].id, groupby=db[users].id, having=(db[users].id > 0) & HOSTILE
    ),
    "having object": lambda db: db(db[users].id > 0).select(
        db[users].id, groupby=db[users].id, having=Hostile()
    ),
    "distinct": lambda db: db(db[users].id > 0).select(distinct=HOSTILE),
    "distinct list": lambda db: db(db[users].id > 0).select(distinct=[HOSTILE]),
    "distinct object": lambda db: db(db[users].id > 0).select(distinct=Hostile()),
    "distinct alias": lambda db: db(db[users].id > 0).select(distinct=db[users].id.with_alias(HOSTILE)),
    "count distinct": lambda db: db(db[users].id > 0).count(distinct=HOSTILE),
    "count distinct list": lambda db: db(db[users].id > 0).count(distinct=[db[users].id, HOSTILE]),
    "limitby": lambda db: db(db[users].id > 0).select(limitby=(0, HOSTILE)),
    "select": lambda db: db(db[users].id > 0).select(HOSTILE),
    "select object": lambda db: db(db[users].id > 0).select(Hostile()),
    "left": lambda db: db(db[users].id > 0).select(left=HOSTILE),
    "join": lambda db: db(db[users].id > 0).select(join=[HOSTILE]),
    "on": lambda db: db(db[users].id > 0).select(left=db[items].on(HOSTILE)),
    "nested_select": lambda db: db(
        db[items].id.belongs(db(db[users].id > 0).nested_select(db[users].id, orderby=db[users].id | HOSTILE))
    ).select(),
    "belongs": lambda db: db(db[users].id.belongs(HOSTILE)).select(),
    "union": lambda db: db(db[users].id > 0).cte("c", db[users].id).union(HOSTILE),
    "union type": lambda db: db(db[users].id > 0).cte("c", db[users].id).union([], f"UNION {HOSTILE}"),
    "cte name": lambda db: db(cte(db, HOSTILE).id > 0).select(),
    "like escape": lambda db: db(db[users].email.like("a", escape=f"' OR {HOSTILE}")).select(),
    "like quote": lambda db: db(db[users].email.like("a", escape="'")).select(),
    "with_alias": lambda db: db(db[users].id > 0).select(db[users].id.with_alias(HOSTILE)),
    "alias compared": lambda db: db(db[users].id == db[users].id.with_alias("(SELECT 1)")).select(),
    "alias in a case": lambda db: db(db[users].id > 0).select(
        (db[users].id > 0).case(db[users].id.with_alias("(SELECT 1)"), 1)
    ),
    "coalesce": lambda db: db(db[users].id > 0).select(db[users].email.coalesce(Expression(db, HOSTILE))),
    "case": lambda db: db((db[users].id > 0).case(1, 0) == HOSTILE).select(),
    "extract": lambda db: db(Expression(db, db._adapter.dialect.extract, db[users].since, HOSTILE)).select(),
    "aggregate": lambda db: db(db[users].id > 0).select(
        Expression(db, db._adapter.dialect.aggregate, db[users].id, HOSTILE)
    ),
    "cast": lambda db: db(db[users].id > 0).select(db[users].email.cast("string", length=f"9) {HOSTILE}")),
    "cast to a decimal": lambda db: db(
        db[users].email.cast("decimal", precision=9, scale=2) == HOSTILE
    ).select(),
    "slice": lambda db: db(db[users].id > 0).select(
        Expression(db, db._adapter.dialect.substring, db[users].email, (HOSTILE, 1))
    ),
    "slice object": lambda db: db(db[users].id > 0).select(
        Expression(db, db._adapter.dialect.substring, db[users].email, (1, Hostile()))
    ),
    "text +": lambda db: db(HOSTILE + db[users].email == "a").select(),
    "update": lambda db: db(db[users].id > 0).update(email=Expression(db, HOSTILE)),
    "update of the id": lambda db: db(db[users].id > 0).update(balance=Expression(db, HOSTILE, type="id")),
    "insert": lambda db: db[users].insert(email=Expression(db, HOSTILE)),
    "a field": lambda db: db(bound(db, Field("id", "integer", rname=HOSTILE)) == 1).select(),
    "a column's rname": lambda db: db(db[users].id > 0).select(renamed(db)),
    "a table's rname": lambda db: db(Table(db, "t", Field("x"), rname=f"users; {HOSTILE}").x == "a").select(),
    "define_table": lambda db: db.define_table("t", Field("x"), rname=HOSTILE),
}


def cte(db: DAL, name: str) -> Any:
    return db(db[users].id > 0).cte(name, db[users].id)


def bound(db: DAL, field: Field) -> Field:
    field.table = field._table = db[users]
    field.db, field._tablename, field.tablename = db, "users", "users"
    return field


def renamed(db: DAL) -> Field:
    field = db[users].email.clone(rname=HOSTILE)
    return bound(db, field)


@pytest.mark.parametrize("where", sorted(REFUSED))
async def test_pydal_takes_no_sql(running: Running, where: str) -> None:
    await running.writes.run(add_users, "a", "b")
    with pytest.raises(TypeError):
        await running.writes.run(REFUSED[where])
    assert await running.writes.run(lambda db: db(db[users].id > 0).count()) == 2


async def test_names_that_pydal_is_given_are_quoted(running: Running) -> None:
    """Of a table's alias; PyDAL puts it between quotation marks as it is."""
    await running.writes.run(add_users, "a", "b")
    quote = running.backend.dialect().identifier_preparer.quote("")[0]

    def read(db: DAL) -> Any:
        other = db[users].with_alias(f"x{quote} WHERE 1=0; DELETE FROM users; --")
        return [row.email for row in db(other.id > 0).select(other.email, orderby=~other.email)]

    assert await running.writes.run(read) == ["b", "a"]
    assert await running.writes.run(lambda db: db(db[users].id > 0).count()) == 2


async def test_what_pydal_computes_by_itself_still_works(running: Running) -> None:
    def read(db: DAL) -> list[Any]:
        add_users(db, "a%b", "xay", "z")
        user, item = db[users], db[items]
        owner = db(user.email == "z").select().first().id
        db[items].insert_row({"user_id": owner, "key": "a"})
        every = db(user.id > 0)

        def emails(condition: Any, **how: Any) -> list[str]:
            return [row.email for row in db(condition).select(user.email, orderby=user.email, **how)]

        ids = every.nested_select(user.id, correlated=False)
        nested = every.nested_select(user.id, user.email, correlated=False).with_alias("n'\"`")
        named = db(user.email.startswith("z")).cte("named", user.id, user.email)
        joined = item.on((item.user_id == user.id) & (item.id > 0))
        length = user.email.len()
        return [
            emails(user),
            emails(user.email),
            emails(~(user.email == "z") & (user.id > 0) | (user.email == None)),  # noqa: E711
            emails(user.email.like("a!%b", escape="!")),
            emails(user.email.contains("%", case_sensitive=True)),
            emails(user.email.contains(["a", "%"], all=True, case_sensitive=True)),
            emails(user.email.contains(user.kind, case_sensitive=True)),
            emails(user.email.endswith("y")),
            emails(user.email.regexp("^x")),
            emails(user.email[1:] == "ay"),
            emails(user.email[-2:] == "ay"),
            emails(user.email[0] == "x"),
            emails(user.email.replace("x", "z") == "zay"),
            emails(user.email.coalesce("none") + "!" == "z!"),
            emails(user.email + user.id == f"z{owner}"),
            emails(user.id.like(f"{owner}%")),
            emails(length + user.id * 0 == 1),
            emails((user.email == "z").case(1, 0) == 1),
            emails(user.id.belongs(ids)),
            emails(user.id == nested.id),
            emails(user.id == named.id),
            emails(item.user_id == user.id),
            emails(user.id > 0, join=joined),
            emails(user.id > 0, left=[joined], distinct=True, limitby=(1, 3)),
            [row.email for row in every.select(orderby=~user.kind | ~user.email, for_update=True)],
            len(every.select(orderby="<random>")),
            every.count(distinct=user.kind),
            [
                row[length.sum()]
                for row in every.select(length.sum(), groupby=user.kind, having=user.id.count() > 2)
            ],
            [row[user.id.count(distinct=True)] for row in every.select(user.id.count(distinct=True))],
        ]

    everyone, pair = ["a%b", "xay", "z"], ["a%b", "xay"]
    assert await running.writes.run(read) == [
        *(
            everyone,
            everyone,
            pair,
            ["a%b"],
            ["a%b"],
            ["a%b"],
            [],
            ["xay"],
            ["xay"],
            ["xay"],
            ["xay"],
            ["xay"],
        ),
        *(["xay"], ["z"], ["z"], ["z"], ["z"], ["z"], everyone, everyone, ["z"], ["z"], ["z"], ["xay", "z"]),
        *(["z", "xay", "a%b"], 3, 1, [7], [3]),
    ]


# --- SQL as it is


def placeholder(running: Running, name: str) -> str:
    return f":{name}" if running.backend.name == "sqlite" else f"%({name})s"


def in_order(running: Running) -> str:
    return "?" if running.backend.name == "sqlite" else "%s"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DELETE FROM users",
        "SELECT ';'; DELETE FROM users;",
        "SELECT 1 AS \"it's\"; DELETE FROM users --'",
        "SELECT 1 -- it's\n; DELETE FROM users --'",
        "SELECT 1 /* it's */; DELETE FROM users --'",
        "SELECT 1 /* /* */ ' */; DELETE FROM users; -- '*/",
        r"SELECT E'\''; DELETE FROM users; --'",
        "SELECT 1$a$'$a$; DELETE FROM users; --'",
        "SELECT \U0001f600$a$ FROM users; DELETE FROM users; --$a$",
        "DELETE FROM users; SELECT $$;$$",
    ],
)
async def test_one_statement_at_a_time(running: Running, sql: str) -> None:
    """What a statement is, the lexer of the engine says: psycopg2 would send them all."""
    await running.writes.run(add_users, "a")

    def directly(db: DAL) -> Any:
        return db._adapter.execute(sql)

    for unit in (lambda db: db.executesql(sql), directly):
        with pytest.raises(Exception, match=r"."):
            await running.writes.run(unit)
    assert await running.writes.run(lambda db: db(db[users].id > 0).count()) == 1


async def test_several_statements_are_a_type_error(running: Running) -> None:
    with pytest.raises(TypeError, match="one statement at a time"):
        await running.writes.run(lambda db: db.executesql("SELECT 1; SELECT 2"))
    with pytest.raises(TypeError, match="takes a text"):
        await running.writes.run(lambda db: db.executesql(Liar("SELECT 1")))
    assert list((await running.writes.run(lambda db: db.executesql("SELECT ';--' ;\n")))[0]) == [";--"]


async def test_semicolons_and_quotes_in_values_are_no_statements(running: Running) -> None:
    texts = ["a;b", "'; DELETE FROM users; --", "$a$;", "/* ;", '"; `', "\\'; DELETE FROM users; --"]

    def write(db: DAL) -> list[str]:
        for text in texts:
            db[users].insert_row({"email": text, "settings": [text]})
        db(db[users].email.belongs(texts)).update(note=";".join(texts))
        return [row.email for row in db(db[users].note == ";".join(texts)).select(orderby=db[users].id)]

    assert await running.writes.run(write) == texts


MOMENT = dt.datetime(2024, 1, 31, 13, 45, 0, 1, dt.UTC)
KNOWN: list[tuple[str, Any, Any]] = [
    ("string", "it's \\ %s {} \"é\" ' OR 1=1 -- ", None),
    ("string", HostileText("abc"), "abc"),
    ("enum", Colour.RED, "a"),
    ("integer", LyingInt(5), 5),
    ("bigint", -(2**63), None),
    ("boolean", True, None),
    ("float", 0.1, None),
    ("date", dt.date(2024, 1, 31), None),
    ("time", dt.time(13, 45, 0, 1), None),
    ("timestamp", MOMENT, None),
    ("timestamp", MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5))), MOMENT),
    ("uuid", uuid.UUID(int=7), None),
    ("binary", b"\0'\\;\xff", None),
    ("decimal", LyingDecimal("1.5"), Decimal("1.50")),
    ("string", None, None),
]


@pytest.mark.parametrize(("name", "value", "stored"), KNOWN)
async def test_known_types_pass_as_what_they_are(
    running: Running, name: str, value: Any, stored: Any
) -> None:
    """In `executesql`, and in the `text()` of a read, whose parameters belong to no column."""
    stored = value if stored is None else stored
    row = await running.writes.run(lambda db: db[values].insert_row({name: stored}))
    await running.writes.run(lambda db: db[values].insert_row({name: None}))
    quote = running.backend.dialect().identifier_preparer.quote
    column, table, named = quote(name), quote("values"), placeholder(running, "v")
    one = "IS NULL AND 1 = 1" if value is None else ""
    reading = query(IdRow, sa.text(f"SELECT id FROM {table} WHERE {column} = :v").columns(sa.column("id")))  # type: ignore[call-overload]
    if name == "decimal" and running.backend.name == "sqlite":
        with pytest.raises(TypeError, match="by its column's scale"):
            await running.writes.run(lambda db: db.executesql(f"SELECT {named}", {"v": value}))
        with pytest.raises(TypeError, match="by its column's scale"):
            await running.reads.all(reading, v=value)
        return
    if not one:
        found = await running.writes.run(
            lambda db: db.executesql(f"SELECT id FROM {table} WHERE {column} = {named}", {"v": value})
        )
        assert [each for (each,) in found] == [row["id"]]
        assert [each.id for each in await running.reads.all(reading, v=value)] == [row["id"]]

    def write(db: DAL) -> Any:
        sql = f"UPDATE {table} SET {column} = {in_order(running)} WHERE id > {in_order(running)}"
        db.executesql(sql, [value, 0])
        return [each[name] for each in map(db[values].get_row, (row["id"], row["id"] + 1)) if each]

    assert await running.writes.run(write) == [stored, stored]


class Own(dict[str, Any]):
    """A dict, which psycopg2 and PyMySQL adapt in their own ways."""


@pytest.mark.parametrize(
    "value", [Hostile(), [Hostile()], ("' OR 1=1 -- ",), {"a": 1}, {1}, 1j, object(), Own(), range(3)]
)
async def test_other_types_are_refused_before_anything_is_sent(running: Running, value: Any) -> None:
    await running.writes.run(add_users, "a", "b")
    named, mark = placeholder(running, "v"), in_order(running)
    for sql, given in (
        (f"SELECT email FROM users WHERE email = {named}", {"v": value}),
        (f"SELECT email FROM users WHERE email = {mark}", [value]),
        (f"DELETE FROM users WHERE email = {mark}", (value,)),
    ):
        with pytest.raises(TypeError, match="a parameter cannot be"):
            await running.writes.run(lambda db, sql, given: db.executesql(sql, given), sql, given)
    reading = query(IdRow, sa.text("SELECT id FROM users WHERE email = :v").columns(sa.column("id")))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a parameter cannot be"):
        await running.reads.all(reading, v=value)
    assert await running.writes.run(lambda db: db(db[users].id > 0).count()) == 2


async def test_values_that_no_column_holds_are_refused(running: Running) -> None:
    named = placeholder(running, "v")
    for value in ("a\0b", float("nan"), 2**63, dt.datetime(2024, 1, 1), Decimal("NaN")):
        if isinstance(value, Decimal) and running.backend.name == "sqlite":
            continue
        with pytest.raises(BadValue):
            await running.writes.run(lambda db, value: db.executesql(f"SELECT {named}", {"v": value}), value)


async def test_placeholders_and_values_must_match(running: Running) -> None:
    if running.backend.name == "sqlite":
        return  # the driver's own
    mismatches: tuple[tuple[str, Any], ...] = (
        ("SELECT %s, %s", [1]),
        ("SELECT %s", [1, 2]),
        ("SELECT %(a)s", {"b": 1}),
        ("SELECT %s", {"b": 1}),
        ("SELECT %(a)s", [1]),
        ("SELECT %d", [1]),
        ("SELECT 5 % 3, %s", [1]),
        ("SELECT '%s'", ["' OR 1=1 -- "]),
        ("SELECT '%(a)s'", {"a": "' OR 1=1 -- "}),
        ("SELECT %s", "a"),
        ("SELECT %s", 5),
    )
    for sql, given in mismatches:
        with pytest.raises(TypeError):
            await running.writes.run(lambda db, sql, given: db.executesql(sql, given), sql, given)
    ((rest, text, value),) = await running.writes.run(
        lambda db: db.executesql("SELECT 5 %% 3, '100%%', %s", ["%s"])
    )
    assert (rest, text, value) == (2, "100%", "%s")
    ((text,),) = await running.writes.run(lambda db: db.executesql("SELECT '100%'"))
    assert text == "100%"


async def test_a_read_is_one_statement_too(running: Running) -> None:
    await running.writes.run(add_users, "a")
    with pytest.raises(Exception, match=r"."):
        await running.reads.fetch_raw("SELECT 1; SELECT 2")
    assert len(await running.reads.fetch_raw("SELECT 1")) == 1
