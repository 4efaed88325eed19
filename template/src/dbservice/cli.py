"""`python -m my_svc ...`: serve, migrate, revision, check-migrations. A user error is one line and exit code 1."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import uvloop

from . import logs, migrations, startup
from .backends import Backend
from .errors import StartupError
from .http import server
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from .service import Service

logger = logging.getLogger(__name__)


def main(service: "Service", arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 1 failure (one line on stderr), 2 usage error."""
    options = _parser(service).parse_args(arguments)
    # PID 1 of a container has no default signal handlers
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code: int = options.command(service, options)
        return code
    except (SettingsError, StartupError) as error:
        print(f"{service.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _terminated(number: int, _: object) -> None:
    logger.info("stopping on %s", signal.Signals(number).name)
    raise SystemExit(128 + number)


def _parser(service: "Service") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {service.package}",
        description=service.description,
        epilog="Settings come from the environment.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve HTTP until SIGTERM")
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port to listen on (PORT, 8000)")
    serve.set_defaults(command=_serve)
    migrate = commands.add_parser("migrate", help="upgrade the tables to the latest revision")
    migrate.add_argument(
        "--to", metavar="REVISION", help="upgrade or downgrade to this revision; `base`: before the first one"
    )
    migrate.set_defaults(command=_migrate)
    revision = commands.add_parser("revision", help="write a revision for the changes in tables.py")
    revision.add_argument("-m", "--message", required=True, help="a short description")
    revision.set_defaults(command=_revision)
    check = commands.add_parser("check-migrations", help="compare the database with tables.py")
    check.set_defaults(command=_check)
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: write a number from 1 to 65535")
    return int(text)


def _settings(*, migrating: bool = False) -> Settings:
    settings = Settings.load()
    logs.configure(settings)
    return settings.for_migration() if migrating else settings


def _serve(service: "Service", options: Any) -> int:
    settings = _settings()
    host, port = options.host or settings.host, options.port or settings.port
    _somebody_could_listen(host, port)
    startup.wait_for_database(service.backend(settings))  # in the main thread, so that Ctrl-C interrupts it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(server.run(service, settings, host, port))


def _somebody_could_listen(host: str, port: int) -> None:
    """Raises StartupError if the address cannot be bound; uvicorn would report it later and in several lines."""
    try:
        for family, kind, number, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, number) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartupError(f"Cannot listen on {host}, port {port}: {reason}. Change HOST or PORT.") from None


def _migrate(service: "Service", options: Any) -> int:
    backend = service.backend(_settings(migrating=True))
    return migrations.run_cancellable(lambda token: _run_migration(service, backend, options.to, token))


def _run_migration(
    service: "Service", backend: Backend, revision: str | None, token: migrations.CancelToken
) -> int:
    startup.wait_for_database(backend)
    if migrations.head(service) is None:
        if service.tables.tables:
            raise StartupError(
                'tables.py has tables but no revision creates them: run `make revision m="..."`.'
            )
        print(f"{service.name} owns no tables: nothing to migrate.")
        return 0
    if revision is not None and migrations.is_applied(service, backend, revision):
        migrations.downgrade(service, backend, revision, token=token)
    else:
        migrations.upgrade(service, backend, revision or "head", token=token)
    current = migrations.current(service, backend)
    where = f"is at revision {current}" if current else f"has no tables of {service.name} any more"
    print(f"{backend.settings.target} {where}.")
    return 0


def _revision(service: "Service", options: Any) -> int:
    path = migrations.revision(service, options.message)
    print(
        f"Wrote {path}: read it, then `make migrate`."
        if path
        else "tables.py has no changes: no revision written."
    )
    return 0


def _check(service: "Service", options: Any) -> int:
    backend = service.backend(_settings(migrating=True))
    startup.wait_for_database(backend)
    found = migrations.differences(service, backend)
    for difference in found:
        print(difference)
    if found:
        print(
            'The database and tables.py differ: write a revision with `make revision m="..."`.',
            file=sys.stderr,
        )
    return 1 if found else 0
