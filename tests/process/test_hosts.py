"""Several hosts in DB_HOST and DB_READ_HOST, and a proxy in front of several: one is killed under load."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from dbservice.settings import Settings
from dbservice.testing import plugin, servers
from dbservice.testing.servers import Server

from ..faults import Proxy, until
from ..galera import galera_cluster
from ..haproxy import haproxy
from ..sample_service import PATIENT, client_of, create_tables, sample_database, started
from ..standby import primary_and_standby, promote
from .service_process import Load, Process, environ_of

FAILOVER = {**PATIENT, "failover": 30.0, "host_check": 0.2}


def hosts_of(settings: Settings, *ports: int) -> Settings:
    """The settings with these servers of this machine."""
    where = {"db_host": ",".join(["127.0.0.1"] * len(ports)), "db_port": ",".join(map(str, ports))}
    where |= {"db_read_host": where["db_host"], "db_read_port": where["db_port"]}
    return settings.model_copy(update=where)


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
                assert (load.strange, load.unavailable) == ([], [])
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
                    assert (load.strange, load.unavailable) == ([], [])
        for load in loads:
            load.assert_kept(services[1])
