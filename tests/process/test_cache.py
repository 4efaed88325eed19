"""The cache on a real Redis: its names and types, and a service that works while it is away."""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from dbservice import Cache, Limits, ReadOnlyCache, Row
from dbservice.accounts import cache as accounts
from dbservice.cache import CacheClient, CacheConnection
from dbservice.errors import StartupError
from dbservice.http import Router
from dbservice.settings import Settings
from dbservice.testing.servers.redis import Redis

from ..cached_services import ANALYTICS, API, PASSWORD, provision, service, settings_of
from ..faults import Proxy
from ..sample_service import served
from .test_tls import TlsBefore, _authority, _certificate, _write

PATIENT = Limits(cache=30.0, cache_pause=0.05)


class Total(Row):
    name: str
    count: int


@pytest.fixture
def server(cache_server: Redis) -> Redis:
    provision(cache_server)
    cache_server.command("FLUSHALL")
    return cache_server


@asynccontextmanager
async def cache_of(settings: Settings, limits: Limits = PATIENT) -> AsyncIterator[CacheClient]:
    connection = CacheConnection("api", settings, limits)
    yield CacheClient(connection)
    await connection.close()


async def test_every_key_is_of_the_service_and_ends(server: Redis) -> None:
    async with cache_of(settings_of(server, API)) as cache:
        assert await cache.set("é", b"\0\xff", ttl=60) and await cache.set("", {"a": 1}, ttl=0.5)
        assert await cache.incr("n", ttl=60) == 1 and await cache.incr("n", 5, ttl=9) == 6
        found = server.command("KEYS", "*")
        assert set(found) == {"api:é".encode(), b"api:", b"api:n"}
        remaining = {key: server.command("PTTL", key) for key in found}
        assert 0 < remaining[b"api:"] <= 500 and 9_000 < remaining[b"api:n"] <= 60_000
        assert await cache.get("é", bytes) == b"\0\xff"
        assert await cache.delete("é", "n") and server.command("KEYS", "*") in ([b"api:"], [])
        for ttl in (0, -1, 0.0001):
            with pytest.raises(ValueError, match="ttl"):
                await cache.set("x", 1, ttl=ttl)


async def test_a_value_has_the_type_that_is_asked_for(server: Redis) -> None:
    async with cache_of(settings_of(server, API)) as cache:
        totals = [Total("é", 1), Total("b", 2)]
        await cache.set("totals", totals, ttl=60)
        await cache.set("total", totals[0], ttl=60)
        await cache.set("other", {"name": "c"}, ttl=60)
        assert await cache.get("totals", list[Total]) == totals
        assert await cache.get("totals", Total) is None and await cache.get("nothing", Total) is None
        assert await cache.get_many(["total", "other", "nothing", "total"], Total) == {"total": totals[0]}
        assert await cache.get_many([], Total) == {}
        with pytest.raises(TypeError, match="object"):
            await cache.set("x", object(), ttl=60)


async def test_a_subscriber_gets_messages_again_after_the_server_was_away(server: Redis) -> None:
    async with cache_of(settings_of(server, API)) as cache:
        got: list[Total] = []

        async def listen() -> None:
            async for message in cache.subscribe("news", Total):
                got.append(message)

        async def hears(count: int) -> None:
            async with asyncio.timeout(60):
                while Total("x", count) not in got:
                    await cache.publish("news", "of another type")
                    await cache.publish("news", Total("x", count))
                    await asyncio.sleep(0.02)

        listening = asyncio.ensure_future(listen())
        await hears(1)
        server.stop()
        assert not await cache.publish("news", Total("x", 1))
        server.start()
        await hears(2)
    await asyncio.wait_for(listening, 30)  # it ends with the service


async def test_no_answer_is_ever_that_of_another_command(server: Redis) -> None:
    """A command that is cancelled leaves its answer behind, which nobody else may get."""
    async with cache_of(settings_of(server, API)) as cache:
        for number in range(50):
            await cache.set(str(number), number, ttl=60)

        async def ask(number: int) -> None:
            if number % 2:
                assert await cache.get(str(number), int) == number
            else:
                assert await cache.get_many([str(number)], int) == {str(number): number}

        async def cancelled(number: int) -> None:
            asking = asyncio.ensure_future(ask(number))
            await asyncio.sleep(random.random() * 0.004)
            asking.cancel()
            await asyncio.wait({asking})

        for _ in range(10):
            await asyncio.gather(*map(cancelled, range(50)), *map(ask, range(50)))
        await asyncio.gather(*map(ask, range(50)))


# --- a service whose cache is away

router = Router("totals")


@router.get("/{name}")
async def read_total(name: str, cache: Cache) -> dict[str, Any]:
    before = await cache.get(name, Total)
    stored = await cache.set(name, Total(name, 1 + (before.count if before else 0)), ttl=60)
    visits = await cache.incr("visits", ttl=60)
    await cache.publish("totals", name)
    return {"count": before and before.count, "stored": stored, "visits": visits}


@asynccontextmanager
async def client_of(settings: Settings, folder: Path, **limits: float) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings.model_copy(update={"db_name": str(folder / "x.db")})
    made = service("api", routers=[router], limits=Limits(**limits))  # type: ignore[arg-type]
    async with served(made, settings) as client:
        yield client


async def asked(client: httpx.AsyncClient) -> Any:
    response = await client.get("/v1/totals/a")
    assert response.status_code == 200, response.text
    return response.json()


async def works_again(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while not (await asked(client))["stored"]:  # noqa: ASYNC110 - it is asked for
            await asyncio.sleep(0.01)


NOTHING = {"count": None, "stored": False, "visits": None}


async def test_a_service_works_while_the_cache_is_away(
    server: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with client_of(settings_of(server, API), tmp_path, cache=30, cache_pause=0.05) as client:
        assert await asked(client) == {"count": None, "stored": True, "visits": 1}
        assert await asked(client) == {"count": 1, "stored": True, "visits": 2}
        for hard in (False, True):
            server.stop(hard=hard)
            assert [await asked(client) for _ in range(20)] == [NOTHING] * 20
            server.start()
            await works_again(client)
    lines = [each for each in caplog.records if each.name.startswith("dbservice.cache")]
    assert len(lines) == 1 and f":{server.port} is away" in lines[0].getMessage()
    assert not {each.name for each in caplog.records if each.name.startswith("redis")}


async def test_a_service_starts_without_its_cache(server: Redis, tmp_path: Path) -> None:
    server.stop()
    try:
        async with client_of(settings_of(server, API), tmp_path, cache=30, cache_pause=0.05) as client:
            assert await asked(client) == NOTHING
            server.start()
            await works_again(client)
    finally:
        server.start()


async def test_a_cache_that_hangs_holds_nobody_up(server: Redis, tmp_path: Path) -> None:
    async with client_of(settings_of(server, API), tmp_path, cache=0.2, cache_pause=60) as client:
        await asked(client)
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            answers = await asyncio.gather(*(asked(client) for _ in range(100)))
            assert answers == [NOTHING] * 100
            for _ in range(100):
                assert await asked(client) == NOTHING
            assert (
                time.monotonic() - started < 10
            )  # 200 requests of four commands, each of which may take 0.2 s
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_command_that_is_cancelled_ends_whatever_it_was_doing(server: Redis) -> None:
    """While it connects, sends, or waits for the answer of a server that hangs."""
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for steps in range(40):
            async with cache_of(settings_of(server, API), Limits(cache=60)) as cache:
                asking = asyncio.ensure_future(cache.get("a", int))
                for _ in range(steps):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait({asking}, timeout=2)
                assert asking.cancelled(), steps
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_one_asks_whether_the_cache_is_back_and_nobody_waits_for_that(server: Redis) -> None:
    async with cache_of(settings_of(server, API), Limits(cache=2, cache_pause=0.1)) as cache:
        assert await cache.set("a", 1, ttl=60) and server.pid
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert await cache.get("a", int) is None
            await asyncio.sleep(0.2)
            first, *others = [asyncio.ensure_future(cache.get("a", int)) for _ in range(50)]
            assert await asyncio.gather(*others) == [None] * 49 and not first.done()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await first == 1 == await cache.get("a", int)


async def test_a_network_that_is_silent_is_noticed_and_left(server: Redis, tmp_path: Path) -> None:
    settings = settings_of(server, API)
    target = settings.model_copy(update={"db_host": settings.cache_host, "db_port": settings.cache_port})
    with Proxy(target) as proxy:
        settings = settings.model_copy(update={"cache_port": proxy.settings.db_port})
        async with client_of(settings, tmp_path, cache=0.3, cache_pause=0.05) as client:
            await asked(client)
            proxy.hold()
            assert await asked(client) == NOTHING
            proxy.resume()
            await works_again(client)


@pytest.mark.parametrize("wrong", ["password", "rights"])
async def test_a_cache_that_refuses_the_account_is_as_one_that_is_away(
    server: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    settings = settings_of(server, API)
    if wrong == "password":
        settings = settings_of(server, API, CACHE_PASS="hush-hush")
    else:
        server.command("ACL", "SETUSER", "api-cache", "nocommands")
    async with client_of(settings, tmp_path, cache=30, cache_pause=60) as client:
        assert [await asked(client) for _ in range(5)] == [NOTHING] * 5
    (line,) = [each.getMessage() for each in caplog.records if each.name.startswith("dbservice.cache")]
    assert (
        "password" if wrong == "password" else "refuses GET: NoPermissionError: this user has no permissions"
    ) in line and "hush" not in line


async def test_without_a_host_there_is_no_cache(
    server: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(settings_of(server, API, CACHE_HOST=""), tmp_path) as client:
        assert await asked(client) == NOTHING
    assert not [each for each in caplog.records if each.name.startswith("dbservice.cache")]


async def test_a_service_that_only_reads_has_a_cache_that_only_reads(server: Redis, tmp_path: Path) -> None:
    reading = Router("sums")

    @reading.get("/right")
    async def right(cache: ReadOnlyCache) -> dict[str, Any]:
        assert not hasattr(cache, "set") and not hasattr(cache, "publish")
        return {"count": await cache.get("a", int), "many": await cache.get_many(["a", "b"], int)}

    @reading.get("/wrong")
    async def wrong(cache: Cache) -> None: ...

    server.command("SET", "analytics:a", "7")
    made = service("analytics", owns=False, routers=[reading])
    settings = settings_of(server, ANALYTICS).model_copy(update={"db_name": str(tmp_path / "x.db")})
    async with served(made, settings) as client:
        assert (await client.get("/v1/sums/right")).json() == {"count": 7, "many": {"a": 7}}
        assert (await client.get("/v1/sums/wrong")).status_code == 500
    async with made.running(settings) as running:
        with pytest.raises(RuntimeError, match=r"analytics only reads, .* `cache: ReadOnlyCache`"):
            _ = running.cache


async def test_a_host_without_the_client_is_an_error_at_the_start(
    server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "dbservice.cache.driver", raising=False)
    monkeypatch.delattr("dbservice.cache.driver", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StartupError, match=r"CACHE_HOST is set.*requirements-cache.txt"):
        async with client_of(settings_of(server, API), tmp_path):
            pass
    async with client_of(settings_of(server, API, CACHE_HOST=""), tmp_path) as client:
        assert await asked(client) == NOTHING


async def test_a_new_password_is_read_from_its_file(server: Redis, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    settings = settings_of(server, API, admin=True, CACHE_PASS="", CACHE_PASS_FILE=str(file))
    async with cache_of(settings) as cache:
        assert await cache.set("x", 1, ttl=60)
        file.write_text("another")
        new = settings_of(server, API, admin=True, CACHE_PASS="another")
        assert len(accounts.apply(API, new)) == 2
        assert await cache.get("x", int) == 1  # the open connection stays
        server.command("CLIENT", "KILL", "USER", "api-cache")
        async with asyncio.timeout(30):
            while await cache.get("x", int) != 1:  # noqa: ASYNC110 - it happens in the server
                await asyncio.sleep(0.01)
    with server.connect("api-cache", PASSWORD) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


async def test_tls_and_the_certificate_of_the_cache(server: Redis, tmp_path: Path) -> None:
    settings = settings_of(server, API)
    key, ca = _authority()
    _write(tmp_path / "ca.pem", ca)
    _write(tmp_path / "other.pem", _authority()[1])
    target = settings.model_copy(update={"db_host": settings.cache_host, "db_port": settings.cache_port})
    certificate, secret, _ = _certificate(key, ca, tmp_path)
    before = TlsBefore(target, certificate, secret, at_once=True)
    plain = {"cache_port": before.port}
    works = [
        plain | {"cache_ssl_mode": "require"},
        plain | {"cache_ssl_mode": "verify-full", "cache_ssl_ca": tmp_path / "ca.pem"},
    ]
    fails = [
        plain,
        plain | {"cache_ssl_mode": "verify-full"},
        plain | {"cache_ssl_mode": "verify-full", "cache_ssl_ca": tmp_path / "other.pem"},
        works[1] | {"cache_host": "localhost"},
    ]
    try:
        for changes in [*works, *fails]:
            async with cache_of(settings.model_copy(update=changes), Limits(cache=5)) as cache:
                assert await cache.set("x", 1, ttl=60) == (changes in works), changes
    finally:
        before.close()


def test_the_settings_of_the_account_are_what_the_server_has(server: Redis) -> None:
    environ = server.environ("api-cache", PASSWORD)
    assert (
        Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "/tmp/no-database", **environ}).cache_port
        == server.port
    )
    with server.connect("api-cache", PASSWORD) as client:
        assert client.ping()
    with Redis() as another:
        pid = another.pid
        assert (
            pid and another.port != server.port and another.command("CONFIG", "GET", "save") == [b"save", b""]
        )
        status = Path(f"/proc/{pid}/status").read_text()
        (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in uids
    assert another.pid is None
