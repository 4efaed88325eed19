"""Clients that send bytes as they are, which no HTTP library would."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dbservice.settings import Settings
from dbservice.testing import servers

from ..sample_service import PATIENT, create_tables
from .service_process import Process, environ_of


class Answer(NamedTuple):
    """What a client reads."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that the answer is."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem: dict[str, Any] = msgspec.json.decode(self.body)
        assert problem["status"] == self.status
        return problem


class Client:
    """A connection to the service."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, *parts: bytes) -> "Client":
        """Send each part in a segment of its own."""
        for number, part in enumerate(parts):
            if number:
                time.sleep(0.05)  # nothing tells when the service has read it
            with suppress(OSError):  # the service may have closed the connection
                self.socket.sendall(part)
        return self

    def answer(self) -> Answer | None:
        """The next answer; None at the end of the connection."""
        while b"\r\n\r\n" not in self._read:
            if not self._receive():
                return None
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        status = int(line.split()[1])
        length = 0 if status < 200 or status == 204 else int(headers["content-length"])
        while len(self._read) < length:
            assert self._receive(), "the answer was cut"
        body, self._read = self._read[:length], self._read[length:]
        return Answer(status, headers, body)

    def answers(self) -> list[Answer]:
        """All answers, until the service has closed the connection."""
        return list(iter(self.answer, None))

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._read += data
        return bool(data)


def request(
    method: str, path: str, body: bytes | None = None, *headers: str, host: str = "x", version: str = "1.1"
) -> bytes:
    """A request; its body is JSON."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def gauge(port: int, name: str) -> float:
    """The value of a metric."""
    client = Client(port).send(request("GET", "/metrics", None, "Connection: close"))
    (answer,) = client.answers()
    client.close()
    found = re.search(rf"^{name} (\S+)$", answer.body.decode(), re.MULTILINE)
    assert found, answer.body
    return float(found[1])


@contextmanager
def sqlite_service(folder: Path, *, files: int | None = None, **options: Any) -> Iterator[Process]:
    """The sample service on SQLite, with as many descriptors, these environment variables, and these limits."""
    limits = {name: value for name, value in options.items() if name.islower()}
    environ = {name: value for name, value in options.items() if name.isupper()}
    settings = Settings.load(servers.sqlite(folder).environ())
    create_tables(settings)
    with Process(
        folder, environ_of(settings, **environ), limits={**PATIENT, **limits}, files=files
    ) as process:
        process.wait_until_listening()
        yield process
