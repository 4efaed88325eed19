"""The sample service as a process of its own, and clients that load it."""

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

from dbservice.settings import Settings

from ..faults import until
from ..sample_service import stored_emails

ROOT = Path(__file__).parents[2]


CONNECT, ACQUIRE, STATEMENT, WRITE = 2.0, 1.0, 2.0, 3.0


LONGEST = max(ACQUIRE + STATEMENT, WRITE) + 1.5  # what a request may take, and a busy machine adds


MAIN = f"""
import sys
import time
from pathlib import Path

sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "template/src")!r}]

from dbservice import Reads, Writes
from dbservice.cli import main
from dbservice.http import Router
from tests.faults import slow
from tests.sample_service import sample_service, users

service = sample_service(
    Path(__file__).parents[1], connect={CONNECT}, acquire={ACQUIRE}, statement={STATEMENT}, write={WRITE}, drain=10
)
router = Router("slow")


@router.get("/read")
async def slow_read(reads: Reads) -> str:
    await reads.fetch_raw(slow(reads.backend.settings, 0.7))
    return "done"


@router.post("/write/{{email}}", status_code=201)
async def slow_write(email: str, writes: Writes) -> str:
    def add(db):
        time.sleep(0.7)
        db[users].insert(email=email)

    await writes.run(add)
    return "done"


service.routers.append(router)
raise SystemExit(main(service))
"""


def _hears_interrupts() -> None:
    # a shell that runs the tests in the background makes all below it deaf to SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """`python -m svc serve`, in a folder of its own."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *words: str) -> None:
        package = folder / "svc"
        package.mkdir(exist_ok=True)
        (package / "__main__.py").write_text(MAIN)
        self.port = free_port()
        self.log = folder / "stderr"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "svc", *(words or ("serve", "--port", str(self.port)))],
                cwd=folder,
                env={**kept, "PYTHONDONTWRITEBYTECODE": "1", "LOG_LEVEL": "warning", **environ},
                stderr=log,
                preexec_fn=_hears_interrupts,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def said(self) -> list[str]:
        """The lines on standard error."""
        return self.log.read_text().splitlines()

    def signal(self, what: signal.Signals) -> None:
        self._process.send_signal(what)

    def wait(self, seconds: float = 20) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    async def becomes(self, status: int, client: httpx.AsyncClient) -> httpx.Response:
        """Wait until readiness has this status; its answer."""
        deadline = time.monotonic() + 30
        while True:
            assert self.running, "\n".join(self.said())
            with suppress(httpx.TransportError):
                response = await client.get("/readyz")
                if response.status_code == status:
                    return response
            assert time.monotonic() < deadline, f"readiness did not become {status}"
            await asyncio.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        **more,
    }


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


class Load:
    """Clients that read and write as fast as they can, and remember what they were told."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._domain = f"{secrets.token_hex(4)}.example"
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self.read = 0
        self.longest = 0.0
        self.strange: list[str] = []
        self._go = True

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(self._write(n)) for n in range(4)]
        self._tasks += [asyncio.ensure_future(self._reads()) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._go = False
        await asyncio.gather(*self._tasks)

    async def goes_on(self, number: int) -> None:
        """Wait until so many more writes are acknowledged, and as many reads."""
        writes, reads = len(self.acknowledged) + number, self.read + number
        await until(lambda: len(self.acknowledged) >= writes and self.read >= reads)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        begun = time.monotonic()
        try:
            response = await self._client.request(method, path, **options)
        except httpx.TransportError:  # only once it stops, and then it does not say whether it heard
            await asyncio.sleep(0.05)
            return None
        self.longest = max(self.longest, time.monotonic() - begun)
        if response.status_code == 503:
            await asyncio.sleep(0.05)
        elif response.status_code not in (200, 201):
            self.strange.append(f"{method} {path}: {response.status_code} {response.text}")
        return response

    async def _reads(self) -> None:
        while self._go:
            response = await self._send("GET", "/v1/users?limit=5")
            self.read += response is not None and response.status_code == 200

    async def _write(self, client: int) -> None:
        number = 0
        while self._go:
            number += 1
            email = f"{client}-{number}@{self._domain}"
            response = await self._send("POST", "/v1/users", json={"email": email})
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
