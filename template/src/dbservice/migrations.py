"""Alembic for a service that shares its database: its own version table, only its own tables, one runner at a time."""

import logging
import re
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from . import revision_review, revisions
from .engines import Engine, Fault, engine_of
from .errors import StartupError
from .settings import Settings

logger = logging.getLogger("alembic.runtime.migration")
logger.addFilter(lambda record: record.getMessage().startswith("Running ") or record.levelno > logging.INFO)
for _talker in ("alembic.runtime.plugins", "alembic.autogenerate"):
    logging.getLogger(_talker).setLevel(logging.WARNING)


class Owner(Protocol):
    """What migrations must know of a service."""

    name: str
    package: str
    tables: sa.MetaData
    version_table: str
    migrations: Path
    """The folder with `env.py` and `versions/`."""


def run(service: Owner) -> None:
    """What `migrations/env.py` calls: run the revisions on the connection that the commands below hand over."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise CommandError(f"use `python -m {service.package} migrate` or `revision`: they know the database")
    context.configure(
        connection=connection,
        target_metadata=service.tables,
        version_table=service.version_table,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def upgrade(service: Owner, engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`, under the lock. Raises StartupError with a sentence."""
    with _locked(service, engine), _connected(service, engine) as connection:
        engine.prepare(connection)
        _known(service, connection)
        _alembic(service, engine, connection, lambda config: command.upgrade(config, revision))


def move(service: Owner, engine: Engine, revision: str) -> None:
    """Take the database to `revision`, forward or back ("base": to no tables), under the lock."""
    with _locked(service, engine), _connected(service, engine) as connection:
        engine.prepare(connection)
        found = _known(service, connection)
        script = _script(service)
        older = {each.revision for each in script.iterate_revisions(found, "base")} if found else set()
        wanted = revision
        if revision not in ("base", "head", "heads"):
            target = script.get_revision(revision) if revision else None
            if target is None:
                raise CommandError(f"there is no revision {revision!r}")
            wanted = target.revision
        work = command.downgrade if wanted == "base" or wanted in older else command.upgrade
        _alembic(service, engine, connection, lambda config: work(config, wanted))


def reached(service: Owner, engine: Engine) -> str | None:
    """The revision that the database is at; None when it holds none of the service's tables."""
    with _connected(service, engine) as connection:
        return _revision(service, connection)


def differences(service: Owner, engine: Engine) -> list[str]:
    """What would still have to be done to the database, as lines of a revision: empty when it and `tables.py` agree.

    Tables of others are never looked at, and so are tables that `tables.py` no longer has."""
    tables = service.tables.tables
    with _connected(service, engine) as connection:
        script = revisions.changes(
            connection,
            service.tables,
            version_table=service.version_table,
            include_name=lambda name, kind, parents: kind != "table" or name in tables,
        )
        if script.upgrade_ops is None or script.upgrade_ops.is_empty():
            return []
        return revisions.rendered(script.upgrade_ops).splitlines()


def revise(service: Owner, message: str) -> Path | None:
    """Write the revision that leads from the last one to `tables.py`; its path, or None when nothing changed.

    Compared with a scratch SQLite database that holds the revisions so far: no server is needed, and no other service's
    table can get in. Raises StartupError with a sentence."""
    versions = service.migrations / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    revision_review.refuse_circles(service.tables)
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_of(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": f"{folder}/scratch.db"}))
        upgrade(service, engine)
        with _connected(service, engine) as connection:
            script = revisions.changes(connection, service.tables, version_table=service.version_table)
    if script.upgrade_ops is None or script.upgrade_ops.is_empty():
        return None
    revision_review.refuse(script)
    dropped = revision_review.dropped(script)
    revision_review.part_renamed(script)
    for sentence in dropped:
        logger.warning("the revision %s", sentence)
    path = versions / f"{_new_id(service, message)}.py"
    revisions.write(path, message, _script(service).get_current_head(), script, dropped)
    return path


def _new_id(service: Owner, message: str) -> str:
    """The number after the highest, and the message: two that were written apart have two ids, and both are seen."""
    known = [each.revision for each in _script(service).walk_revisions()]
    number = 1 + max(
        (int(found[0]) for each in known if (found := re.match(r"\d{4}", each))), default=len(known)
    )
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    return "_".join([f"{number:04}", *re.findall("[a-z0-9]+", plain)])[:32].rstrip("_")


def expected(service: Owner) -> str | None:
    """The revision this code was written for; None when there are no revisions."""
    versions = service.migrations / "versions"
    if not versions.is_dir() or not any(versions.glob("*.py")):
        return None
    return _script(service).get_current_head()


def why_not(service: Owner, found: str | None, *, started: bool = False) -> str:
    """Why this code cannot work with the database's revision `found`, in a sentence; empty when it can.

    A service that has `started` goes on when a newer deployment has moved the database on: migrations come first, and
    the old version serves until the new one is ready."""
    script = _script(service)
    wanted = script.get_current_head()
    if found == wanted:
        return ""
    if found is None:
        return f"The database has no tables of {service.name} yet: run `make migrate` first."
    if found in {revision.revision for revision in script.walk_revisions()}:
        return f"The database is at revision {found}, this code needs {wanted}: run `make migrate` first."
    if started:
        return ""
    return f"The database is at revision {found}, which this code does not know: deploy the code that it belongs to."


def current(service: Owner, connection: Any) -> str | None:
    """The revision in the version table, read over a DB-API connection; None when there is no such table or no row.

    Raises StartupError when the table cannot be read."""
    cursor = connection.cursor()
    try:
        cursor.execute(f"SELECT version_num FROM {service.version_table}")
        row = cursor.fetchone()
    except Exception as error:
        if _is_no_table(error):
            return None
        said = _words(error.args[-1] if error.args else error)
        raise StartupError(
            f"Cannot read the table {service.version_table}, the database said: {said}: let the account of DB_USER read it."
        ) from error
    return str(row[0]) if row else None


def _is_no_table(error: Exception) -> bool:
    """Whether a driver says that the table is not there: PostgreSQL, MySQL and MariaDB by a code, SQLite in words."""
    code = getattr(error, "pgcode", None) or next(iter(error.args), None)
    return code in ("42P01", 1146) or str(code).startswith("no such table")


def _revision(service: Owner, connection: sa.Connection) -> str | None:
    options = {"version_table": service.version_table}
    found = MigrationContext.configure(connection, opts=options).get_current_revision()
    connection.rollback()
    return found


def _known(service: Owner, connection: sa.Connection) -> str | None:
    """The same, which the code must know. Raises StartupError."""
    found = _revision(service, connection)
    if found and found not in {each.revision for each in _script(service).walk_revisions()}:
        raise StartupError(why_not(service, found))
    return found


def _script(service: Owner) -> ScriptDirectory:
    """The revisions on disk, of which there is one line. Raises StartupError."""
    with _in_one_sentence(service):
        script = ScriptDirectory.from_config(_config(service))
        if len(heads := script.get_heads()) > 1:
            raise CommandError(
                f"the revisions {' and '.join(sorted(heads))} both come last: set down_revision of the one to the other"
            )
        return script


def _config(service: Owner) -> Config:
    config = Config()
    config.set_main_option("script_location", str(service.migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _locked(service: Owner, engine: Engine) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(engine.lock(f"migrate {service.name}", engine.limits.lock))
        except TimeoutError:
            raise StartupError(
                f"Another migration of {service.name} has held the lock for {engine.limits.lock:.0f} seconds: wait for it."
            ) from None
        yield


@contextmanager
def _connected(service: Owner, engine: Engine) -> Iterator[sa.Connection]:
    sqlalchemy = engine.sqlalchemy()
    with _in_one_sentence(service), sqlalchemy.connect() as connection:
        yield connection
    sqlalchemy.dispose()


def _alembic(
    service: Owner, engine: Engine, connection: sa.Connection, work: Callable[[Config], None]
) -> None:
    _script(service)
    config = _config(service)
    config.attributes["connection"] = connection
    try:
        with _in_one_sentence(service):
            for left in reversed(range(engine.limits.attempts)):
                try:
                    work(config)
                    break
                except sa.exc.DBAPIError as error:
                    fault = engine.fault(error.orig) if error.orig else Fault.OTHER
                    if not left or fault is not Fault.RETRY:
                        raise
                    connection.rollback()
                    logger.warning("tried again: the tables are in use by others")
                    time.sleep(1)
    except StartupError as error:
        if _half_done(service, connection):
            raise StartupError(
                f"{error} What it did before stays done: mend the cause and migrate again, which goes on from there."
            ) from error.__cause__
        raise
    if _half_done(service, connection):  # the end of each revision forgets it, so that none has run
        logger.warning(
            "a revision stopped half-way and is not there any more: what it did stands in %s_half",
            service.version_table,
        )


def _half_done(service: Owner, connection: sa.Connection) -> bool:
    """Whether a revision stopped half-way, on an engine that takes back no DDL."""
    impl = MigrationContext.configure(connection, opts={"version_table": service.version_table}).impl
    try:
        return hasattr(impl, "half_done") and impl.half_done()
    except sa.exc.DBAPIError:  # the connection is lost: nobody can say
        return False


@contextmanager
def _in_one_sentence(service: Owner) -> Iterator[None]:
    """What is wrong with a revision or the database, as a StartupError; what is wrong with us, as it is."""
    try:
        yield
    except CommandError as error:
        raise StartupError(f"The migration stopped: {_words(error)}.") from None
    except StartupError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            frames.append(traceback.FrameSummary(error.filename, error.lineno, ""))
        places = [each for each in frames if Path(each.filename).is_relative_to(service.migrations)]
        where = f" at {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
        if isinstance(error, sa.exc.DBAPIError):
            said = f"{where}, the database said: {_words(error.orig)}"
        elif where:
            said = f"{where}: {type(error).__name__}: {_words(error)}"
        else:
            raise
        raise StartupError(f"The migration stopped{said}.") from error


def _words(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")


__all__ = [
    "Owner",
    "current",
    "differences",
    "expected",
    "move",
    "reached",
    "revise",
    "run",
    "upgrade",
    "why_not",
]
