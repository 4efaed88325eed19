"""Compares the stamped service (S) with hand-written servers on one PostgreSQL server, and prints the gates.

All servers run the whole time. Each round measures one operation on every server before the next operation, and odd
rounds measure in reverse order, so that slow changes of the machine affect all servers alike. A ratio is the median of
the rounds' ratios."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import database
import overload
import prepare
import profiler
import report
from load import HERE, OTHER_CORE, Failed, Sample, Server

PLAN = (("get", 64), ("get", 256), ("list", 64), ("post", 64))
REFERENCES = {
    "L0": ("no framework: asyncpg and msgspec", "servers.limit_asgi:app"),
    "P1": ("FastAPI, SQLAlchemy async ORM", "servers.fastapi_sqlalchemy_async:app"),
    "L1": ("FastAPI, asyncpg pool", "servers.fastapi_asyncpg:app"),
    "S": ("the stamped service", ""),
    "W": ("FastAPI, psycopg2 on threads", "servers.psycopg2_threads:app"),
}
FLAGS = "--host 127.0.0.1 --port {port} --loop uvloop --http httptools --no-access-log --log-level warning"


def main() -> int:
    options = _options()
    only = [name for name in options.only.split(",") if name]
    parts = {"copy", "overload"}
    plan = [step for step in PLAN if step[0] in only] or ([] if {*only} & parts else list(PLAN))
    names = [name for name in REFERENCES if name in only] or list(REFERENCES)
    if plan and not shutil.which("wrk"):
        raise Failed(
            "wrk, the load generator, is not on PATH: install it, for example `apt-get install wrk`."
        )
    prepare.BUILD.mkdir(parents=True, exist_ok=True)
    prepare.export()
    samples: dict[tuple[str, int, str], list[Sample]] = {}
    services: list[str] = []
    if plan:
        with ExitStack() as stack:
            servers, pid, stores = _up(stack, names, options)
            services = [
                server.name for server in servers if server.name not in REFERENCES or server.name == "S"
            ]
            if options.profile:
                for operation, _ in dict.fromkeys((step[0], 0) for step in plan):
                    profiler.profile(next(s for s in servers if s.name == options.profile), operation, pid)
                return 0
            for number in range(options.rounds):
                for operation, clients in plan:
                    measured = [server for server in servers if operation in server.operations]
                    for store in stores if operation == "post" else []:
                        store.reset()
                    for server in measured[:: -1 if number % 2 else 1]:
                        sample = server.load(operation, clients, options.seconds, pid)
                        samples.setdefault((operation, clients, server.name), []).append(sample)
                        print(
                            f"round {number + 1} {operation:4} c={clients:<3} {server.name:6} {sample.rps:6.0f}/s p99 {sample.p99:7.2f} ms"
                            f" cpu {sample.cpu:.3f} s/1k busy {sample.busy:.0%} other load {sample.other_load:.0%}",
                            file=sys.stderr,
                            flush=True,
                        )
        report.table(samples, [server.name for server in servers])
    overloads = None
    if not only or "overload" in only:
        overloads = _overloads(options)
        report.overload_table(overloads)
    copies = None
    if not only or "copy" in only:
        prepare.progress("timing copier copy")
        copies = prepare.copies(max(11, options.rounds))
    passed = report.gates(samples, services, copies, overloads)
    return 1 if options.strict and not passed else 0


def _overloads(options: argparse.Namespace) -> list[overload.Result]:
    """Start PostgreSQL and the service with few writers, and load them."""
    folder = Path(options.service).resolve() if options.service else prepare.stamp()
    prepare.progress("measuring under overload")
    with ExitStack() as stack:
        postgresql = stack.enter_context(database.postgresql(OTHER_CORE))
        store = database.Store(postgresql.create_database("bench_svc"))
        environ = _environ(store) | {"DB_POOL_SIZE": str(overload.POOL_SIZE)}
        server = _service("S", folder, folder, environ, store)
        server.port = 18099
        store.run(overload.TRIGGER)
        stack.callback(server.stop)
        server.start(prepare.BUILD)
        return overload.measure(server)


def _environ(store: database.Store) -> dict[str, str]:
    logs = {"LOG_LEVEL": "warning", "SHUTDOWN_DELAY": "0"}
    return prepare.clean_environment() | store.database.environ() | logs


def _service(
    name: str, folder: Path, fallback: Path, environ: dict[str, str], store: database.Store
) -> Server:
    """The stamped service in `folder`, with its tables in `store`; its Python is its own, or that of `fallback`."""
    own = folder / ".venv/bin/python"
    interpreter = own if own.exists() else fallback / ".venv/bin/python"
    package = next(
        path.parent.name for path in folder.glob("src/*/service.py") if path.parent.name != "dbservice"
    )
    command = [str(interpreter if interpreter.exists() else sys.executable), "-m", package]
    here = environ | {"PYTHONPATH": str(folder / "src")}
    if not store.run("SELECT 1 FROM pg_tables WHERE tablename = 'items'"):
        done = subprocess.run([*command, "migrate"], cwd=folder, env=here, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"the service cannot migrate: {done.stderr}")
        store.fill()
    return Server(name, "", [*command, "serve", "--port", "{port}"], folder, here, "/v1/items", store)


def _up(
    stack: ExitStack, names: Sequence[str], options: argparse.Namespace
) -> tuple[list[Server], int, list[database.Store]]:
    """Start PostgreSQL and the servers; returns the servers, PostgreSQL's process id and the databases."""
    python = prepare.environment()
    folders = {
        name: Path(folder).resolve() for name, _, folder in (each.partition("=") for each in options.beside)
    }
    if "S" in names:
        folders = {"S": Path(options.service).resolve() if options.service else prepare.stamp()} | folders
    prepare.progress("starting PostgreSQL and the servers")
    postgresql = stack.enter_context(database.postgresql(OTHER_CORE))
    theirs, ours = (database.Store(postgresql.create_database(name)) for name in ("bench", "bench_svc"))
    theirs.create()
    target = theirs.database
    libpq = dict(
        PGHOST=target.host,
        PGPORT=str(target.port),
        PGUSER=target.user,
        PGPASSWORD=target.password,
        PGDATABASE=target.name,
    )
    # DB_POOL_SIZE counts reads and writes together: ten each, as the other servers have
    environ = _environ(ours) | {"DB_POOL_SIZE": "20"}
    servers: list[Server] = []
    for name in [*names, *(each for each in folders if each not in names)]:
        if name in folders:
            server = _service(
                name, folders[name], folders["S"] if "S" in folders else folders[name], environ, ours
            )
        else:
            about, module = REFERENCES[name]
            operations = ["post"] if name == "W" else ["get", "list", "post"]
            command = [str(python), "-m", "uvicorn", module, *FLAGS.split()]
            server = Server(
                name, about, command, HERE, prepare.clean_environment() | libpq, "/items", theirs, operations
            )
        server.port = 18100 + len(servers)
        stack.callback(server.stop)
        server.start(prepare.BUILD)
        servers.append(server)
    expected = next((server.answers() for server in servers if server.name == "L0"), None)
    for server in servers:
        server.check(expected)
        for operation in server.operations:
            server.load(operation, 16, 1, postgresql.pid or 0)
    postgresql.query("CHECKPOINT")
    return servers, postgresql.pid or 0, [theirs, ours]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="duration of each wrk run")
    parser.add_argument(
        "--only",
        default="",
        metavar="NAMES",
        help="limit to these of get, list, post, overload, copy and the servers, for example get,post,L1,S",
    )
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if a gate fails")
    parser.add_argument(
        "--service", metavar="FOLDER", help="measure this stamped service instead of a new one"
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="measure this stamped service too, as NAME",
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="profile this server with py-spy instead of measuring"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, database.servers.ServerNotFound, database.servers.Failed) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
