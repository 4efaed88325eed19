"""The server's own log holds no value of a secret column, also when a statement fails (decision 18)."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, Conflict
from dbservice import types as t
from dbservice.backends import backend_for
from dbservice.backends.postgresql.privileges import LOG_SETTINGS
from dbservice.schema import Column, Table
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..assertions import SECRET, problem
from ..faults import kill
from ..sample_service import client_of, sample_database, started, users
from .test_defaults import DEFAULTS


@pytest.fixture
def logged(own_server: Server) -> Iterator[Settings]:
    with sample_database(own_server) as settings:
        yield settings


def server_log(server: Server, since: int = 0) -> str:
    return (server.folder / "log").read_text(errors="replace")[since:]


async def failing_writes(running: Running) -> None:
    """What clients do every day: 409s, and an error of the service's own."""
    async with client_of(running) as client:
        body = {"email": "a", "password": SECRET}
        assert (await client.post("/v1/users", json=body)).status_code == 201
        problem(await client.post("/v1/users", json=body), 409)
        other = (await client.post("/v1/users", json={**body, "email": "b"})).json()["id"]
        problem(
            await client.patch(f"/v1/users/{other}", json={"email": "a", "password": f"{SECRET};'2"}), 409
        )

    def write(db: DAL) -> None:
        works: tuple[Callable[[], Any], ...] = (
            lambda: db[users].insert(email="a", password=SECRET),
            lambda: db(db[users].password == SECRET).update(email="a", password=SECRET),
            lambda: db[users].update_or_insert(db[users].email == "c", email="a", password=SECRET),
        )
        for work in works:
            with pytest.raises(Conflict), db.savepoint():
                work()

    await running.writes.run(write)
    with pytest.raises(Exception, match="nowhere"):
        await running.writes.run(lambda db: db.executesql("SELECT nowhere"))


async def test_a_failed_statement_leaves_no_secret_in_the_log(own_server: Server, logged: Settings) -> None:
    """As an ordinary account, on a server as it is installed."""
    start = len(server_log(own_server))
    async with started(logged) as running:
        await failing_writes(running)
    log = server_log(own_server, start)
    assert SECRET not in log
    if own_server.engine == "postgresql":
        assert log.count("duplicate key value") == 5 and "nowhere" in log


async def test_a_statement_that_runs_shows_no_secret_to_an_administrator(
    own_server: Server, logged: Settings
) -> None:
    """PostgreSQL keeps the last statement of each session; MySQL and MariaDB only while it runs."""
    if own_server.engine != "postgresql":
        return
    async with started(logged, pool=2) as running:

        def write(db: DAL) -> list[Any]:
            db[users].insert(email="a", password=SECRET)
            return own_server.query(
                "SELECT query FROM pg_stat_activity WHERE datname = %s AND query LIKE 'INSERT%%'",
                logged.db_name,
            )

        ((statement,),) = await running.writes.run(write)
    assert SECRET not in statement and "password" in statement


async def test_what_remains_is_kept_out_by_settings_of_the_account(
    own_server: Server, logged: Settings
) -> None:
    """Without them, a secret is in the log where a unique index names it, where it is a pattern or stands in SQL written by
    hand, and where the server logs every statement."""
    if own_server.engine != "postgresql":
        return

    async def remains() -> dict[str, int]:
        start = len(server_log(own_server))
        async with started(logged) as running:

            def write(db: DAL) -> None:
                db(db[users].id > 0).delete()
                db[users].insert(email="a", password=f"{SECRET}-unique")
                with pytest.raises(Conflict), db.savepoint():
                    db[users].insert(email="b", password=f"{SECRET}-unique")
                with pytest.raises(BadValue), db.savepoint():
                    db.executesql("SELECT 1 / 0, %s", [f"{SECRET}-raw"])
                with pytest.raises(Conflict), db.savepoint():
                    db[users].insert(email="c", password=f"{SECRET}-pattern")
                    db(db[users].password.like(f"{SECRET}-pattern%")).update(email="a")

            await running.writes.run(write)
        log = server_log(own_server, start)
        return {word: log.count(f"{SECRET}-{word}") for word in ("unique", "raw", "pattern")}

    with closing(backend_for(logged).connect()) as connection:
        connection.cursor().execute("CREATE UNIQUE INDEX password ON users (password)")
    assert await remains() == {"unique": 1, "raw": 1, "pattern": 1}
    for name, value in LOG_SETTINGS.items():
        own_server.query(f"ALTER ROLE {logged.db_user} SET {name} = {value}")
    assert await remains() == {"unique": 0, "raw": 0, "pattern": 0}
    own_server.query(f"ALTER ROLE {logged.db_user} SET log_statement = 'all'")
    assert await remains() == {"unique": 0, "raw": 1, "pattern": 1}


async def test_a_connection_lost_before_a_secret_is_sent_is_retried(
    server: Server, server_settings: Settings
) -> None:
    attempts = 0
    async with started(server_settings, pool=2) as running:

        def write(db: DAL) -> int:
            nonlocal attempts
            attempts += 1
            own = "pg_backend_pid()" if server.engine == "postgresql" else "connection_id()"
            ((session,),) = db.executesql("SELECT " + own)
            if attempts == 1:
                kill(server, session)
            return int(db[users].insert_row({"email": f"retried {server.engine}", "password": SECRET})["id"])

        user = await running.writes.run(write)
        assert attempts == 2
        assert await running.writes.run(lambda db: db[users](user).password) == SECRET


@pytest.fixture
def vault(owner_settings: Settings) -> Iterator[sa.Table]:
    """A table with a secret column of each type."""

    class Vault(Table, name="vault", metadata=sa.MetaData()):
        vars().update(
            {name: Column(kind, nullable=True, secret=True) for name, (kind, _) in DEFAULTS.items()}
        )

    table = Vault.__table__
    engine = backend_for(owner_settings).migrations.engine()
    table.metadata.create_all(engine)
    yield table
    table.metadata.drop_all(engine)
    engine.dispose()


def test_secrets_of_every_type_are_stored_and_found(owner_settings: Settings, vault: sa.Table) -> None:
    held = {name: kind.from_json(value) for name, (kind, value) in DEFAULTS.items()}
    db = DAL(backend_for(owner_settings), [vault])

    def write() -> None:
        table = db[vault]
        inserted = table.insert_row(held)
        assert table.get_row(inserted["id"]) == inserted and held.items() <= inserted.items()
        empty = table.insert_row({})["id"]
        assert table.update_row(empty, held)["number"] == held["number"]
        assert db(table.id == empty).update(**{table.column(name).name: None for name in held}) == 1
        assert set(table.get_row(empty).values()) >= {None}
        for name, value in held.items():
            if isinstance(vault.c[name].type, t.JSON):
                continue  # the engines compare it differently
            column = table.column(name)
            assert [row.id for row in db(column == value).select()] == [inserted["id"]], name
            assert db(column.belongs([value, value])).count() == 1, name
            assert (
                db(table.id.belongs(db(column == value).nested_select(table.id, correlated=False))).count()
                == 1
            )
        nested = db(table.empty == "").nested_select(table.id, correlated=False)
        for _ in range(2):  # it is written anew each time, with the values of each statement
            assert db((table.quotes == held["quotes"]) & table.id.belongs(nested)).count() == 1
        assert len(db(table.quotes == held["quotes"]).select(cache=(lambda key, get, _: get(), 1))) == 1

    db.begin_unit()
    try:
        write()
        db.commit_unit()
    finally:
        db.drop_connection()
