"""A roll-out as compose and Kubernetes make it, with real processes: the old version serves while `migrate` of the new one runs
with its own account, the new version becomes ready, the old one is drained; and back, on the schema of the new one. No request
fails, neither of the service nor of another one that reads its tables."""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import copier
import httpx
import pytest
import yaml

from dbservice.testing.servers import Server

from ..faults import until
from ..process.service_process import Load, Process, Stamped

ROOT = Path(__file__).parents[2]
PASSWORDS = {"DB_PASS": "of the servïce", "MIGRATE_DB_PASS": "of migrations"}


class Endpoints(httpx.AsyncBaseTransport):
    """Sends each request to the next process that is ready, as a Service of Kubernetes does: it looks every now and then."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.failed: list[str] = []
        self.ready: list[Process] = []
        self.not_ready: list[str] = []
        self._next = count()
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self.ready, self.not_ready
        process = self.ready[next(self._next) % len(self.ready)]
        request.url = request.url.copy_with(port=process.port)
        try:
            return await self._inner.handle_async_request(request)
        except httpx.TransportError as error:
            self.failed.append(f"{request.method} {request.url}: {error!r}")
            raise

    async def look(self) -> None:
        """For ever: which are ready."""
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                said = {each: await _not_ready(each, client) for each in [*self.processes]}
                self.ready = [each for each, problem in said.items() if not problem]
                self.not_ready = [problem for problem in said.values() if problem]
                await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self, base_url="http://127.0.0.1", timeout=60)


async def _not_ready(process: Process, client: httpx.AsyncClient) -> str:
    try:
        answer = await client.get(f"http://127.0.0.1:{process.port}/readyz")
    except httpx.TransportError as error:
        return repr(error)
    return "" if answer.status_code == 200 else answer.text


class Deployment:
    """A service on the server: the environment of its commands, and its processes."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        self.package, self.folder = name.replace("-", "_"), folder
        self.environ, self.endpoints = environ, Endpoints()
        self._numbers = count()

    def command(self, code: Path, *words: str) -> Stamped:
        """A command of one version, with all accounts."""
        return Stamped(
            code, self.package, self.folder / f"command{next(self._numbers)}", self.environ, *words
        )

    def serve(self, code: Path) -> Stamped:
        """A process of one version, with the run-time account only."""
        environ = {
            name: value for name, value in self.environ.items() if not name.startswith(("ADMIN", "MIGRATE"))
        }
        process = Stamped(code, self.package, self.folder / f"serve{next(self._numbers)}", environ)
        self.endpoints.processes.append(process)
        return process

    async def gets_requests(self, process: Process) -> None:
        await until(lambda: process in self.endpoints.ready or not process.running)
        assert process.running, process.said()

    async def drain(self, process: Process) -> None:
        """SIGTERM, and wait until it has ended well."""
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0
        self.endpoints.processes.remove(process)


@pytest.fixture(scope="module")
def versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of a service, and another service."""
    parent = tmp_path_factory.mktemp("rollout")
    for name in ("backend-api", "analytics"):
        data = yaml.safe_load((ROOT / f"tests/answers/{name.replace('-', '_')}.yml").read_text())
        copier.run_copy(str(template), parent / name, data=data, defaults=True, quiet=True)
    shutil.copytree(parent / "backend-api", parent / "new")
    tables = parent / "new/src/backend_api/tables.py"
    text = tables.read_text().replace(
        "    active =", "    nick = Column(String(40), default='-', index=True)\n    active ="
    )
    tables.write_text(text.replace("String(255), unique", "String(300), unique") + _NOTES)
    environ = {"DB_TYPE": "sqlite", "DB_NAME": str(parent / "none.db")}
    words = ("revision", "-m", "nick and notes")
    assert "Wrote" in Stamped(parent / "new", "backend_api", parent / "revision", environ, *words).succeeded()
    return {"old": parent / "backend-api", "new": parent / "new", "analytics": parent / "analytics"}


_NOTES = """

class Notes(Table, name="notes"):
    user_id = Column(BigInteger(), ForeignKey("users.id"), index=True)
    text = Column(String(40))
"""


@pytest.fixture
def deployments(
    versions: dict[str, Path], own_server: Server, tmp_path: Path
) -> Iterator[dict[str, Deployment]]:
    """The two services on one database, with their accounts, migrated by the old version."""
    database = own_server.create_database()
    made = {}
    for name, account in (("backend-api", "backend-api-rw"), ("analytics", "analytics-ro")):
        environ = {
            **database.environ(),
            **PASSWORDS,
            "DB_USER": account,
            "MIGRATE_DB_USER": f"{name}-migrate",
            "ADMIN_DB_USER": own_server.user,
            "ADMIN_DB_PASS": own_server.password,
            "DB_SINGLE_ACCOUNT": "false",
            "DB_POOL_SIZE": "4",
            "DB_MAX_RETRIES": "0",
            "SHUTDOWN_DELAY": "1",
        }
        (tmp_path / name).mkdir()
        made[name] = Deployment(name, tmp_path / name, environ)
    owner, reader = made["backend-api"], made["analytics"]
    try:
        owner.command(versions["old"], "grants", "--apply").succeeded()
        owner.command(versions["old"], "migrate").succeeded()
        reader.command(versions["analytics"], "grants", "--apply").succeeded()
        yield made
    finally:
        own_server.drop_database(database)
        for account in ("backend-api-rw", "backend-api-migrate", "analytics-ro"):
            if own_server.type == "postgresql":
                own_server.query(f'DROP ROLE IF EXISTS "{account}"')
            else:
                own_server.query(f"DROP USER IF EXISTS '{account}'@'%'")


@pytest.mark.parametrize("_own_server", ["postgresql", "mariadb"], indirect=True)
async def test_no_request_fails_in_a_roll_out_and_back(
    deployments: dict[str, Deployment], versions: dict[str, Path]
) -> None:
    service, other = deployments["backend-api"], deployments["analytics"]
    old, new = versions["old"], versions["new"]
    with ExitStack() as stack:
        looking = [asyncio.ensure_future(each.endpoints.look()) for each in (service, other)]
        async with service.endpoints.client() as client, other.endpoints.client() as reader:
            reading = stack.enter_context(other.serve(versions["analytics"]))
            first = stack.enter_context(service.serve(old))
            await service.gets_requests(first)
            await other.gets_requests(reading)
            async with Load(client, clients=4) as load, Load(reader, clients=2, writes=False) as others:
                await load.goes_on(10)
                await asyncio.to_thread(service.command(new, "grants", "--apply").succeeded)
                assert "is at revision 0002" in await asyncio.to_thread(
                    service.command(new, "migrate").succeeded
                )
                await load.goes_on(10)
                second = stack.enter_context(service.serve(new))
                await service.gets_requests(second)
                await load.goes_on(10)
                await service.drain(first)
                await load.goes_on(10)

                # and back: an old image that is started again, with its own init container
                said = await asyncio.to_thread(service.command(old, "migrate").succeeded)
                assert "newer than this version, which can run on it" in said
                third = stack.enter_context(service.serve(old))
                await service.gets_requests(third)
                await load.goes_on(10)
                await service.drain(second)
                await load.goes_on(10)
                await others.goes_on(5)
            for each in (load, others):
                assert (each.strange, each.unavailable, each.unknown, each.refused) == ([], [], set(), set())
            assert service.endpoints.failed == other.endpoints.failed == []
        for task in looking:
            task.cancel()
