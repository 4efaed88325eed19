"""The stamped service that is attacked, its database, and its processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import HEALTH_BOUND, SHORT_HEALTH_BOUND, Result
from tests.process.raw_http import Answer, Client, request

from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Database, Server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGE = "attack_svc"
SHORT = {"headers_timeout": 2.0, "receive": 2.0, "send": 2.0}
"""Limits of what takes long by default, for the short form."""


class Failed(Exception):
    """The probes cannot begin; the message is one sentence."""


def stamp(folder: Path) -> Path:
    """Stamp the service from the working tree into `folder`, and give it the routes of the probes."""
    template, service = folder / "template", folder / "service"
    kept_out = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "__pycache__", "build", "bench", "attack", "tests", "docs"
    )
    shutil.copytree(ROOT, template, ignore=kept_out)
    shutil.copytree(ROOT / "template", template / "template", ignore=kept_out, dirs_exist_ok=True)
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--data-file"]
    _run([*copy, str(HERE / "answers.yml"), str(template), str(service)])
    package = service / "src" / PACKAGE
    shutil.copy(HERE / "routes.py", package / "routes/attack.py")
    (package / "routes/__init__.py").write_text(
        "from . import attack, users\n\nrouters = [attack.router, users.router]\n"
    )
    # the limits are the defaults, except those that a probe changes
    written = (package / "service.py").read_text()
    changed = written.replace(
        "routers=routers,", 'routers=routers, limits=Limits(**json.loads(os.environ["ATTACK_LIMITS"])),'
    ).replace("from dbservice import Service", "import json, os\nfrom dbservice import Limits, Service")
    if changed.count("Limits") != 2:
        raise Failed("the stamped service.py is not what the probes expect: see attack/service.py.")
    (package / "service.py").write_text(changed)
    return service


@dataclass
class Target:
    """The service on one engine: what a probe gets."""

    engine: str
    folder: Path  # of the service
    work: Path
    server: Server | None
    database: Database
    short: bool
    _running: "Service | None" = None
    _options: tuple[Any, ...] = ()

    @property
    def settings(self) -> Settings:
        return Settings.load(self.database.environ())

    def rows(self, sql: str) -> list[Any]:
        """The rows of a statement, by the driver alone; committed."""
        with closing(self.database.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return found

    def count(self, condition: str = "1 = 1") -> int:
        """How many users there are with this."""
        return int(self.rows(f"SELECT COUNT(*) FROM users WHERE {condition}")[0][0])

    def environ(self, **more: str) -> dict[str, str]:
        removed = re.compile("DB_|MIGRATE_|PG|PYTHON|MAKE|CACHE_|LOG_|ATTACK_|SHUTDOWN_|PORT$|HOST$")
        kept = {name: value for name, value in os.environ.items() if not removed.match(name)}
        path = {"PYTHONPATH": str(self.folder / "src"), "LOG_LEVEL": "warning", "ATTACK_LIMITS": "{}"}
        return kept | path | self.database.environ() | more

    def migrate(self) -> None:
        _run([sys.executable, "-m", PACKAGE, "migrate"], cwd=self.folder, env=self.environ())

    @contextmanager
    def service(
        self,
        result: Result,
        *,
        limits: Mapping[str, Any] | None = None,
        files: int | None = None,
        environ: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Iterator["Service"]:
        """A process of the service that is ready, and its monitor; `limits` are not the defaults, `files` is how many
        descriptors it may have. It is that of the probe before if that was the same, unless it is to be `fresh`."""
        options = (limits or {}, files, environ or {})
        if self._running is None or self._options != options or fresh:
            self.stop()
            self._running, self._options = Service(self, *options), options
            self._running.wait_until_ready()
        service = self._running
        service.begin(result)
        try:
            with service.watched():
                yield service
        except BaseException:
            self.stop()
            raise
        log = service.said()
        result.check("Traceback" not in log, f"a traceback in the log: ...{log[-1200:]}")
        if service.process.poll() is not None:
            self.stop()

    def stop(self) -> None:
        """End the process that `service` has started."""
        if self._running is not None:
            self._running.kill()
            self._running = None


@contextmanager
def target(engine: str, folder: Path, short: bool) -> Iterator[Target]:
    """A database of its own on a server of its own, which the probes may kill."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attack-")))
        if engine == "sqlite":
            server, database = None, servers.sqlite(work)
        else:
            server = stack.enter_context(servers.own(engine, options=_OPTIONS.get(engine, ())))
            database = server.create_database("attack")
        made = Target(engine, folder, work, server, database, short)
        made.migrate()
        stack.callback(made.stop)
        yield made


_OPTIONS = {
    "postgresql": ("-c", "max_connections=200"),
    "mariadb": ("--max-connections=300",),
    "mysql": ("--max-connections=300",),
}


class Service:
    """A process of the service."""

    result: Result
    _said = 0

    def __init__(
        self,
        target: Target,
        limits: Mapping[str, Any] | None = None,
        files: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.port = servers.free_port()
        self.log = target.work / f"{self.port}.log"
        command = [sys.executable, "-m", PACKAGE, "serve", "--port", str(self.port)]
        if files:
            command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
        environ = target.environ(**environ or {}) | {"ATTACK_LIMITS": json.dumps(limits or {})}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=target.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def begin(self, result: Result) -> None:
        """From now on it is watched for `result`, and `said` begins."""
        self.result, self._said = result, self.log.stat().st_size

    def said(self) -> str:
        """What it has logged since `begin`."""
        return self.log.read_bytes()[self._said :].decode(errors="replace")

    def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Answer | None:
        """The answer over a new connection; None if there is none."""
        sent = None if body is None else json.dumps(body).encode()
        with closing(Client(self.port)) as client:
            return client.send(request(method, path, sent, "Connection: close", *headers)).answer()

    def status(self, method: str, path: str, body: Any = None) -> int:
        """The status of the answer over a new connection; 0 if there is none."""
        try:
            answer = self.ask(method, path, body)
        except (OSError, AssertionError):
            return 0
        return answer.status if answer else 0

    def create(self, email: str, **columns: Any) -> int:
        """The id of a new user. Raises AssertionError unless it is created."""
        answer = self.ask("POST", "/v1/users", {"email": email, **columns})
        assert answer is not None and answer.status == 201, answer
        return int(json.loads(answer.body)["id"])

    def gauge(self, name: str) -> float:
        """The value of a metric."""
        answer = self.ask("GET", "/metrics")
        found = answer and re.search(rf"^{re.escape(name)} (\S+)$", answer.body.decode(), re.MULTILINE)
        assert found, answer
        return float(found[1])

    def becomes(self, status: int, path: str = "/readyz", seconds: float = 30) -> bool:
        """Whether the status of `path` becomes this in time."""
        return wait_for(lambda: self.status("GET", path) == status, seconds)

    def wait_until_ready(self) -> None:
        """Raises Failed if it does not get ready."""
        if not wait_for(
            lambda: self.process.poll() is not None or self.status("GET", "/readyz") == 200
        ) or self.process.poll() not in (None,):
            self.kill()
            raise Failed(f"the service does not start on {self.target.engine}:\n{self.said()[-2000:]}")

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float) -> int | None:
        """Its exit code, if it ends in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def watched(self, *, health: bool = True) -> Iterator[None]:
        """Watch it for `result`; unless `health` is false, it has to answer /healthz all the time."""
        monitor = subprocess.Popen(
            [sys.executable, "-I", "-S", HERE / "monitor.py", str(self.port), str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert monitor.stdout
        monitor.stdout.readline()
        try:
            yield
        finally:
            found, _ = monitor.communicate()
            alive = self.process.poll() is None
            bound = SHORT_HEALTH_BOUND if self.target.short else HEALTH_BOUND
            self.result.watched(json.loads(found), health=health and alive, bound=bound)


def wait_for(condition: Any, seconds: float = 60) -> bool:
    """Whether `condition` gets true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _run(command: list[str], **options: Any) -> None:
    # Copier would stop, in the background of a terminal
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, **options
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
