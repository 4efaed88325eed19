"""`python -m my_svc ...`: serve, migrate, revision, check-migrations, grants, verify-access, doctor. A user error is one line and exit code 1."""

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import uvloop

from . import doctor, logs, migrations, startup
from .accounts import cache
from .accounts import commands as accounts
from .backends import Backend
from .errors import StartupError
from .http import server
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from .service import Service

logger = logging.getLogger(__name__)

NO_ACCOUNTS = "SQLite has no accounts: whoever may read and write the file may do everything."


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
    revisions = commands.add_parser(
        "check-revisions", help="find revisions that stop the writers of a table, or break the version before"
    )
    revisions.set_defaults(command=_check_revisions)
    grants = commands.add_parser("grants", help="print the SQL of the service's accounts")
    grants.add_argument(
        "--apply",
        action="store_true",
        help="run it as the administrator (ADMIN_DB_USER), and set the passwords; for the account in Redis or Valkey, too,"
        " if ADMIN_CACHE_USER is set",
    )
    grants.add_argument(
        "--cache",
        action="store_true",
        help="print the ACL rule of the account in Redis or Valkey instead; with --apply, run it alone",
    )
    _add_account_options(grants)
    grants.set_defaults(command=_grants)
    verify = commands.add_parser(
        "verify-access", help="compare what the accounts hold on the server with what is declared"
    )
    verify.add_argument("--json", action="store_true", help="print the differences as JSON")
    _add_account_options(verify)
    verify.set_defaults(command=_verify_access)
    diagnosis = commands.add_parser(
        "doctor",
        help="check settings, connections, accounts, tables, limits; say what to do about each failure",
    )
    diagnosis.add_argument("--json", action="store_true", help="print the page as JSON")
    diagnosis.set_defaults(command=lambda service, options: doctor.run(service, json=options.json))
    return parser


def _add_account_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--node",
        dest="nodes",
        action="append",
        default=[],
        type=_node,
        metavar="HOST:PORT",
        help="a node of a Galera cluster, instead of DB_HOST; write one for each node",
    )
    parser.add_argument(
        "--require-ssl",
        action="store_true",
        help="the accounts may connect with TLS only (MySQL, MariaDB; PostgreSQL has it in pg_hba.conf)",
    )


def _node(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"{text} names no port: write HOST:PORT")
    return host.strip("[]"), _port(port)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: write a number from 1 to 65535")
    return int(text)


def _settings() -> Settings:
    settings = Settings.load()
    logs.configure(settings)
    return settings


def _migration_settings() -> Settings:
    # a migration knows one account, and the running service the other one
    given = dict(os.environ)
    if given.get("MIGRATE_DB_USER"):
        given["DB_USER"] = given.get("DB_USER") or "-"
        if not given.get("DB_PASS_FILE"):
            given["DB_PASS"] = given.get("DB_PASS") or "-"
    settings = Settings.load(given)
    logs.configure(settings)
    return settings.for_migration()


def _settings_without_accounts() -> Settings:
    # what only prints needs neither an account nor a database
    given = {name: value for name, value in os.environ.items() if not _ACCOUNT.fullmatch(name)}
    settings = Settings.load(
        {**given, "DB_NAME": given.get("DB_NAME") or "-", "DB_USER": "-", "DB_PASS": "-"}
    )
    logs.configure(settings)
    return settings


_ACCOUNT = re.compile("((MIGRATE|ADMIN)_)?DB_(USER|PASS)(_FILE)?")


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
    if _has_no_migrations(service):
        print(f"{service.name} owns no tables: nothing to migrate.")
        return 0
    backend = service.backend(_migration_settings())
    return migrations.run_cancellable(lambda token: _run_migration(service, backend, options.to, token))


def _has_no_migrations(service: "Service") -> bool:
    """Whether a service owns no tables on a server: then it has no account for migrations either."""
    if service.tables.tables or migrations.head(service):
        return False
    return not _settings_without_accounts().is_file  # in a file, those of others are created


def _run_migration(
    service: "Service", backend: Backend, revision: str | None, token: migrations.CancelToken
) -> int:
    accounts.check_migration(service, backend)
    startup.wait_for_database(backend)
    accounts.check_tables(service, backend)
    if backend.settings.is_file:
        for table in migrations.create_shared_tables(service, backend):
            print(f"Created {table}, which on a server another service owns.")
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
    _grant_own_tables(service, backend, token)
    current = migrations.current(service, backend)
    where = f"is at revision {current}" if current else f"has no tables of {service.name} any more"
    if not migrations.knows(service, current):
        where += ", newer than this version, which can run on it: nothing to migrate"
    print(f"{backend.settings.target} {where}.")
    return 0


def _grant_own_tables(service: "Service", backend: Backend, token: migrations.CancelToken) -> None:
    with closing(backend.connect()) as connection:
        if accounts.lacks_after_migration(service, backend, connection):
            with migrations.acquire_lock(service.name, backend, token):
                accounts.after_migration(service, backend, connection)


def _revision(service: "Service", options: Any) -> int:
    path = migrations.revision(service, options.message)
    print(
        f"Wrote {path}: read it, then `make migrate`."
        if path
        else "tables.py has no changes: no revision written."
    )
    if path and (service.migrations.parent / "deploy/sql/accounts.sql").exists():
        print("Then `make grants`, if tables are added or dropped: deploy/sql/accounts.sql names them.")
    return 0


def _check_revisions(service: "Service", _: Any) -> int:
    lines = migrations.check_revisions(service)
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


def _grants(service: "Service", options: Any) -> int:
    if options.apply:
        return _apply_grants(service, options)
    if options.cache:
        return _print_cache_rule(service)
    backend = service.backend(_settings_without_accounts())
    if backend.accounts is None:
        print(NO_ACCOUNTS)
    else:
        print(accounts.script(service, backend, require_ssl=options.require_ssl), end="")
    return 0


def _apply_grants(service: "Service", options: Any) -> int:
    settings = _cache_settings() if options.cache else _settings()
    backend = service.backend(settings)
    has_cache = bool(settings.cache_host and settings.admin_cache_user)
    if options.cache and not has_cache:
        raise StartupError("Set CACHE_HOST, and ADMIN_CACHE_USER to the administrator of the cache.")
    lines: list[str] = []
    if backend.accounts is not None:
        lines += accounts.apply(
            service, backend, service.backend, nodes=options.nodes, require_ssl=options.require_ssl
        )
    elif not options.cache:
        lines.append(NO_ACCOUNTS)
    if has_cache:
        lines += cache.apply(service, settings)
    print("\n".join(lines) or "nothing to change")
    return 1 if any(line.startswith("NOT DONE") for line in lines) else 0


def _cache_settings() -> Settings:
    # the database does not matter, so its variables may be missing
    given = {name: value for name, value in os.environ.items() if "DB_" not in name}
    return Settings.load({**given, "DB_TYPE": "sqlite", "DB_NAME": "-"})


def _print_cache_rule(service: "Service") -> int:
    text = cache.script(service, _cache_settings())
    print(text, end="")
    if cache.HASH_PLACEHOLDER in text:
        print(
            f"{service.name}: CACHE_PASS is not set: replace {cache.HASH_PLACEHOLDER} by the SHA-256 hash of the password.",
            file=sys.stderr,
        )
    return 0


def _verify_access(service: "Service", options: Any) -> int:
    try:
        backend = service.backend(_settings())
    except SettingsError as error:
        print(f"{service.name}: {error}", file=sys.stderr)
        return 2
    found, errors = accounts.verify_all(
        service, backend, service.backend, nodes=options.nodes, require_ssl=options.require_ssl
    )
    if options.json:
        print(accounts.as_json(found, errors))
    else:
        if backend.accounts is None:
            print(NO_ACCOUNTS)
        if lines := found.lines():
            print("\n".join(lines))
        elif not errors and (backend.accounts or backend.settings.cache_host):
            print("The accounts hold what is declared, and nothing else.")
    for sentence in errors:
        print(f"{service.name}: {sentence}", file=sys.stderr)
    return 2 if errors else 1 if found else 0


def _check(service: "Service", options: Any) -> int:
    if _has_no_migrations(service):
        return 0
    backend = service.backend(_migration_settings())
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
