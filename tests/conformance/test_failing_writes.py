"""Writes that fail for a reason that stays: the client reads 503, the log says what to do, `/readyz` is 503 until it is
mended."""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from dbservice import DAL, Unavailable, logs
from dbservice.errors import OutcomeUnknown
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Server

from ..assertions import SECRET, problem
from ..faults import kill_all, until
from ..sample_service import add_users, client_of, create_tables, started, users
from .test_retries import provoke_error

USER = {"email": "a", "password": SECRET}


async def readiness(client: httpx.AsyncClient) -> str:
    """What `/readyz` says; empty when it is ready."""
    answer = await client.get("/readyz")
    return "" if answer.status_code == 200 else str(problem(answer, 503)["detail"])


async def ready(client: httpx.AsyncClient) -> None:
    """Wait until it is ready, without a write."""
    async with asyncio.timeout(60):
        while await readiness(client):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)


def advice(log: pytest.LogCaptureFixture) -> str:
    """The one line that says what to do; no value and no traceback is anywhere in the log."""
    for record in log.records:
        assert not record.exc_info and SECRET not in logs.Json().format(record)
    (record,) = [each for each in log.records if each.levelno >= logging.ERROR]
    return record.getMessage()


def as_admin(server: Server, settings: Settings, *statements: str) -> None:
    with closing(replace(server.admin, name=settings.db_name).connect()) as connection:
        for sql in statements:
            connection.cursor().execute(sql)
        connection.commit()


FULL_DISK = {
    "postgresql": [
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER no_space BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION no_space()",
    ],
    "mysql": [
        "CREATE TRIGGER no_space BEFORE INSERT ON users FOR EACH ROW"
        " SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'"
    ],
}
"""What the server raises, raised by a trigger: only root can make a small disk, and not on every machine."""
FREE_SPACE = {"postgresql": ["DROP FUNCTION no_space CASCADE"], "mysql": ["DROP TRIGGER no_space"]}


@contextmanager
def full_disk(server: Server, settings: Settings) -> Iterator[None]:
    as_admin(server, settings, *FULL_DISK[server.type])
    try:
        yield
    finally:
        as_admin(server, settings, *FREE_SPACE[server.type])


async def test_a_full_disk_is_503_everywhere_until_a_write_succeeds(
    server: Server, empty: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(empty) as running, client_of(running) as client:
        with full_disk(server, empty):
            for _ in range(3):
                answer = await client.post("/v1/users", json=USER)
                assert problem(answer, 503)["detail"] == "The database's disk is full; nothing was stored."
            assert "free space on it" in advice(caplog)
            await running.writes.run(lambda db: db(db[users].id > 0).count())  # stores nothing
            assert await readiness(client) == "The database's disk is full."
        assert (await client.post("/v1/users", json=USER)).status_code == 201
        assert not await readiness(client)


async def test_after_a_full_disk_it_is_ready_again_without_a_write(server: Server, empty: Settings) -> None:
    async with started(empty, unready=0.3) as running, client_of(running) as client:
        with full_disk(server, empty):
            problem(await client.post("/v1/users", json=USER), 503)
            assert await readiness(client)
        await ready(client)


async def test_a_full_sqlite_file_is_503(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.load(servers.sqlite(tmp_path).environ())
    create_tables(settings)

    def limit_pages(db: DAL, pages: int) -> None:
        db.executesql(f"PRAGMA max_page_count={pages}")

    async with started(settings) as limited, client_of(limited) as client:
        await limited.writes.run(limit_pages, 1)  # SQLite takes it for as many as there are
        answer = await client.post("/v1/users", json={"email": "a", "note": "x" * 100_000})
        assert problem(answer, 503)["detail"] == "The database's disk is full; nothing was stored."
        assert "free space" in advice(caplog)
        assert await readiness(client) == "The database's disk is full."
        await limited.writes.run(limit_pages, 2**30)
        assert (await client.post("/v1/users", json=USER)).status_code == 201
        assert not await readiness(client)


async def test_a_lost_privilege_is_503_everywhere_until_it_is_granted(
    server: Server, empty: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    account, table = f'"{empty.db_user}"', "users"
    if server.type == "mysql":
        account, table = f"'{empty.db_user}'@'%'", "`{}`.*".format(empty.db_name.replace("_", r"\_"))
    async with started(empty, unready=0.1) as running, client_of(running) as client:
        as_admin(server, empty, f"REVOKE INSERT ON {table} FROM {account}")
        kill_all(server, empty)  # MySQL looks at the privileges on a database when a session begins
        try:
            answer = await client.post("/v1/users", json=USER)
            detail = "The database refuses the service's account; nothing was stored."
            assert problem(answer, 503)["detail"] == detail
            assert f"the account {empty.db_user} lacks a privilege" in advice(caplog)
            await asyncio.sleep(0.2)
            for _ in range(3):
                assert await readiness(client) == "The database refuses the service's account."
        finally:
            as_admin(server, empty, f"GRANT INSERT ON {table} TO {account}")
        assert not await readiness(client)
        assert (await client.post("/v1/users", json=USER)).status_code == 201


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_a_row_that_a_policy_refuses_makes_nothing_unready(server: Server, empty: Settings) -> None:
    """PostgreSQL has the code of a lost privilege for it."""
    policy = "CREATE POLICY own ON users USING (true) WITH CHECK (email <> 'a')"
    row_security = "ALTER TABLE users {} ROW LEVEL SECURITY"
    as_admin(server, empty, policy, *(row_security.format(each) for each in ("ENABLE", "FORCE")))
    try:
        async with started(empty) as running, client_of(running) as client:
            assert (await client.post("/v1/users", json=USER)).status_code == 422
            assert not await readiness(client)
            assert (await client.post("/v1/users", json={"email": "b"})).status_code == 201
    finally:
        disable = [row_security.format(each) for each in ("DISABLE", "NO FORCE")]
        as_admin(server, empty, *disable, "DROP POLICY own ON users")


@pytest.mark.parametrize("fault", ["memory", "no space"])
async def test_what_the_server_lacks_is_unavailable(server: Server, empty: Settings, fault: str) -> None:
    codes = {
        "postgresql": {"memory": "53200", "no space": "53100"},
        "mysql": {"memory": "1037", "no space": "1021"},
    }
    async with started(empty) as running:
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(provoke_error, codes[server.type][fault])


async def test_units_that_do_not_end_are_seen_by_readyz(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    def endless(db: DAL) -> None:
        assert go.wait(60)

    async with started(running.backend.settings, write=0.2) as stuck, client_of(stuck) as client:
        size = stuck.writes.size
        units = [stuck.writes.run(endless) for _ in range(size)]
        ended = await asyncio.gather(*units, return_exceptions=True)
        assert {type(each) for each in ended} == {OutcomeUnknown}
        sentence = f"All {size} write threads are busy with units of work that do not end"
        await until(lambda: sentence in caplog.text)
        assert await readiness(client) == f"{sentence}."
        answer = await client.post("/v1/users", json=USER)
        assert problem(answer, 503)["detail"] == f"{sentence}; nothing was stored."
        assert "endless" in caplog.text
        go.set()
        await ready(client)
        await stuck.writes.run(add_users, "b")


async def test_each_write_that_is_answered_503_is_counted_in_the_log(
    migrated: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name == "dbservice.http"]

    def counted() -> int:
        found = (re.search(r"answered with 503(?:, (\d+) times more)?", line) for line in lines())
        return sum(int(each[1] or 1) for each in found if each)

    go = threading.Event()
    async with started(migrated, queue=1, pool=2) as running, client_of(running) as client:
        blocked = asyncio.ensure_future(running.writes.run(lambda db: go.wait(60)))
        writes = [asyncio.ensure_future(client.post("/v1/users", json=USER)) for _ in range(30)]
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: sum(each.done() for each in writes) >= 29)
        await until(lambda: counted() >= 29)  # one waits for the thread, if its time is not over
        go.set()
        await asyncio.gather(blocked, *writes)
    assert (
        lines()[0] == "POST /v1/users: Too many writes are waiting; nothing was stored. (answered with 503)"
    )
    assert len(lines()) < 29
