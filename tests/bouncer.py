"""A real PgBouncer in front of a database of PostgreSQL."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from dbservice.testing import servers
from dbservice.testing.servers import Database
from dbservice.testing.servers.process import ServerProcess

from .faults import wait_until
from .programs import needed_program


@contextmanager
def pgbouncer(database: Database, pool_mode: str, *, pool_size: int = 20) -> Iterator[int]:
    """PgBouncer for the account of `database`, which gives one of `pool_size` sessions of the server to a client for as long as
    `pool_mode` says; its port on 127.0.0.1."""
    program = needed_program("pgbouncer", "pgbouncer")
    process = ServerProcess("pgbouncer", users=("postgres",), end=signal.SIGTERM)
    try:
        users, ini, port = process.folder / "users", process.folder / "ini", servers.free_port()
        users.write_text(f'"{database.user}" "{database.password}"\n')
        ini.write_text(
            f"[databases]\n{database.name} = host={database.host} port={database.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {pool_mode}\n"
            f"default_pool_size = {pool_size}\n"
        )
        for file in (users, ini):
            file.chmod(0o644)  # the folder around them is closed to others
        process.start([program, ini])
        wait_until(lambda: answers(port))
        yield port
        process.stop(hard=False)  # its connections end before the database is dropped
    finally:
        process.close()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
