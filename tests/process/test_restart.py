"""A real process of the service, while its database starts, stops, is killed, hangs and comes back, until SIGTERM."""

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from dbservice.backends import backend_for
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Missing, Server

from ..faults import Proxy, prepared, sessions, shared_server, until, wait_until, with_tables

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
        self.port = _free_port()
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


def _free_port() -> int:
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


def stored(settings: Settings) -> set[str]:
    connection = backend_for(settings).connect()
    cursor = connection.cursor()
    cursor.execute("SELECT email FROM users")
    found = {email for (email,) in cursor.fetchall()}
    connection.close()
    return found


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
        found = {email for email in stored(settings) if email.endswith(self._domain)}
        assert not self.acknowledged - found
        assert not self.refused & found
        assert found <= self.acknowledged | self.unknown


@pytest.fixture(params=sorted(servers.ENGINES))
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the test may do anything to."""
    shared_server(request)  # skips what cannot be had
    try:
        server = servers.own(request.param)
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        yield server


# --- the database comes, goes and comes back


async def test_the_database_starts_late_stops_and_is_killed_under_a_running_service(
    own_server: Server, tmp_path: Path
) -> None:
    with prepared(own_server) as settings:
        own_server.stop()
        environ = environ_of(settings, DB_MAX_RETRIES="200", DB_RETRY_DELAY="0.1")
        with Process(tmp_path, environ) as process:
            wait_until(lambda: any("waiting for" in line for line in process.said()))
            await asyncio.to_thread(own_server.start)
            async with process.client() as client:
                await process.becomes(200, client)
                size = await metric(client, "db_read_pool_size")
                load = Load(client)
                async with load:
                    for hard in (False, True):
                        await load.goes_on(20)
                        await asyncio.to_thread(own_server.stop, hard)
                        answer = await process.becomes(503, client)
                        assert answer.json()["detail"] == "The database does not answer."
                        assert (await client.get("/healthz")).status_code == 200
                        await asyncio.to_thread(own_server.start)
                        await process.becomes(200, client)
                        await load.goes_on(20)
                assert not load.strange
                assert load.longest < LONGEST
                assert load.refused or load.unknown
                assert await metric(client, "db_read_pool_size") == size == 3
                assert await metric(client, "db_read_pool_in_use") == 0
                assert await metric(client, "db_writes_in_flight") == 0
            load.assert_kept(settings)
            assert len(sessions(own_server, settings)) <= 6
            assert not any("Traceback" in line for line in process.said())


async def test_a_database_that_hangs_holds_nobody_longer_than_a_limit(
    own_server: Server, tmp_path: Path
) -> None:
    with prepared(own_server) as settings, Process(tmp_path, environ_of(settings)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            load = Load(client)
            async with load:
                await load.goes_on(10)
                pids = _family(own_server)
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    await process.becomes(503, client)
                    await asyncio.sleep(2 * STATEMENT)
                finally:
                    for pid in pids:
                        os.kill(pid, signal.SIGCONT)
                await process.becomes(200, client)
                await load.goes_on(10)
            assert not load.strange
            assert load.longest < LONGEST
            assert await metric(client, "db_read_pool_in_use") == 0
        load.assert_kept(settings)


def _family(server: Server) -> list[int]:
    """The processes of a server, children first."""
    assert server.pid
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [*map(int, children), server.pid]


# --- the start


def assert_one_line(process: Process, *words: str) -> None:
    """Assert that it ended at once, with exit code 1 and one line that holds these words."""
    begun = time.monotonic()
    assert process.wait() == 1
    assert time.monotonic() - begun < 10
    (line,) = process.said()
    for word in words:
        assert word in line


def test_a_wrong_password_is_said_at_once(place: Settings, tmp_path: Path) -> None:
    environ = environ_of(place, DB_PASS="not-the-one", DB_MAX_RETRIES="50", DB_RETRY_DELAY="60")
    with Process(tmp_path, environ) as process:
        assert_one_line(process, "sample: Cannot use ", place.db_user, "check DB_USER and DB_PASS")
        assert "not-the-one" not in process.said()[0]


def test_a_missing_database_is_said_at_once(place: Settings, tmp_path: Path) -> None:
    environ = environ_of(place, DB_NAME="not_there", DB_MAX_RETRIES="50", DB_RETRY_DELAY="60")
    with Process(tmp_path, environ) as process:
        assert_one_line(process, "sample: Cannot use ", "not_there", "check DB_NAME")


def test_a_database_that_never_comes_is_given_up(place: Settings, tmp_path: Path) -> None:
    environ = environ_of(place, DB_PORT=str(_free_port()), DB_MAX_RETRIES="2", DB_RETRY_DELAY="0.1")
    with Process(tmp_path, environ) as process:
        assert process.wait() == 1
        *waiting, last = process.said()
    assert len(waiting) == 2 and all("waiting for" in line for line in waiting)
    assert last.startswith("sample: Nobody answers at ") and "after 3 attempts" in last


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
@pytest.mark.parametrize("port", ["DB_PORT", "DB_READ_PORT"])
def test_a_start_that_waits_can_be_ended(
    place: Settings, tmp_path: Path, port: str, how: signal.Signals
) -> None:
    environ = environ_of(place, **{port: str(_free_port())}, DB_MAX_RETRIES="9", DB_RETRY_DELAY="60")
    with Process(tmp_path, environ) as process:
        wait_until(process.said)
        process.signal(how)
        assert process.wait(5) == 128 + how
        assert len(process.said()) == 1


async def test_a_replica_that_comes_late_is_waited_for(
    server: Server, place: Settings, tmp_path: Path
) -> None:
    port = _free_port()
    environ = environ_of(place, DB_READ_PORT=str(port), DB_MAX_RETRIES="200", DB_RETRY_DELAY="0.1")
    with Process(tmp_path, environ) as process:
        wait_until(process.said)
        assert f":{port}/" in process.said()[0] and "waiting for " in process.said()[0]
        with Proxy(place, port=port):
            async with process.client() as client:
                await process.becomes(200, client)


def test_a_replica_that_never_comes_is_given_up(place: Settings, tmp_path: Path) -> None:
    port = _free_port()
    environ = environ_of(place, DB_READ_PORT=str(port), DB_MAX_RETRIES="1", DB_RETRY_DELAY="0.1")
    with Process(tmp_path, environ) as process:
        assert process.wait() == 1
        last = process.said()[-1]
    assert last.startswith("sample: Nobody answers at ") and f":{port}/" in last
    assert "Connection refused" in last


def test_a_database_without_tables_is_said_at_once(place: Settings, tmp_path: Path) -> None:
    versions = tmp_path / "migrations/versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(
        "revision, down_revision = '0001', None\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
    )
    with Process(tmp_path, environ_of(place)) as process:
        assert_one_line(process, "sample: ", "run `make migrate` first")


def test_a_port_in_use_is_said(place: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("serve", "--port", str(taken.getsockname()[1]))
        with Process(tmp_path, environ_of(place), *words) as process:
            assert process.wait() == 1
            assert any("address already in use" in line for line in process.said())
            assert not any("Traceback" in line for line in process.said())


# --- the end


@pytest.fixture(scope="module", params=["sqlite", *sorted(servers.ENGINES)])
def anywhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A database with tables, on each engine."""
    if request.param != "sqlite":
        with prepared(shared_server(request)) as settings:
            yield settings
        return
    settings = Settings.load(servers.sqlite(tmp_path_factory.mktemp("sqlite")).environ())
    with_tables(settings)
    yield settings


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
async def test_it_finishes_what_is_in_flight_and_ends(
    anywhere: Settings, tmp_path: Path, how: signal.Signals
) -> None:
    with Process(tmp_path, environ_of(anywhere)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            load = Load(client)
            async with load:
                await load.goes_on(5)
                writing = [
                    asyncio.ensure_future(client.post(f"/v1/slow/write/{n}@{how.name}.example"))
                    for n in range(2)
                ]
                reading = asyncio.ensure_future(client.get("/v1/slow/read"))
                await asyncio.sleep(0.3)
                process.signal(how)
                answers = await asyncio.gather(*writing, reading)
                assert await asyncio.to_thread(process.wait) == 0
            assert [answer.status_code for answer in answers] == [201, 201, 200]
            assert not load.strange
    load.assert_kept(anywhere)
    assert {f"{n}@{how.name}.example" for n in range(2)} <= stored(anywhere)
    assert process.said() == []


async def test_clients_that_go_away_cost_nothing(anywhere: Settings, tmp_path: Path) -> None:
    with Process(tmp_path, environ_of(anywhere)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            for path in ("/v1/slow/read", "/v1/users") * 15:
                with socket.create_connection(("127.0.0.1", process.port)) as gone:
                    gone.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await process.becomes(200, client)
            assert answer.json()["status"] == "ready"
            async with asyncio.timeout(20):
                while await metric(client, "db_read_pool_in_use"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(client.get("/v1/users") for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}


TELLTALE = {
    "postgresql": (
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no %', NEW.password; END $$",
        "CREATE TRIGGER telltale BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION tell()",
    ),
    "mysql": (
        "CREATE TRIGGER telltale BEFORE INSERT ON users FOR EACH ROW BEGIN SET @words = CONCAT('no ', NEW.password);"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = @words; END",
    ),
}
"""A database whose errors hold values."""


async def test_a_failure_of_the_service_is_logged_without_values(server: Server, tmp_path: Path) -> None:
    with prepared(server) as settings, Process(tmp_path, environ_of(settings)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            connection = backend_for(settings).connect()
            for statement in TELLTALE[server.type]:
                connection.cursor().execute(statement)
            body = {"email": "hush@example.com", "password": "hush-hush"}
            answers = [await client.post("/v1/users", json=body)]
            connection.cursor().execute("DROP TABLE items")
            connection.cursor().execute("DROP TABLE users")
            connection.close()
            answers += [await client.post("/v1/users", json=body), await client.get("/v1/users")]
            assert [answer.status_code for answer in answers] == [500, 500, 500]
            await until(lambda: sum("Traceback" in line for line in process.said()) >= 3)
            assert not any("hush" in text for text in (*process.said(), *(answer.text for answer in answers)))
            assert (await client.get("/v1/order")).status_code == 200
