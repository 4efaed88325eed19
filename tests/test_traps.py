"""The traps of the two libraries and of the servers, each by its name, that no other file is about."""

import asyncio
import datetime as dt
import importlib.metadata
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydal._globals import THREAD_LOCAL

from dbservice import DAL, BadValue, NotFound, Row, Unavailable, logs, public_columns, query
from dbservice.engines import engine_of
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Database, Server

from .provoke import client_of, prepared, sessions, started, until, with_tables
from .specimen import Values, items, order, users, values

PLATFORM = Path(__file__).parents[1] / "template/src/dbservice"
AWKWARD = "p@ss/w:rd%1#x é"


class Group(Row):
    id: int
    group: str | None


class ValuesRow(Values, Row):
    """A row of values."""


ONE_GROUP = query(Group, sa.select(order.c.id, order.c.group).where(order.c.id == sa.bindparam("id")))
ONE_VALUE = query(ValuesRow, sa.select(*public_columns(values)).where(values.c.id == sa.bindparam("id")))


async def in_both_sessions(running: Running, sql: str) -> list[Any]:
    """What a SELECT of one value answers where services read, and where they write."""
    ((read,),) = await running.reads.plain(sql)
    ((written,),) = await running.writes.run(lambda db: db.executesql(sql))
    return [read, written]


async def refused(running: Running, unit: Callable[[DAL], Any]) -> str:
    """The type and the words of the error that a unit of work ends with."""
    with pytest.raises((TypeError, BadValue)) as raised:
        await running.writes.run(unit)
    return f"{type(raised.value).__name__}: {raised.value}"


# --- sessions


async def test_mysql_stays_strict_under_pydal(server: Server, place: Settings) -> None:
    if server.engine == "postgresql":
        return
    async with started(place) as running:
        for mode in await in_both_sessions(running, "SELECT @@sql_mode"):
            assert {"STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES", "NO_ZERO_DATE"} <= set(mode.split(","))
        now = "'2024-01-01', '2024-01-01'"
        for columns, given in (
            ("email", f"'{'x' * 256}'"),  # would be cut
            ("email, kind", "'a', 'nobody'"),
            ("password", "'a'"),  # would get an empty email
            ("email, balance", "'a', 'twelve'"),
            ("email, balance", "'a', 12345678901.5"),
        ):
            sql = f"INSERT INTO users ({columns}, created_at, updated_at) VALUES ({given}, {now})"
            with pytest.raises(BadValue):
                await running.writes.run(lambda db, sql: db.executesql(sql), sql)


async def test_backslashes_escape_nothing(running: Running) -> None:
    text = "it's \\' OR 1=1 -- \\"
    row_id = await running.writes.run(lambda db: db[order].insert(group=text))
    assert (await running.reads.one(ONE_GROUP, id=row_id)).group == text
    assert await running.writes.run(lambda db: db(db[order].group == text).count()) == 1


async def test_sessions_are_in_utc(server: Server, place: Settings) -> None:
    ask = {
        "postgresql": "SELECT current_setting('TimeZone')",
        "mysql": "SELECT TIMEDIFF(NOW(), UTC_TIMESTAMP()) = 0",
    }
    async with started(place) as running:
        assert server.query("SELECT 1")  # its own zone is another: see `servers`
        for zone in await in_both_sessions(running, ask[server.type]):
            assert zone in ("UTC", 1)


async def test_isolation_is_read_committed(server: Server, place: Settings) -> None:
    variable = {
        "postgresql": "current_setting('transaction_isolation')",
        "mariadb": "@@tx_isolation",
        "mysql": "@@transaction_isolation",
    }
    async with started(place) as running:
        for level in await in_both_sessions(running, f"SELECT {variable[server.engine]}"):
            assert level.lower().replace("-", " ") == "read committed"


async def test_the_connection_speaks_four_bytes_of_utf8(server: Server, place: Settings) -> None:
    ask = {
        "postgresql": "SELECT current_setting('client_encoding')",
        "mysql": "SELECT @@character_set_connection",
    }
    async with started(place) as running:
        for charset in await in_both_sessions(running, ask[server.type]):
            assert charset in ("UTF8", "utf8mb4")
        for text in await in_both_sessions(running, "SELECT '👩‍👧 é'"):
            assert text == "👩‍👧 é"


_HOSTILE = {
    "postgresql": (
        ("ALTER DATABASE {} SET default_transaction_isolation TO 'serializable'", ""),
        ("ALTER DATABASE {} SET datestyle TO 'German'", ""),
        ("ALTER DATABASE {} SET bytea_output TO 'escape'", ""),
        ("ALTER DATABASE {} SET extra_float_digits TO -5", ""),
        ("ALTER DATABASE {} SET standard_conforming_strings TO off", ""),
        ("ALTER DATABASE {} SET client_encoding TO 'LATIN1'", ""),
        ("ALTER DATABASE {} SET xmloption TO 'document'", ""),
    ),
    "mariadb": (
        ("SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,ORACLE'", "SET GLOBAL sql_mode = DEFAULT"),
        ("SET GLOBAL tx_isolation = 'SERIALIZABLE'", "SET GLOBAL tx_isolation = DEFAULT"),
        ("SET GLOBAL character_set_server = latin1", "SET GLOBAL character_set_server = DEFAULT"),
        ("SET GLOBAL div_precision_increment = 1", "SET GLOBAL div_precision_increment = DEFAULT"),
        ("SET GLOBAL autocommit = 0", "SET GLOBAL autocommit = 1"),
    ),
    "mysql": (
        ("SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", "SET GLOBAL sql_mode = DEFAULT"),
        ("SET GLOBAL transaction_isolation = 'SERIALIZABLE'", "SET GLOBAL transaction_isolation = DEFAULT"),
        ("SET GLOBAL character_set_server = latin1", "SET GLOBAL character_set_server = DEFAULT"),
        ("SET GLOBAL autocommit = 0", "SET GLOBAL autocommit = 1"),
    ),
}


async def test_what_an_administrator_set_changes_no_value(server: Server) -> None:
    body = {
        "string": 'it\'s \\ "é" 👩‍👧',
        "float": 0.1234567890123456,
        "date": "2024-02-03",
        "time": "13:14:15.000001",
        "timestamp": "2024-02-03T04:05:06.000007Z",
        "binary": "AFwn/w==",
        "json": {"a": ["\\", "'", 1.5]},
        "decimal": "-0.01",
    }
    with prepared(server) as settings:
        for sql, _ in _HOSTILE[server.engine]:
            server.query(sql.format(settings.db_name))
        try:
            async with started(settings) as running, client_of(running) as client:
                response = await client.post("/v1/values", json=body)
                assert response.status_code == 201, response.text
                row = response.json()
                assert body.items() <= row.items()
                assert (await client.get(f"/v1/values/{row['id']}")).json() == row
                read = await running.reads.one(ONE_VALUE, id=row["id"])
                held = await running.writes.run(lambda db: db[values].get(row["id"]))
                assert held is not None and ValuesRow.from_mapping(held) == read
                variable = {"mariadb": "@@tx_isolation", "mysql": "@@transaction_isolation"}.get(
                    server.engine, "current_setting('transaction_isolation')"
                )
                for level in await in_both_sessions(running, f"SELECT {variable}"):
                    assert level.lower().replace("-", " ") == "read committed"
        finally:
            for _, undo in _HOSTILE[server.engine]:
                if undo:
                    server.query(undo)


# --- connections


async def test_credentials_hold_any_character(server: Server) -> None:
    database = server.create_database(name="d%b@1:2/3#é x", password=AWKWARD)
    try:
        settings = Settings.load({**database.environ(), "DB_MAX_RETRIES": "0"})
        with_tables(settings)  # SQLAlchemy
        async with started(settings) as running:
            row_id = await running.writes.run(lambda db: db[order].insert(group="a"))  # PyDAL
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"  # databases
    finally:
        server.drop_database(database)


async def test_the_dal_opens_no_connection_before_it_is_used(server: Server, place: Settings) -> None:
    await until(lambda: not sessions(server, place))
    async with started(place) as running:
        assert len(sessions(server, place)) == 1  # the one that the reads proved themselves with
        await running.writes.run(lambda db: None)
        assert len(sessions(server, place)) == 1
        await running.writes.run(lambda db: db(db[order].id > 0).count())
        assert len(sessions(server, place)) == 2


async def test_a_unit_leaves_no_transaction_open(server: Server, place: Settings) -> None:
    idle_in_transaction = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%%' AND datname = %s",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id IN"
        " (SELECT id FROM information_schema.processlist WHERE db = %s)",
    }
    async with started(place) as running:
        await running.writes.run(lambda db: db[order].insert())
        await running.writes.run(lambda db: db(db[order].id > 0).count())
        with pytest.raises(ArithmeticError):
            await running.writes.run(lambda db: db(db[order].id > 0).count() / 0)
        await running.reads.plain("SELECT count(*) FROM users")
        assert server.query(idle_in_transaction[server.type], place.db_name) == [(0,)]


async def test_a_held_connection_reads_no_stale_snapshot(migrated: Settings) -> None:
    async with started(migrated, pool=2) as running:  # one connection to read with
        for text in ("a", "b", "c"):
            row_id = await running.writes.run(lambda db, text: db[order].insert(group=f"stale {text}"), text)
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == f"stale {text}"
            await running.writes.run(lambda db, row_id: db(db[order].id == row_id).delete(), row_id)
            with pytest.raises(NotFound):
                await running.reads.one(ONE_GROUP, id=row_id)


async def test_a_column_that_is_added_or_widened_disturbs_no_read(server: Server) -> None:
    with prepared(server) as settings:
        async with started(settings, pool=2) as running:
            row_id = await running.writes.run(lambda db: db[order].insert(group="a"))
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"  # asyncpg has prepared it
            quote = engine_of(settings).compiler().identifier_preparer.quote
            with closing(engine_of(settings).connect()) as connection:
                cursor = connection.cursor()
                cursor.execute(f"ALTER TABLE {quote('order')} ADD COLUMN more VARCHAR(10)")
                assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"
                words = (
                    "ALTER COLUMN {} TYPE VARCHAR(30)"
                    if server.type == "postgresql"
                    else "MODIFY {} VARCHAR(30)"
                )
                cursor.execute(f"ALTER TABLE {quote('order')} {words.format(quote('group'))}")
            for _ in range(3):
                assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"
            await running.writes.run(lambda db: db[order].insert(group="b"))


async def test_a_path_of_any_characters_is_one_sqlite_file(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c?mode=rw#é&x=1"
    folder.mkdir()
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(folder / "it's %d?.db")})
    with_tables(settings)
    async with started(settings) as running:
        row_id = await running.writes.run(lambda db: db[order].insert(group="a"))
        assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"
    found = [Path(place, name) for place, _, names in os.walk(tmp_path) for name in names]
    assert folder / "it's %d?.db" in found
    assert {path.parent for path in found} == {folder}


async def test_a_sqlite_file_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    # root may write anything: so the file says itself that it is newer than this SQLite writes
    path = tmp_path / "kept.db"
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(path)})
    with_tables(settings)
    with closing(engine_of(settings).connect()) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    data = bytearray(path.read_bytes())
    data[18] = 3
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"Cannot use sqlite.*kept\.db: .*(?i:read.?only)"):
        async with started(settings):
            pass


# --- PyDAL


def test_pydal_is_pinned_exactly() -> None:
    (pin,) = re.findall(r"^pydal==(\S+)", (PLATFORM / "requirements.txt").read_text(), re.MULTILINE)
    assert pin == importlib.metadata.version("pydal") == "20260520.0"


async def test_booleans_are_booleans(running: Running) -> None:
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
    with closing(running.engine.connect()) as connection:
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
async def test_a_decimal_is_no_way_into_the_sql(running: Running, hostile: str) -> None:
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


async def test_a_string_is_never_taken_for_sql(running: Running) -> None:
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
        lambda db: db[users].add({"email": "b", "emial": "c"}),
        lambda db: db[users].change(user, {"emial": "c"}),
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


async def test_names_that_pydal_keeps_for_itself_work(running: Running) -> None:
    def write(db: DAL) -> Any:
        user = db[users].insert(email="a")
        row = db[items].add(
            {"user_id": user, "update_record": "x", "as_dict": "y", "select": "z", "items": "i"}
        )
        assert db[items].get(row["id"]) == row
        selected = db(db[items].id == row["id"]).select().first()
        return [
            selected[db[items].column(name).name] for name in ("update_record", "as_dict", "select", "items")
        ]

    assert await running.writes.run(write) == ["x", "y", "z", "i"]


async def test_a_percent_sign_is_a_percent_sign(running: Running) -> None:
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


async def test_a_statement_fails_at_once_when_nobody_answers(place: Settings, server: Server) -> None:
    # PyDAL's own would try five times, a second apart
    async with started(place, pool=2, connect=2) as running:
        object.__setattr__(running.engine.settings, "db_port", 1)
        async with asyncio.timeout(1.5):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await running.writes.run(lambda db: db(db[order].id > 0).count())


# --- what is remembered and what is told


async def test_no_statement_is_kept_with_its_values(running: Running) -> None:
    def write(db: DAL) -> str:
        db[users].insert(email="a", password="hush-hush")
        db(db[users].password == "hush-hush").select()
        return repr((vars(THREAD_LOCAL), db._timings, db._lastsql, vars(db), vars(db._adapter)))

    assert "hush-hush" not in await running.writes.run(write)


async def test_no_object_holds_the_password_in_the_clear(place: Settings) -> None:
    password = place.db_pass.get_secret_value()
    async with started(place) as running:

        def look(db: DAL) -> str:
            db(db[order].id > 0).count()
            places = (
                vars(db),
                vars(db._adapter),
                vars(THREAD_LOCAL),
                db._adapter.driver_args,
                db._driver_args,
            )
            return repr((places, db, str(db), db._uri, db.as_dict() if hasattr(db, "as_dict") else ""))

        assert password not in await running.writes.run(look)
        assert password not in repr(
            (vars(running), vars(running.reads), vars(running.writes), vars(running.engine))
        )


@pytest.fixture
def debug_logs(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """LOG_LEVEL=debug, and what was logged."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    logs.configure(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "unused.db", "LOG_LEVEL": "debug"}))
    yield lambda: capsys.readouterr().err
    root.level, root.handlers[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


async def test_debug_logs_hold_no_value(
    database: Database, migrated: Settings, debug_logs: Callable[[], str]
) -> None:
    by_email = query(
        Group, sa.select(order.c.id, order.c.group).where(order.c.group == sa.bindparam("group"))
    )
    async with started(migrated) as running, client_of(running) as client:
        logging.getLogger("dbservice").debug("heard")
        body = {"email": "hush@example.com", "password": "hush-hush"}
        assert (await client.post("/v1/users", json=body)).status_code == 201
        assert (await client.post("/v1/users", json=body)).status_code == 409
        assert (await client.post("/v1/users", json={**body, "email": "hush" * 99})).status_code == 422
        assert await running.reads.all(by_email, group="hush-hush") == []
        with pytest.raises(Exception, match="hush"):
            await running.writes.run(lambda db: db.executesql("SELECT 'hush' FROM nowhere_hush"))
        await running.writes.run(lambda db: db(db[users].email == "hush@example.com").delete())
    logged = debug_logs()
    assert "heard" in logged and "hush" not in logged
    if database.password:
        assert database.password not in logged
