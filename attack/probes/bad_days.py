"""What becomes of the database, and of the service itself: killed, hanging, resetting, stopping."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Thread

from clients import KeptAlive, Writers, close_all, slow_reader
from report import Result
from service import PACKAGE, Service, Target, wait_for
from tests.faults import Proxy, kill_all, sessions
from tests.process.raw_http import Client, request

VERSIONS = f"alembic_version_{PACKAGE}"


def privileges(target: Target, result: Result) -> None:
    """The account loses INSERT: writes are refused and nothing is stored, the service is not ready; and comes back."""
    server, database = target.server, target.database
    if server is None:
        result.note = "no accounts"
        return
    if target.engine == "postgresql":
        lost, back = (
            f"REVOKE INSERT ON users FROM {database.user}",
            f"GRANT INSERT ON users TO {database.user}",
        )
    else:
        where = f"`{database.name}`.*"
        lost = f"REVOKE INSERT ON {where} FROM '{database.user}'@'%'"
        back = f"GRANT INSERT ON {where} TO '{database.user}'@'%'"
    with target.service(result) as service:
        run = target.rows if target.engine == "postgresql" else server.query
        run(lost)
        try:
            kill_all(server, target.settings)  # MySQL and MariaDB: a session keeps what it had
            before = target.count()
            for each in range(20):
                answer = service.ask("POST", "/v1/users", {"email": f"lost-{each}"})
                result.expect("POST without the privilege", answer, refused={503})
                if answer and answer.status == 503:
                    result.check(b"othing was stored" in answer.body, "503 without: nothing was stored")
            result.expect("a read", service.ask("GET", "/v1/users?limit=1"), accepted={200})
            result.check(service.becomes(503, seconds=5), "ready, and every write is refused")
            result.fail("refused and stored", target.count() - before)
        finally:
            run(back)
        kill_all(server, target.settings)
        result.check(service.becomes(200, seconds=40), "not ready when the privilege is back")
        answer = service.ask("POST", "/v1/users", {"email": f"back-{time.monotonic_ns()}"})
        result.expect("POST with the privilege", answer, accepted={201})
        log = service.said()
        result.check(log, "no sentence in the log")


def resets(target: Target, result: Result) -> None:
    """Between service and database: connections that are reset, accepted and reset, slow or mute, while clients read."""
    if target.server is None:
        result.note = "no server"
        return
    limits = {"connect": 1.0, "acquire": 2.0, "statement": 2.0} if target.short else {}
    with (
        Proxy(target.settings) as proxy,
        target.service(result, limits=limits, environ={"DB_PORT": str(proxy.settings.db_port)}) as service,
    ):
        with _readers(service, result):
            for number in range(3 if target.short else 8):
                time.sleep(0.2)
                proxy.cut()
                proxy.break_new(after=(0, 1, 60, 200)[number % 4], reset=number % 3 != 2)
                time.sleep(0.3)
                proxy.cut()
                proxy.resume()
            proxy.hold()
            time.sleep(1)
            proxy.cut()
            proxy.resume()
            time.sleep(1)
        result.check(service.becomes(200, seconds=20), "not ready when the connections hold again")
        for path in ("/v1/users?limit=1",) * 10:
            result.expect("a read afterwards", service.ask("GET", path), accepted={200})


def start(target: Target, result: Result) -> None:
    """A start that meets a locked version table or a database that hangs: SIGTERM ends it within 2 seconds."""
    if target.server is None:
        result.note = "no server"
        return
    server = target.server
    if target.engine == "postgresql":
        lock = f"LOCK TABLE {VERSIONS} IN ACCESS EXCLUSIVE MODE"
    else:
        lock = f"LOCK TABLES {VERSIONS} WRITE"
    with closing(target.database.connect()) as connection:
        connection.cursor().execute(lock)
        begun = len(sessions(server, target.settings))
        _ends_on_sigterm(
            target,
            result,
            "a locked version table",
            {},
            lambda: wait_for(lambda: len(sessions(server, target.settings)) > begun),
        )
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(60)
        environ = {"DB_PORT": str(mute.getsockname()[1])}
        _ends_on_sigterm(target, result, "a mute database", environ, mute.accept)


def sigterm(target: Target, result: Result) -> None:
    """SIGTERM under load: /readyz is 503 before the port closes, nobody is refused before, what is acknowledged is stored,
    and a client that does not read delays the end no longer than the limits say."""
    environ = {"SHUTDOWN_DELAY": "1"} if target.short else {}
    limits = {"drain": 3.0} if target.short else {}
    allowed = 8 if target.short else 28
    service = Service(target, limits, None, environ)
    try:
        service.wait_until_ready()
        service.begin(result)
        large = service.create(f"sigterm-{time.monotonic_ns()}", note="x" * 900_000)
        deaf = [slow_reader(service.port).send(request("GET", f"/v1/users/{large}") * 16) for _ in range(4)]
        idle = [Client(service.port).send(request("GET", "/healthz")) for _ in range(8)]
        for each in idle:
            each.answer()
        with service.watched(health=False), Writers(service, result, 8) as writers:
            result.check(writers.go_on(50), "no write got through before")
            service.terminate()
            began = time.monotonic()
            seen, refused = 0, False
            while not refused:
                status = service.status("GET", "/readyz")
                seen += status == 503
                refused = status == 0
                if refused and not seen:
                    result.fail("the port closed before /readyz was 503")
                time.sleep(0.05)
            closed = time.monotonic() - began
            last = len(writers.acknowledged)
        result.check(last > 50, "no write got through before the port closed")
        code = service.ended(allowed + 10)
        seconds = time.monotonic() - began
        result.note = f"port closed after {closed:.1f} s, end after {seconds:.1f} s"
        result.check(code == 0, f"exit status {code}")
        result.check(seconds < allowed, f"it ended after {seconds:.1f} s")
        close_all([*deaf, *idle])
        writers.check_stored(target)
        result.check(
            "Traceback" not in service.said(), f"a traceback in the log: ...{service.said()[-1200:]}"
        )
    finally:
        service.kill()


def killed(target: Target, result: Result) -> None:
    """The database is killed under load and comes back, twice; SQLite with the service that it is a part of."""
    if target.server is None:
        for _ in range(2):
            service = Service(target)
            service.wait_until_ready()
            service.begin(result)
            with service.watched(health=False), Writers(service, result, 8) as writers:
                result.check(writers.go_on(100), "no write gets through")
                service.kill()
            writers.check_stored(target)
        with target.service(result) as service:
            service.create(f"after-{time.monotonic_ns()}")
        return
    with target.service(result, limits={"write": 5.0}) as service:
        with Writers(service, result, 8) as writers:
            for _ in range(2):
                result.check(writers.go_on(100), "no write gets through")
                target.server.stop(hard=True)
                time.sleep(1)
                result.check(service.becomes(503, seconds=20), "ready without a database")
                target.server.start()
                result.check(wait_for(lambda: service.status("GET", "/readyz") == 200, 40), "not ready again")
            result.check(writers.go_on(100), "no write gets through afterwards")
        result.note = f"{len(writers.acknowledged)} acknowledged"
        writers.check_stored(target)
        result.check(service.becomes(200, seconds=10), "not ready afterwards")


@contextmanager
def _readers(service: Service, result: Result) -> Iterator[None]:
    """Clients that read meanwhile: 200 or 503, nothing else."""
    go = [True]

    def read(_: int) -> None:
        client = KeptAlive(service)
        while go:
            answer = client.ask("GET", "/v1/users?limit=5")
            result.expect("a read", answer, accepted={200}, refused={503})
            if answer is None or answer.status == 503:
                time.sleep(0.02)
        client.close()

    threads = [Thread(target=read, args=[each]) for each in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        go.clear()
        for thread in threads:
            thread.join()


def _ends_on_sigterm(
    target: Target, result: Result, what: str, environ: dict[str, str], has_begun: Callable[[], object]
) -> None:
    service = Service(target, None, None, environ)
    try:
        has_begun()
        time.sleep(1)
        if service.process.poll() is not None:
            result.fail(f"{what}: ended by itself: {service.said()[-300:]}", sent=1)
            return
        began = time.monotonic()
        service.terminate()
        if service.ended(30) is None or time.monotonic() - began > 2.5:
            result.fail(f"{what}: SIGTERM took {time.monotonic() - began:.1f} s", sent=1)
        else:
            result.add(refused=1)
        result.check("Traceback" not in service.said(), f"{what}: a traceback in the log")
    finally:
        service.kill()
