"""Several hosts in DB_HOST and DB_READ_HOST, and a proxy in front of several: one is killed under load."""

import asyncio
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from dbservice import Limits
from dbservice.backends import backend_for
from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.startup import wait_for_database
from dbservice.testing import plugin, servers

from ..faults import Proxy, until
from ..galera import galera_cluster
from ..haproxy import haproxy
from ..sample_service import PATIENT, client_of, create_tables, sample_database, started, stored_emails
from ..standby import primary_and_standby, promote
from .service_process import Load, Process, environ_of

FAILOVER = {**PATIENT, "failover": 30.0, "host_check": 0.2}


def hosts_of(settings: Settings, *ports: int) -> Settings:
    """The settings with these servers of this machine."""
    where = {"db_host": ",".join(["127.0.0.1"] * len(ports)), "db_port": ",".join(map(str, ports))}
    where |= {"db_read_host": where["db_host"], "db_read_port": where["db_port"]}
    return settings.model_copy(update=where)


def refused(load: Load) -> list[str]:
    """The answers with 503 but those that say that nobody knows whether the write was stored."""
    return [line for line in load.unavailable if "Outcome unknown" not in line]


async def test_a_standby_takes_over_under_load(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    plugin.find_server("postgresql", request.config)  # skips what cannot be had
    with primary_and_standby() as (primary, standby):
        settings = Settings.load(primary.create_database().environ())
        create_tables(settings)
        both = hosts_of(settings, standby.port, primary.port)
        with Process(tmp_path, environ_of(both), limits=FAILOVER) as process:
            async with process.client() as client:
                await process.becomes(200, client)
                load = Load(client)
                async with load:
                    await load.goes_on(20)
                    await asyncio.to_thread(primary.stop, True)
                    await asyncio.to_thread(promote, standby)
                    standby.query("ALTER SYSTEM SET synchronous_standby_names = ''")
                    await load.goes_on(50)
                assert (load.strange, refused(load)) == ([], [])
            load.assert_kept(both)


async def test_a_node_is_killed_under_load_behind_a_proxy_and_in_a_list(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with galera_cluster(pytestconfig) as nodes, sample_database(nodes[2]) as settings, haproxy(nodes) as port:
        services = [hosts_of(settings, port), hosts_of(settings, *(node.port for node in nodes))]
        folders = [tmp_path / "proxy", tmp_path / "list"]
        for folder in folders:
            folder.mkdir()
        with (
            Process(folders[0], environ_of(services[0]), limits=FAILOVER) as behind,
            Process(folders[1], environ_of(services[1]), limits=FAILOVER) as listing,
        ):
            async with behind.client() as first, listing.client() as second:
                await behind.becomes(200, first)
                await listing.becomes(200, second)
                loads = [Load(first), Load(second)]
                async with loads[0], loads[1]:
                    await asyncio.gather(*(load.goes_on(20) for load in loads))
                    await asyncio.to_thread(nodes[0].stop, True)
                    await asyncio.gather(*(load.goes_on(50) for load in loads))
                for load in loads:
                    assert (load.strange, refused(load)) == ([], [])
        for load in loads:
            load.assert_kept(services[1])


async def test_reads_go_to_the_primary_while_the_replica_is_away(
    server_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    port = servers.free_port()
    settings = server_settings.model_copy(update={"db_read_host": "127.0.0.1", "db_read_port": str(port)})
    async with started(settings, host_check=0.1) as running, client_of(running) as client:
        created = await client.post("/v1/users", json={"email": "read"})
        assert (await client.get(f"/v1/users/{created.json()['id']}")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 200 and "reads go to the primary" in ready.json()["degraded"]
        assert [line for line in caplog.messages if f"passing over 127.0.0.1:{port}: " in line]
        metrics = (await client.get("/metrics")).text
        assert f'db_host_up{{host="127.0.0.1:{port}",use="read"}} 0.0' in metrics
        with Proxy(server_settings, port=port) as replica:
            await until(lambda: not running.degraded)
            assert "degraded" not in (await client.get("/readyz")).json()
            for _ in range(running.reads.size):  # each connection returns once it was used
                assert (await client.get("/v1/users")).status_code == 200
            await until(lambda: not running.reads.in_use)
            received = replica.received
            assert (await client.get("/v1/users")).status_code == 200
            assert replica.received > received
        assert (await client.get("/v1/users")).status_code == 200  # it is away again
        assert len([line for line in caplog.messages if "passing over" in line]) == 2


async def test_writes_return_to_the_first_host_that_works(
    server_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    port = servers.free_port()
    both = hosts_of(server_settings, port, server_settings.addresses[0].port)
    async with started(both, host_check=0.1) as running, client_of(running) as client:
        assert (await client.post("/v1/users", json={"email": "written a"})).status_code == 201
        with Proxy(server_settings, port=port) as first:
            await until(lambda: not running.backend.hosts.failing and first.closed_by_server)
            before = first.received
            assert (await client.post("/v1/users", json={"email": "written b"})).status_code == 201
            assert first.received > before
        assert (await client.post("/v1/users", json={"email": "written c"})).status_code == 201
    assert {f"written {each}" for each in "abc"} <= set(stored_emails(server_settings))


async def test_a_wrong_password_is_not_tried_elsewhere(server_settings: Settings) -> None:
    both = hosts_of(server_settings, *[server_settings.addresses[0].port] * 2)
    backend = backend_for(both.model_copy(update={"db_pass": SecretStr("wrong")}))
    with pytest.raises(StartupError, match="or its password is refused"):
        wait_for_database(backend)
    assert not backend.hosts.failing


def test_a_host_that_hangs_is_waited_for_once(server_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        both = hosts_of(server_settings, mute.getsockname()[1], server_settings.addresses[0].port)
        backend = backend_for(both, limits=Limits(connect=2.0))
        backend.connect().close()
        assert backend.hosts.failing == [both.addresses[0]]
        assert backend.hosts.in_order()[0] == both.addresses[1]
