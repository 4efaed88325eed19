"""The sample service as a process of its own, and clients that load it."""

import asyncio
import multiprocessing
import os
import re
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Self

import httpx
from fastapi import APIRouter

from dbservice import DAL, Reads, Writes
from dbservice.cli import main
from dbservice.http import Router
from dbservice.settings import Settings
from dbservice.testing import servers

from ..faults import slow, until, wait_until
from ..sample_service import PATIENT, add_users, sample_service, stored_emails

TIGHT = {"connect": 2.0, "acquire": 1.0, "statement": 2.0, "write": 3.0, "write_queue": 1.0}
"""Limits that a database which hangs soon meets."""


class Process:
    """`python -m my_svc serve`, in a folder of its own.

    It is forked from a process that has imported the service already: to import it takes longer than most tests. What
    runs is the command line, from its arguments to its exit code; `tests/process/test_cli.py` starts it from nothing."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *words: str,
        limits: Mapping[str, Any] = PATIENT,
        files: int | None = None,
    ) -> None:
        self.port = servers.free_port()
        self.folder = folder
        self.log = folder / "stderr"
        self.log.touch()
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ = {**kept, "LOG_LEVEL": "warning", "SHUTDOWN_DELAY": "0", **environ}
        words = words or ("serve", "--port", str(self.port))
        self._start(_run, folder, environ, words, dict(limits), files)

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        self._process = _forkserver().Process(target=run, args=arguments)
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def said(self) -> list[str]:
        """The lines on standard error."""
        return self.log.read_text().splitlines()

    def signal(self, what: signal.Signals) -> None:
        os.kill(self.pid, what)

    def wait(self) -> int:
        """Its exit code."""
        self._process.join(60)
        assert self._process.exitcode is not None, "it did not end"
        return self._process.exitcode

    def listens(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def wait_until_listening(self) -> None:
        wait_until(lambda: self.listens() or not self.running)
        assert self.running, self.said()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    async def becomes(self, status: int, client: httpx.AsyncClient) -> httpx.Response:
        """Wait until readiness has this status; its answer."""
        deadline = time.monotonic() + 60
        while True:
            assert self.running, "\n".join(self.said())
            with suppress(httpx.TransportError):
                response = await client.get("/readyz")
                if response.status_code == status:
                    return response
            assert time.monotonic() < deadline, f"readiness did not become {status}"
            await asyncio.sleep(0.05)


class Stamped(Process):
    """`python -m <package> ...` of the stamped service in `code`, in a folder of its own."""

    def __init__(
        self, code: Path, package: str, folder: Path, environ: Mapping[str, str], *words: str
    ) -> None:
        self._code, self._package = code, package
        folder.mkdir(exist_ok=True)
        super().__init__(folder, environ, *words)

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        super()._start(_run_stamped, self._code, self._package, *arguments[:3])

    def succeeded(self) -> str:
        """What a command has written on standard output; asserts that it succeeds."""
        with self:
            code, said = self.wait(), (self.folder / "stdout").read_text()
        assert code == 0, said + "\n".join(self.said())
        return said


def environ_of(settings: Settings, **more: str) -> dict[str, str]:
    if settings.db_type == "sqlite":
        return {"DB_TYPE": "sqlite", "DB_NAME": settings.db_name, **more}
    return {
        "DB_TYPE": settings.db_type,
        "DB_HOST": settings.db_host,
        "DB_PORT": str(settings.db_port),
        "DB_NAME": settings.db_name,
        "DB_USER": settings.db_user,
        "DB_PASS": settings.db_pass.get_secret_value(),
        "DB_POOL_SIZE": "6",
        "DB_MAX_RETRIES": "0",
        "DB_SINGLE_ACCOUNT": str(settings.db_single_account),
        **more,
    }


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


class Load:
    """Clients, half of which read and half of which write as fast as they can, and remember what they were told. Without
    `writes`, all read."""

    def __init__(self, client: httpx.AsyncClient, clients: int = 8, *, writes: bool = True) -> None:
        self._client, self._writers = client, clients // 2 if writes else 0
        self._domain = f"{secrets.token_hex(4)}.example"
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self.read = 0
        self.unavailable: list[str] = []
        self.strange: list[str] = []
        self._answers = [0] * clients
        self._go = True

    async def __aenter__(self) -> Self:
        clients, writers = len(self._answers), self._writers
        self._tasks = [asyncio.ensure_future(self._write(n)) for n in range(writers)]
        self._tasks += [asyncio.ensure_future(self._reads(n)) for n in range(writers, clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._go = False
        await asyncio.gather(*self._tasks)

    async def goes_on(self, number: int) -> None:
        """Wait until so many more writes are acknowledged, and as many reads."""
        writes = len(self.acknowledged) + number if self._writers else 0
        reads = self.read + number
        await until(lambda: len(self.acknowledged) >= writes and self.read >= reads)

    async def all_answered(self) -> None:
        """Wait until each client has got two more answers: to what it asks now, and to what it asks then."""
        before = self._answers[:]
        await until(lambda: all(now >= then + 2 for now, then in zip(self._answers, before, strict=True)))

    async def _send(self, client: int, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            response = await self._client.request(method, path, **options)
        except httpx.TransportError:  # only once it stops, and then it does not say whether it heard
            await asyncio.sleep(0.05)
            return None
        self._answers[client] += 1
        if response.status_code == 503:
            self.unavailable.append(f"{method} {path}: {response.text}")
            await asyncio.sleep(0.05)
        elif response.status_code not in (200, 201):
            self.strange.append(f"{method} {path}: {response.status_code} {response.text}")
        return response

    async def _reads(self, client: int) -> None:
        while self._go:
            response = await self._send(client, "GET", "/v1/users?limit=5")
            self.read += response is not None and response.status_code == 200

    async def _write(self, client: int) -> None:
        number = 0
        while self._go:
            number += 1
            email = f"{client}-{number}@{self._domain}"
            response = await self._send(client, "POST", "/v1/users", json={"email": email})
            if response is None:
                self.unknown.add(email)
            elif response.status_code == 201:
                self.acknowledged.add(email)
            elif response.json()["title"] == "Outcome unknown":
                self.unknown.add(email)
            else:
                self.refused.add(email)

    def assert_kept(self, settings: Settings) -> None:
        """What was acknowledged is there, what was refused is not."""
        found = {email for email in stored_emails(settings) if email.endswith(self._domain)}
        assert not self.acknowledged - found
        assert not self.refused & found
        assert found <= self.acknowledged | self.unknown


# --- in the other process


@cache
def _forkserver() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _importable():
        forkserver.ensure_running()
    return context


@contextmanager
def _importable() -> Iterator[None]:
    """Let the fork server find this module, which it looks for where PYTHONPATH says."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    yield
    del os.environ["PYTHONPATH"]
    if before is not None:
        os.environ["PYTHONPATH"] = before


def _run_stamped(
    code: Path, package: str, folder: Path, environ: Mapping[str, str], words: Sequence[str]
) -> None:
    _become(folder, environ)
    sys.path.insert(0, str(code / "src"))
    raise SystemExit(main(import_module(f"{package}.service").service, words))


def _run(
    folder: Path,
    environ: Mapping[str, str],
    words: Sequence[str],
    limits: Mapping[str, Any],
    files: int | None,
) -> None:
    _become(folder, environ)
    if files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    service = sample_service(folder, **limits)
    service.routers.append(_slow_routes(folder))
    raise SystemExit(main(service, words))


def _become(folder: Path, environ: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    # a shell that runs the tests in the background makes all below it deaf to SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _slow_routes(folder: Path) -> APIRouter:
    router = Router("slow")

    def held() -> bool:
        return not (folder / "go").exists()

    def begin() -> None:
        with (folder / "begun").open("a") as begun:
            begun.write(".")

    @router.get("/read")
    async def slow_read(reads: Reads) -> str:
        await reads.fetch_raw(slow(reads.backend.settings, 0.7))
        return "done"

    @router.get("/held/read")
    async def held_read(reads: Reads) -> str:
        begin()
        while held():
            await reads.fetch_raw(slow(reads.backend.settings, 0.1))
        return "done"

    @router.post("/held/write/{email}", status_code=201)
    async def held_write(email: str, writes: Writes) -> str:
        def add(db: DAL) -> None:
            begin()
            wait_until(lambda: not held())
            add_users(db, email)

        await writes.run(add)
        return "done"

    return router
