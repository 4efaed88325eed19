"""Real Galera nodes: one alone in its cluster, that can leave the cluster and join it again, and a cluster of three."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dbservice.testing import plugin, servers
from dbservice.testing.servers import Server
from dbservice.testing.servers.mysql import MariaDB
from dbservice.testing.servers.process import ServerProcess

from .faults import wait_until
from .programs import needed_file


@contextmanager
def galera_node(config: pytest.Config) -> Iterator[Server]:
    """A server of MariaDB that is a Galera cluster of one node."""
    with servers.own("mariadb", options=_options(config, "gcomm://", _free_port())) as server:
        yield server


@contextmanager
def galera_cluster(config: pytest.Config | None = None) -> Iterator[list[Server]]:
    """Three servers of MariaDB that are one Galera cluster. A database made on one of them is on all. Without the `config` of
    tests, raises ServerNotFound for what cannot be had."""
    port = _free_port()
    with ExitStack() as stack:
        first = MariaDB(options=_options(config, "gcomm://", port))
        nodes: list[Server] = [stack.enter_context(first)]
        first.stop()  # a copy of its data makes the others members without a transfer of the whole state
        copied = first.folder / "copied"
        subprocess.run(["cp", "-a", first.folder / "data", copied], check=True)
        first.start()
        for _ in range(2):
            other = _Copy(first, copied, _options(config, f"gcomm://127.0.0.1:{port}", _free_port()))
            nodes.append(stack.enter_context(other))
            wait_until(lambda: all(_ready(node) == "ON" for node in nodes), 60)
        yield nodes


def leave_cluster(server: Server) -> None:
    """Isolate the node: it looks for others that are not there, answers SELECT 1 and reads no table.
    Works once for each start of the server."""
    server.query("SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1?pc.wait_prim_timeout=PT1S'")
    wait_until(lambda: _ready(server) == "OFF", 60)


def join_cluster(server: Server) -> None:
    """Make the node a cluster again."""
    server.query("SET GLOBAL wsrep_cluster_address = 'gcomm://'")
    wait_until(lambda: _ready(server) == "ON", 60)


class _Copy(MariaDB):
    """A server that begins with the data of another one, which is stopped."""

    def __init__(self, original: MariaDB, data: Path, options: list[str]) -> None:
        super().__init__(options=options)
        self._copied = data
        self.admin = replace(original.admin, port=self.port)

    def prepare(self, process: ServerProcess) -> None:
        process.run(["cp", "-a", self._copied, process.folder / "data"])


def _options(config: pytest.Config | None, address: str, port: int) -> list[str]:
    provider = "/usr/lib/galera/libgalera_smm.so"
    if config is not None:
        plugin.find_server("mariadb", config)  # skips what cannot be had
        needed_file(provider, "galera-4")
    elif not Path(provider).exists():
        raise servers.ServerNotFound(f"There is no {provider} here (Debian: apt-get install galera-4).")
    own = f"gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{_free_port()}"
    return [
        "--wsrep-on=ON",
        f"--wsrep-provider={provider}",
        f"--wsrep-cluster-address={address}",
        "--wsrep-node-address=127.0.0.1",
        f"--wsrep-provider-options={own};gcache.size=1M;gcache.page_size=1M",
        "--wsrep-sst-method=rsync",
        f"--wsrep-sst-receive-address=127.0.0.1:{_free_port()}",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]


def _ready(server: Server) -> str:
    return str(server.query("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")[0][1])


def _free_port() -> int:
    while True:
        port = random.randrange(15000, 32000)  # no system hands these to clients
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
