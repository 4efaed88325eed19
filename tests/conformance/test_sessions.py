"""Connections and their sessions, for reads and for writes: mode, time zone, isolation, encoding, credentials."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbservice import BadValue, NotFound
from dbservice.backends import backend_for
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import sessions, until
from ..sample_service import client_of, create_tables, order, sample_database, started, values
from .reading import ONE_GROUP, ONE_VALUE, ValuesRow

AWKWARD = "p@ss/w:rd%1#x é"


async def in_both_sessions(running: Running, sql: str) -> list[Any]:
    """What a SELECT of one value answers where services read, and where they write."""
    ((read,),) = await running.reads.fetch_raw(sql)
    ((written,),) = await running.writes.run(lambda db: db.executesql(sql))
    return [read, written]


async def test_mysql_stays_strict_under_pydal(server: Server, server_settings: Settings) -> None:
    if server.engine == "postgresql":
        return
    async with started(server_settings) as running:
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


async def test_sessions_are_in_utc(server: Server, server_settings: Settings) -> None:
    ask = {
        "postgresql": "SELECT current_setting('TimeZone')",
        "mysql": "SELECT TIMEDIFF(NOW(), UTC_TIMESTAMP()) = 0",
    }
    async with started(server_settings) as running:
        assert server.query("SELECT 1")  # its own zone is another: see `servers`
        for zone in await in_both_sessions(running, ask[server.type]):
            assert zone in ("UTC", 1)


async def test_isolation_is_read_committed(server: Server, server_settings: Settings) -> None:
    variable = {
        "postgresql": "current_setting('transaction_isolation')",
        "mariadb": "@@tx_isolation",
        "mysql": "@@transaction_isolation",
    }
    async with started(server_settings) as running:
        for level in await in_both_sessions(running, f"SELECT {variable[server.engine]}"):
            assert level.lower().replace("-", " ") == "read committed"


async def test_the_connection_encodes_four_byte_utf8(server: Server, server_settings: Settings) -> None:
    ask = {
        "postgresql": "SELECT current_setting('client_encoding')",
        "mysql": "SELECT @@character_set_connection",
    }
    async with started(server_settings) as running:
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


async def test_what_an_administrator_set_changes_no_value(own_server: Server) -> None:
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
    with sample_database(own_server) as settings:
        for sql, _ in _HOSTILE[own_server.engine]:
            own_server.query(sql.format(settings.db_name))
        try:
            async with started(settings) as running, client_of(running) as client:
                response = await client.post("/v1/values", json=body)
                assert response.status_code == 201, response.text
                row = response.json()
                assert body.items() <= row.items()
                assert (await client.get(f"/v1/values/{row['id']}")).json() == row
                read = await running.reads.one(ONE_VALUE, id=row["id"])
                held = await running.writes.run(lambda db: db[values].get_row(row["id"]))
                assert held is not None and ValuesRow.from_mapping(held) == read
                variable = {"mariadb": "@@tx_isolation", "mysql": "@@transaction_isolation"}.get(
                    own_server.engine, "current_setting('transaction_isolation')"
                )
                for level in await in_both_sessions(running, f"SELECT {variable}"):
                    assert level.lower().replace("-", " ") == "read committed"
        finally:
            for _, undo in _HOSTILE[own_server.engine]:
                if undo:
                    own_server.query(undo)


async def test_credentials_hold_any_character(server: Server) -> None:
    database = server.create_database(name="d%b@1:2/3#é x", password=AWKWARD)
    try:
        settings = Settings.load({**database.environ(), "DB_MAX_RETRIES": "0"})
        create_tables(settings)  # SQLAlchemy
        async with started(settings) as running:
            row_id = await running.writes.run(lambda db: db[order].insert(group="a"))  # PyDAL
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"  # databases
    finally:
        server.drop_database(database)


async def test_the_dal_opens_no_connection_before_it_is_used(
    server: Server, server_settings: Settings
) -> None:
    await until(lambda: not sessions(server, server_settings))
    async with started(server_settings) as running:
        assert len(sessions(server, server_settings)) == 1  # the one that the reads proved themselves with
        await running.writes.run(lambda db: None)
        assert len(sessions(server, server_settings)) == 1
        await running.writes.run(lambda db: db(db[order].id > 0).count())
        assert len(sessions(server, server_settings)) == 2


async def test_a_unit_leaves_no_transaction_open(server: Server, server_settings: Settings) -> None:
    idle_in_transaction = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%%' AND datname = %s",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id IN"
        " (SELECT id FROM information_schema.processlist WHERE db = %s)",
    }
    async with started(server_settings) as running:
        await running.writes.run(lambda db: db[order].insert())
        await running.writes.run(lambda db: db(db[order].id > 0).count())
        with pytest.raises(ArithmeticError):
            await running.writes.run(lambda db: db(db[order].id > 0).count() / 0)
        await running.reads.fetch_raw("SELECT count(*) FROM users")
        assert server.query(idle_in_transaction[server.type], server_settings.db_name) == [(0,)]


async def test_a_held_connection_reads_no_stale_snapshot(migrated: Settings) -> None:
    async with started(migrated, pool=2) as running:  # one connection to read with
        for text in ("a", "b", "c"):
            row_id = await running.writes.run(lambda db, text: db[order].insert(group=f"stale {text}"), text)
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == f"stale {text}"
            await running.writes.run(lambda db, row_id: db(db[order].id == row_id).delete(), row_id)
            with pytest.raises(NotFound):
                await running.reads.one(ONE_GROUP, id=row_id)


async def test_reads_survive_a_column_that_is_added_or_widened(server: Server) -> None:
    with sample_database(server) as settings:
        async with started(settings, pool=2) as running:
            row_id = await running.writes.run(lambda db: db[order].insert(group="a"))
            assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"  # asyncpg has prepared it
            quote = backend_for(settings).dialect().identifier_preparer.quote
            with closing(backend_for(settings).connect()) as connection:
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
    create_tables(settings)
    async with started(settings) as running:
        row_id = await running.writes.run(lambda db: db[order].insert(group="a"))
        assert (await running.reads.one(ONE_GROUP, id=row_id)).group == "a"
    found = [Path(place, name) for place, _, names in os.walk(tmp_path) for name in names]
    assert folder / "it's %d?.db" in found
    assert {path.parent for path in found} == {folder}


async def test_a_sqlite_file_that_may_not_be_written_is_reported(tmp_path: Path) -> None:
    # root may write anything: so the file says itself that it is newer than this SQLite writes
    path = tmp_path / "kept.db"
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(path)})
    create_tables(settings)
    with closing(backend_for(settings).connect()) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    data = bytearray(path.read_bytes())
    data[18] = 3
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"Cannot use sqlite.*kept\.db: .*(?i:read.?only)"):
        async with started(settings):
            pass
