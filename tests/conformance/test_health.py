"""`/healthz` and `/readyz`: without the database, on another revision, while the service stops."""

import asyncio
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from dbservice.errors import StartupError
from dbservice.settings import Settings

from ..assertions import problem
from ..cli_service import USERS_WITH_PASSWORD, CliService, served_cli_service
from ..faults import Proxy
from ..sample_service import client_of, sample_service, served, started


async def test_healthz_needs_no_database(migrated: Settings, tmp_path: Path) -> None:
    app = sample_service(tmp_path).app
    async with served(sample_service(tmp_path), migrated) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    transport = httpx.ASGITransport(app)
    app.state.running = None
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_readyz_is_503_while_it_stops(migrated: Settings) -> None:
    async with started(migrated) as running, client_of(running) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 200 and ready.json() == {"status": "ready", "revision": None}
        running.draining = True
        assert problem(await client.get("/readyz"), 503)["detail"] == "The service is stopping."
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/users")).status_code == 200  # what is in flight is still answered


async def test_without_its_database_it_lives_and_is_not_ready(server_settings: Settings) -> None:
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, pool=4, connect=3.0) as running, client_of(running) as client:
            row = (await client.post("/v1/order", json={})).json()
            assert (await client.get("/readyz")).status_code == 200
            proxy.disconnect()
            for _ in range(3):
                assert problem(await client.get("/readyz"), 503)["detail"] == "The database does not answer."
                problem(await client.get(f"/v1/order/{row['id']}"), 503)
                problem(await client.get("/v1/order"), 503)
                problem(await client.post("/v1/order", json={}), 503)
                problem(await client.patch(f"/v1/order/{row['id']}", json={}), 503)
                problem(await client.delete(f"/v1/order/{row['id']}"), 503)
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/metrics")).status_code == 200
            proxy.connect()
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get(f"/v1/order/{row['id']}")).json() == row
            assert (await client.delete(f"/v1/order/{row['id']}")).status_code == 204


async def test_readyz_waits_no_longer_than_its_limit(server_settings: Settings) -> None:
    with Proxy(server_settings) as proxy:
        async with (
            started(proxy.settings, pool=4, connect=3.0, statement=600.0) as running,
            client_of(running) as client,
        ):
            assert (await client.get("/readyz")).status_code == 200
            proxy.hold()
            async with asyncio.timeout(60):
                answer = await client.get("/readyz")
            assert problem(answer, 503)["detail"] == "The database does not answer."
            proxy.cut()


def version(cli_service: CliService, revision: str) -> None:
    with closing(cli_service.database.connect()) as connection:
        connection.cursor().execute(f"UPDATE alembic_version_demo SET version_num = '{revision}'")
        connection.commit()


async def test_readyz_checks_the_revision(cli_service: CliService) -> None:
    async with served_cli_service(cli_service, USERS_WITH_PASSWORD) as (client, _):
        ready = {"status": "ready", "revision": "0001_first"}
        assert (await client.get("/readyz")).json() == ready
        version(
            cli_service, "0002_newer"
        )  # a newer deployment has migrated, and this one serves until it is replaced
        assert (await client.get("/readyz")).json() == ready
        assert (await client.get("/v1/users")).status_code == 200
        version(cli_service, "0001_first")
        cli_service.migrate_to("base")
        body = problem(await client.get("/readyz"), 503)
        assert body["detail"] == "The database has no tables of demo yet: run `make migrate` first."
        cli_service.upgrade()
        assert (await client.get("/readyz")).status_code == 200


async def test_readyz_refuses_an_older_revision(cli_service: CliService) -> None:
    cli_service.tables(USERS_WITH_PASSWORD)
    cli_service.revision("first")
    async with served_cli_service(cli_service, USERS_WITH_PASSWORD.replace("20", "30")) as (client, _):
        pass
    tables = USERS_WITH_PASSWORD.replace("20", "40")
    async with served_cli_service(cli_service, tables) as (client, running):
        assert running.revision == "0003_first"
        version(cli_service, "0002_first")
        body = problem(await client.get("/readyz"), 503)
        assert body["detail"] == (
            "The database is at revision 0002_first, this code needs 0003_first: run `make migrate` first."
        )


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("", "The database has no tables of demo yet: run `make migrate` first."),
        (
            "0001_first",
            "The database is at revision 0001_first, this code needs 0002_second: run `make migrate` first.",
        ),
        (
            "0009",
            "The database is at revision 0009, which this code does not know: deploy the code that it belongs to.",
        ),
    ],
)
async def test_it_starts_only_on_its_own_revision(
    cli_service: CliService, revision: str, sentence: str
) -> None:
    cli_service.tables(USERS_WITH_PASSWORD)
    cli_service.revision("first")
    cli_service.tables(USERS_WITH_PASSWORD.replace("20", "30"))
    cli_service.revision("second")
    if revision:
        cli_service.upgrade()
        version(cli_service, revision)
    with pytest.raises(StartupError) as caught:
        async with cli_service.service.running(Settings.load(cli_service.environ)):
            pass
    assert str(caught.value) == sentence
