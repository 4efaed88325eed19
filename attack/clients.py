"""Clients that several probes need."""

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self, TypeVar

from report import Result
from service import Service, Target
from tests.process.raw_http import Answer, Client, request

T = TypeVar("T")
V = TypeVar("V")


def concurrently(work: Callable[[V], T], values: Iterable[V], threads: int = 8) -> list[T]:
    """The results of `work` with each value. Raises what it raises."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, values))


class KeptAlive:
    """A client that keeps its connection and opens another when it has been closed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._client: Client | None = None

    def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """The answer; None if the connection ended before it came."""
        sent = None if body is None else json.dumps(body).encode()
        try:
            if self._client is None:
                self._client = Client(self.service.port)
            answer = self._client.send(request(method, path, sent)).answer()
        except (OSError, AssertionError):
            answer = None
        if answer is None or answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class Writers:
    """Clients that create users, and remember what they were told. A client waits `back_off` seconds after a 503."""

    def __init__(
        self,
        service: Service,
        result: Result,
        number: int,
        *,
        back_off: float = 0.05,
        path: str = "/v1/users",
        **body: Any,
    ) -> None:
        self.service, self.result = service, result
        self.acknowledged: dict[str, float] = {}
        """And when."""
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.prefix = secrets.token_hex(4)
        self._back_off, self._path, self._body = back_off, path, body
        self._go = True
        self._threads = [threading.Thread(target=self._write, args=[each]) for each in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go = False
        for thread in self._threads:
            thread.join()

    def go_on(self, number: int, seconds: float = 60) -> bool:
        """Wait until so many more are acknowledged; whether they are in time."""
        wanted, deadline = len(self.acknowledged) + number, time.monotonic() + seconds
        while len(self.acknowledged) < wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        return len(self.acknowledged) >= wanted

    def check_stored(self, target: Target) -> None:
        """What was acknowledged is stored once, and nothing that was refused."""
        rows = target.rows(f"SELECT email FROM users WHERE email LIKE '{self.prefix}%'")
        stored = {str(email) for (email,) in rows}
        self.result.fail("acknowledged and not stored", len(self.acknowledged.keys() - stored))
        self.result.fail("refused and stored", len(self.refused & stored))
        self.result.fail(
            "stored and never sent", len(stored - self.acknowledged.keys() - self.refused - self.unknown)
        )

    def _write(self, client: int) -> None:
        connection, number = KeptAlive(self.service), 0
        while self._go:
            number += 1
            email = f"{self.prefix}-{client}-{number}"
            answer = connection.ask("POST", self._path, {"email": email, **self._body})
            if answer is None:
                self.unknown.add(email)
                self.result.add(unknown=1)
                time.sleep(self._back_off)
            elif answer.status == 201:
                self.acknowledged[email] = time.monotonic()
                self.result.add(accepted=1)
            elif answer.status == 503 and b"may still be stored" in answer.body:
                self.unknown.add(email)
                self.result.add(unknown=1)
                time.sleep(self._back_off)
            else:
                self.refused.add(email)
                self.result.expect("POST", answer, refused={503})
                time.sleep(self._back_off)
        connection.close()


def slow_reader(port: int) -> Client:
    """A client with a small buffer for what it receives."""
    client = Client(port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return client


def close_all(clients: Iterable[Client]) -> None:
    for client in clients:
        with suppress(OSError):
            client.close()


def ended(client: Client) -> bool:
    """Whether the service has closed the connection by now, whatever it has sent before."""
    client.socket.settimeout(0.01)
    try:
        while client.socket.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
