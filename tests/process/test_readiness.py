"""`/readyz` asks over connections of its own: what blocks reads does not make the service unready."""

import asyncio
import logging
from contextlib import closing

import pytest

from dbservice.settings import Settings
from dbservice.testing import plugin
from dbservice.testing.servers import Server

from ..assertions import problem
from ..cli_service import USERS_WITH_PASSWORD, CliService, served_cli_service
from ..faults import Proxy, locked_users, sessions, slow, until
from ..galera import galera_node, join_cluster, leave_cluster
from ..sample_service import client_of, create_tables, sample_database, started

# --- reads that are blocked


async def test_blocked_reads_do_not_make_it_unready(server: Server, server_settings: Settings) -> None:
    async with (
        started(server_settings, pool=4, statement=600.0) as running,
        client_of(running) as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        with locked_users(server, server_settings):
            reading = [asyncio.ensure_future(client.get("/v1/users")) for _ in range(running.reads.size)]
            await until(lambda: running.reads.in_use == running.reads.size)
            for _ in range(3):
                assert (await client.get("/readyz")).status_code == 200
            assert not any(each.done() for each in reading)
        assert {each.status_code for each in await asyncio.gather(*reading)} == {200}


async def test_a_first_check_waits_for_no_read(migrated: Settings) -> None:
    async with (
        started(migrated, pool=2, statement=600.0) as running,
        client_of(running) as client,
    ):
        reading = asyncio.ensure_future(running.reads.fetch_raw(slow(migrated, 2)))
        await until(lambda: running.reads.in_use == running.reads.size)
        assert (await client.get("/readyz")).status_code == 200
        reading.cancel()
        await asyncio.wait({reading})


# --- its own connection


async def test_it_is_one_connection_more_however_many_ask(server: Server, server_settings: Settings) -> None:
    await until(lambda: not sessions(server, server_settings))
    async with started(server_settings, pool=2) as running, client_of(running) as client:
        before = len(sessions(server, server_settings))
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(sessions(server, server_settings)) == before + 1
    await until(lambda: not sessions(server, server_settings))


async def test_a_failed_check_connects_anew(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a proxy that leads to a healthy node by now, it does not stay with the isolated one."""
    other = plugin.find_server("mariadb", request.config)
    with galera_node(request.config) as node, sample_database(node) as settings, Proxy(settings) as proxy:
        twin = other.create_database(settings.db_name, settings.db_pass.get_secret_value())
        healthy = Settings.load(twin.environ())
        create_tables(healthy)
        async with started(proxy.settings) as running, client_of(running) as client:
            assert (await client.get("/readyz")).status_code == 200
            await asyncio.to_thread(leave_cluster, node)
            body = problem(await client.get("/readyz"), 503)
            assert body["detail"] == "The database node is not part of its cluster."
            problem(await client.get("/readyz"), 503)
            proxy.lead_to(healthy)
            assert (await client.get("/readyz")).status_code == 200
            said = [
                each.getMessage()
                for each in caplog.records
                if each.name == "dbservice.readiness" and each.levelname == "WARNING"
            ]
            assert len(said) == 1 and "is not part of its Galera cluster" in said[0]
        await asyncio.to_thread(join_cluster, node)
    other.drop_database(twin)


# --- what the start would notice


async def test_without_the_server_of_the_writes_it_is_not_ready(server_settings: Settings) -> None:
    with Proxy(server_settings) as proxy:
        settings = server_settings.model_copy(update={"db_port": proxy.settings.db_port})
        async with started(settings, connect=2.0) as running, client_of(running) as client:
            assert (await client.get("/readyz")).status_code == 200
            proxy.disconnect()
            assert problem(await client.get("/readyz"), 503)["detail"] == "The database does not answer."
            assert (await client.get("/v1/order")).status_code == 200
            proxy.connect()
            assert (await client.get("/readyz")).status_code == 200


@pytest.mark.engines("postgresql")
async def test_an_account_that_lost_its_schema_is_not_ready(
    cli_service: CliService, caplog: pytest.LogCaptureFixture
) -> None:
    cli_service.options = {"schema": "own"}
    async with served_cli_service(cli_service, USERS_WITH_PASSWORD) as (client, _):
        assert (await client.get("/readyz")).status_code == 200
        account = cli_service.database.user

        def run(sql: str) -> None:
            with closing(cli_service.database.connect()) as connection:
                connection.cursor().execute(sql)
                connection.commit()

        run(f'REVOKE USAGE ON SCHEMA own FROM "{account}"')
        with caplog.at_level(logging.INFO):
            detail = problem(await client.get("/readyz"), 503)["detail"]
            assert detail == "The database refuses the service's account."
            assert f'GRANT USAGE ON SCHEMA "own" TO "{account}"' in caplog.text
            run(f'GRANT USAGE ON SCHEMA own TO "{account}"')
            assert (await client.get("/readyz")).status_code == 200
            said = [each.getMessage() for each in caplog.records if each.name == "dbservice.readiness"]
            assert len(said) == 2 and said[-1].endswith(": ready")
        run(f'REVOKE SELECT ON own.alembic_version_demo FROM "{account}"')
        problem(await client.get("/readyz"), 503)
        run(f'GRANT SELECT ON own.alembic_version_demo TO "{account}"')
        assert (await client.get("/readyz")).status_code == 200
