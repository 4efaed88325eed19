"""An account that loses a privilege while its service runs: `/readyz` says so before a client finds out, and the log what."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from dbservice import Limits, Service
from dbservice.service import Running
from dbservice.testing.servers import Server

from ..assertions import problem
from ..sample_service import NOWHERE, client_of
from .account_scene import TRIGGER, KnownUsers, Scene, TwitchIntegrations, account_scene, module_of

REFUSED = "The database refuses the service's account."


@pytest.fixture
def scene(own_server: Server) -> Iterator[Scene]:
    with account_scene(own_server) as made:
        made.ready()
        yield made


def running(scene: Scene, **more: str) -> AbstractAsyncContextManager[Running]:
    access = module_of(rows=TwitchIntegrations, users=KnownUsers)
    service = Service("trigger", TRIGGER.tables, root=NOWHERE, access=access, limits=Limits(privileges=0))
    return service.running(scene.settings(service, **more))


async def test_what_the_account_lacks_is_not_ready_and_in_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    account, rows = scene.sql_account("trigger-rw"), scene.rows_of_trigger()
    postgresql = scene.engine == "postgresql"
    lost = {
        "INSERT ON jobs": "INSERT on table jobs",
        "SELECT ON alembic_version_trigger": "SELECT on table alembic_version_trigger",
        "SELECT (email) ON users": "SELECT on column users.email",
        "UPDATE (token) ON platform_integrations" if postgresql else f"UPDATE ON {rows}": (
            "UPDATE on column platform_integrations.token" if postgresql else f"UPDATE on view {rows}"
        ),
    }
    async with running(scene) as service, client_of(service) as client:
        assert (await client.get("/readyz")).status_code == 200
        for revoked, named in lost.items():
            scene.as_admin(f"REVOKE {revoked} FROM {account}")
            for _ in range(2):
                detail = problem(await client.get("/readyz"), 503)["detail"]
                assert detail == REFUSED
            assert f"The account trigger-rw lacks {named}: run `grants --apply`." in caplog.text
            await asyncio.to_thread(scene.apply, TRIGGER)
            assert (await client.get("/readyz")).status_code == 200
    scene.as_admin(f"REVOKE INSERT ON jobs FROM {account}")
    async with running(scene, DB_SINGLE_ACCOUNT="true") as service, client_of(service) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_a_table_that_its_owner_drops_and_makes_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL forgets what was granted on it; the others keep grants by name."""
    make = "CREATE TABLE users (id BIGINT PRIMARY KEY, email VARCHAR(255))"
    async with running(scene) as service, client_of(service) as client:
        assert (await client.get("/readyz")).status_code == 200
        scene.as_account("connector-migrate", "DROP TABLE users")
        assert (await client.get("/readyz")).status_code == 200
        scene.as_account("connector-migrate", make)
        if scene.engine == "postgresql":
            detail = problem(await client.get("/readyz"), 503)["detail"]
            lacks = "SELECT on column users.email, SELECT on column users.id"
            assert detail == REFUSED
            assert f"The account trigger-rw lacks {lacks}: run `grants --apply`." in caplog.text
            await asyncio.to_thread(scene.apply, TRIGGER)
        assert (await client.get("/readyz")).status_code == 200
        scene.as_account("connector-migrate", "ALTER TABLE users DROP COLUMN email")
        assert (await client.get("/readyz")).status_code == 200  # its owner's doing, which no grant mends
