"""A real HAProxy, in TCP mode, in front of servers of a database."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbservice.testing import servers
from dbservice.testing.servers import Server
from dbservice.testing.servers.process import ServerProcess

from .bouncer import answers
from .faults import wait_until
from .programs import needed_program


@contextmanager
def haproxy(nodes: Sequence[Server]) -> Iterator[int]:
    """HAProxy that leads to the first of the nodes that accepts connections; its port on 127.0.0.1."""
    program = needed_program("haproxy", "haproxy")
    process = ServerProcess("haproxy", users=("nobody",), end=signal.SIGTERM)
    try:
        port = servers.free_port()
        lines = [
            "defaults",
            *(
                "mode tcp",
                "timeout connect 1s",
                "timeout client 1m",
                "timeout server 1m",
                "option redispatch",
            ),
            "listen database",
            *(
                f"bind 127.0.0.1:{port}",
                "default-server check inter 300ms fall 2 on-marked-down shutdown-sessions",
            ),
        ]
        for number, node in enumerate(nodes):
            lines.append(f"server node{number} {node.host}:{node.port}{' backup' * bool(number)}")
        file = process.folder / "haproxy.cfg"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o644)
        process.start([program, "-f", file])
        wait_until(lambda: answers(port))
        yield port
    finally:
        process.close()
