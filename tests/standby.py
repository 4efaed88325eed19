"""A standby of a PostgreSQL server, and what makes it the primary."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from dbservice.testing import servers
from dbservice.testing.servers import Server
from dbservice.testing.servers.postgresql import PostgreSQL
from dbservice.testing.servers.process import ServerProcess

from .faults import wait_until


@contextmanager
def primary_and_standby() -> Iterator[tuple[Server, Server]]:
    """Two servers: what is committed on the first is on the second one before the client is told."""
    options = ["-c", "synchronous_standby_names=*"]
    with servers.own("postgresql", options=options) as primary, _Standby(primary) as standby:
        wait_until(lambda: primary.query("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))
        yield primary, standby


def promote(standby: Server) -> None:
    standby.query("SELECT pg_promote()")


class _Standby(PostgreSQL):
    def __init__(self, primary: Server) -> None:
        super().__init__()
        self._primary = primary
        self.admin = replace(primary.admin, port=self.port)

    def prepare(self, process: ServerProcess) -> None:
        of = self._primary
        source = f"host={of.host} port={of.port} user={of.user} password={of.password}"
        program = self._program.with_name("pg_basebackup")
        process.run([program, "-d", source, "-D", process.folder / "data", "-R", "-c", "fast", "--no-sync"])
