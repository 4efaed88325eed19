"""A real Galera node, alone in its cluster, that can leave the cluster and join it again."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dbservice.testing import plugin, servers
from dbservice.testing.servers import Server

from .faults import wait_until
from .programs import needed_file


@contextmanager
def galera_node(config: pytest.Config) -> Iterator[Server]:
    """A server of MariaDB that is a Galera cluster of one node."""
    plugin.find_server("mariadb", config)  # skips what cannot be had
    provider = needed_file("/usr/lib/galera/libgalera_smm.so", "galera-4")
    options = [
        "--wsrep-on=ON",
        f"--wsrep-provider={provider}",
        "--wsrep-cluster-address=gcomm://",
        "--wsrep-node-address=127.0.0.1",
        f"--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{_free_port()};gcache.size=1M;gcache.page_size=1M",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]
    with servers.own("mariadb", options=options) as server:
        yield server


def leave_cluster(server: Server) -> None:
    """Isolate the node: it looks for others that are not there, answers SELECT 1 and reads no table.
    Works once for each start of the server."""
    server.query("SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1?pc.wait_prim_timeout=PT1S'")
    wait_until(lambda: _ready(server) == "OFF", 60)


def join_cluster(server: Server) -> None:
    """Make the node a cluster again."""
    server.query("SET GLOBAL wsrep_cluster_address = 'gcomm://'")
    wait_until(lambda: _ready(server) == "ON", 60)


def _ready(server: Server) -> str:
    return str(server.query("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")[0][1])


def _free_port() -> int:
    while True:
        port = random.randrange(15000, 32000)  # no system hands these to clients
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
