"""A server under test, and the measurement of one wrk run."""

import json
import os
import random
import re
import signal
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from database import ROWS, Store

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
METHODS = {"get": "GET", "list": "GET", "post": "POST"}
BODY = '{"sku":"{sku}","name":"Benchmark item with an ordinary name","price":"12.34","active":true}'

# With two cores the server has one to itself; wrk and PostgreSQL, which are not measured, share the other.
SERVER_CORE, OTHER_CORE = ({0}, {1}) if sorted(os.sched_getaffinity(0))[:2] == [0, 1] else (None, None)


class Failed(Exception):
    """The benchmark cannot continue; the message is one sentence."""


def pinned(cores: set[int] | None, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else list(command)


@dataclass
class Sample:
    """One run of wrk: `rps` requests per second, `p50` and `p99` in milliseconds, `bad` wrong statuses and socket errors,
    `cpu` and `database_cpu` in CPU seconds per 1000 requests, `busy` and `other_load` as shares of the CPU time."""

    rps: float
    p50: float
    p99: float
    bad: int
    cpu: float
    database_cpu: float
    busy: float
    other_load: float


@dataclass
class Server:
    """A server: its command, the path of its resource, and the database that stores its rows."""

    name: str
    about: str
    command: Sequence[str]  # {port} is filled in
    folder: Path
    environ: Mapping[str, str]
    resource: str
    store: Store
    operations: Sequence[str] = ("get", "list", "post")
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def path(self, operation: str) -> str:
        return self.resource + {"get": "/{id}", "list": "?limit=50&after={id}", "post": ""}[operation]

    def url(self, operation: str, number: int = 0) -> str:
        return f"http://127.0.0.1:{self.port}" + self.path(operation).replace("{id}", str(number))

    def start(self, logs: Path) -> None:
        """Start it and wait until it answers. Raises Failed after 30 seconds, or when the process ends."""
        path = logs / f"{self.name}.log"
        with path.open("wb") as log:
            self.process = subprocess.Popen(
                pinned(SERVER_CORE, [each.replace("{port}", str(self.port)) for each in self.command]),
                cwd=self.folder,
                env={**self.environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Failed(f"{self.name} did not start:\n{path.read_text()[-1500:]}") from None
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def cpu(self) -> float:
        """The CPU seconds it has used."""
        return _cpu_of_group(self.process.pid) if self.process else 0.0

    def answers(self) -> tuple[Any, Any]:
        """Return the values of its row 77 and of its page after row 100."""
        page = _http("GET", self.url("list", 100))[1]["items"]
        return _values(_http("GET", self.url("get", 77))[1]), [_values(row) for row in page]

    def check(self, expected: tuple[Any, Any] | None) -> None:
        """Raise Failed unless it answers the same values as L0, and a POST stores the row that it answers."""
        if expected and "get" in self.operations and (answers := self.answers()) != expected:
            raise Failed(f"{self.name} answers other values than L0: {answers}, expected {expected}")
        if "post" in self.operations:
            sku = f"check-{random.getrandbits(48):x}"
            status, row = _http("POST", self.url("post"), BODY.replace("{sku}", sku))
            answered, stored = _values(row), self.store.row(sku)
            recent = stored is not None and abs((datetime.now(UTC) - stored[5]).total_seconds()) < 60
            wanted = (sku, "Benchmark item with an ordinary name", Decimal("12.34"), True)
            if (
                status != 201
                or answered != stored
                or stored[1:5] != wanted
                or stored[0] <= ROWS
                or not recent
            ):
                raise Failed(f"{self.name} answers {status} and {answered}, but stored {stored}")

    def load(self, operation: str, clients: int, seconds: int, database_pid: int) -> Sample:
        """Run wrk once. Raises Failed when it reports no requests."""
        assert self.process
        environ = {
            **os.environ,
            "BENCH_OPERATION": operation,
            "BENCH_METHOD": METHODS[operation],
            "BENCH_PATH": self.path(operation),
            "BENCH_BODY": BODY,
            "BENCH_RUN": f"{random.getrandbits(40):x}-",
            "BENCH_SEED": str(random.randrange(1, 10**9)),
            "BENCH_ROWS": str(ROWS if operation == "get" else ROWS - 60),
        }
        wrk = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "wrk.lua")]
        server, database, machine, own = (
            _cpu_of_group(self.process.pid),
            _cpu_of_family(database_pid),
            _cpu_of_machine(),
            os.times(),
        )
        started = time.perf_counter()
        run = subprocess.run(
            pinned(OTHER_CORE, [*wrk, f"http://127.0.0.1:{self.port}"]),
            env=environ,
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - started
        server = _cpu_of_group(self.process.pid) - server
        database = _cpu_of_family(database_pid) - database
        now = os.times()
        wrk_cpu = now.children_user + now.children_system - own.children_user - own.children_system
        others = _cpu_of_machine() - machine - server - database - wrk_cpu
        found = re.search(r"^JSON(\{.*\})", run.stdout, re.M)
        if not found:
            raise Failed(f"wrk failed on {self.name}: {run.stdout}{run.stderr}")
        result = json.loads(found[1])
        if not result["requests"]:
            raise Failed(f"{self.name} answered no {operation} request with {clients} clients")
        thousands = result["requests"] / 1000
        return Sample(
            rps=result["requests"] / (result["us"] / 1e6),
            p50=result["p50"] / 1000,
            p99=result["p99"] / 1000,
            bad=result["bad"],
            cpu=server / thousands,
            database_cpu=database / thousands,
            busy=server / wall,
            other_load=max(0.0, others) / wall / (os.cpu_count() or 1),
        )


def median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(getattr(each, name) for each in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], name: str) -> float:
    """The median of the rounds' ratios: slow changes of the machine cancel out."""
    return statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True))


def _http(method: str, url: str, body: str | None = None) -> tuple[int, Any]:
    headers = {"content-type": "application/json"} if body else {}
    request = urllib.request.Request(url, body.encode() if body else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Failed(f"{method} {url} answers {error.code}: {error.read()[:300]!r}") from None


def _values(row: Any) -> tuple[Any, ...]:
    """The six columns that every server has, independent of their JSON format."""
    created = datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))
    return row["id"], row["sku"], row["name"], Decimal(str(row["price"])), row["active"], created


def _stat(pid: int) -> dict[str, float] | None:
    try:
        f = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    own, reaped = int(f[11]) + int(f[12]), int(f[13]) + int(f[14])
    return {"parent": int(f[1]), "group": int(f[2]), "cpu": own / TICK, "reaped": reaped / TICK}


def _all() -> list[tuple[int, dict[str, float]]]:
    return [(int(pid), stat) for pid in os.listdir("/proc") if pid.isdigit() and (stat := _stat(int(pid)))]


def _cpu_of_group(group: int) -> float:
    return sum(stat["cpu"] for _, stat in _all() if stat["group"] == group)


def _cpu_of_family(parent: int) -> float:
    """CPU seconds of a process and of its children, running and ended."""
    return sum(
        stat["cpu"] + (stat["reaped"] if pid == parent else 0)
        for pid, stat in _all()
        if parent in (pid, stat["parent"])
    )


def _cpu_of_machine() -> float:
    f = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(f) - f[3] - f[4]) / TICK  # all but idle and iowait
