"""Alembic for a service that shares its database: its own version table, only its own tables, one runner at a time."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from .engines import Engine, engine_of
from .errors import StartupError
from .settings import Settings
from .types import ColumnType, Default, EnumCheck

if TYPE_CHECKING:
    from .service import Service


def run(service: "Service") -> None:
    """What `migrations/env.py` calls: run the revisions on the connection that the commands below hand over."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise CommandError(f"use `python -m {service.package} migrate` or `revision`: they know the database")
    context.configure(
        connection=connection, target_metadata=service.tables, **_options(service, connection.dialect)
    )
    with context.begin_transaction():
        context.run_migrations()


def _options(service: "Service", dialect: sa.Dialect) -> dict[str, Any]:
    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in service.tables.tables

    return {
        "version_table": service.version_table,
        "include_name": ours,
        "compare_type": True,
        "transaction_per_migration": True,
        "render_as_batch": True,
        "render_item": _render,
        "user_module_prefix": "types.",
    }


def _render(kind: str, thing: Any, autogenerate: Any) -> str | bool:
    """Our types and defaults by their own names, so that a revision reads the same on every engine."""
    if kind == "type" and isinstance(thing, ColumnType):
        autogenerate.imports.add("from dbservice import types")
        return f"types.{thing!r}"
    if kind == "check" and isinstance(thing, EnumCheck):
        autogenerate.imports.add("from dbservice import types")
        name = f"ck_{thing.table.name}_{thing.column_name}"
        return f"types.{thing.column_type!r}.check_constraint({thing.column_name!r}, name=op.f({name!r}))"
    thing = getattr(thing, "arg", thing)
    if kind == "server_default" and isinstance(thing, Default):
        autogenerate.imports.add("from dbservice import types")
        return f"types.{thing.column!r}.default({thing.written!r})"
    return False


def upgrade(service: "Service", engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`, under the lock. Raises StartupError with a sentence."""
    with _locked(service, engine), _connected(engine) as connection:
        _alembic(service, connection, lambda config: command.upgrade(config, revision))


def move(service: "Service", engine: Engine, revision: str) -> None:
    """Take the database to `revision`, forward or back ("base": to no tables), under the lock."""
    with _locked(service, engine), _connected(engine) as connection:
        found = MigrationContext.configure(
            connection, opts={"version_table": service.version_table}
        ).get_current_revision()
        connection.rollback()
        script = ScriptDirectory.from_config(_config(service))
        older = {each.revision for each in script.iterate_revisions(found, "base")} if found else set()
        back = revision == "base" or revision in older
        _alembic(
            service,
            connection,
            lambda config: (command.downgrade if back else command.upgrade)(config, revision),
        )


def differences(service: "Service", engine: Engine) -> list[Any]:
    """What autogenerate would still change: empty when the revisions and `tables.py` agree."""
    with _connected(engine) as connection:
        options = _options(service, connection.dialect)
        migration = MigrationContext.configure(
            connection, opts={**options, "target_metadata": service.tables}
        )
        found: list[Any] = compare_metadata(migration, service.tables)
    return found


def revise(service: "Service", message: str) -> Path | None:
    """Write the revision that brings the tables from the last one to `tables.py`; its path, or None when nothing changed.

    Compared with a scratch SQLite database that holds the revisions so far: no server is needed, and no other service's
    table can get in."""
    written: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": f"{folder}/scratch.db"})
        engine = engine_of(settings)
        upgrade(service, engine)

        def tidy(_: Any, __: Any, directives: list[Any]) -> None:
            if directives and directives[0].upgrade_ops.is_empty():
                directives.clear()
            for script in directives:
                _drop_tables_whole(script.downgrade_ops)

        with _connected(engine) as connection:

            def write(config: Config) -> None:
                scripts = command.revision(
                    config, message=message, autogenerate=True, process_revision_directives=tidy
                )
                written.extend(Path(s.path) for s in _listed(scripts) if s)

            _alembic(service, connection, write)
    return written[0] if written else None


def _drop_tables_whole(container: Any) -> None:
    # MySQL refuses to drop an index that a foreign key needs; a table that is dropped takes its indexes with it
    dropped = {each.table_name for each in container.ops if isinstance(each, ops.DropTableOp)}
    container.ops = [
        each
        for each in container.ops
        if isinstance(each, ops.DropTableOp) or getattr(each, "table_name", None) not in dropped
    ]


def _listed(scripts: Any) -> list[Any]:
    return scripts if isinstance(scripts, list) else [scripts]


def expected(service: "Service") -> str | None:
    """The revision this code was written for; None when the service owns no table."""
    folder = service.migrations
    if not (folder / "versions").is_dir() or not any((folder / "versions").glob("*.py")):
        return None
    try:
        return ScriptDirectory.from_config(_config(service)).get_current_head()
    except CommandError as error:
        raise StartupError(f"The migrations have two ends: merge them ({error}).") from None


def why_not(service: "Service", found: str | None, *, started: bool = False) -> str:
    """Why this code cannot work with the database's revision `found`, in a sentence; empty when it can.

    A service that has `started` goes on when a newer deployment has moved the database on: migrations come first, and
    the old version serves until the new one is ready."""
    script = ScriptDirectory.from_config(_config(service))
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


def current(service: "Service", connection: Any) -> str | None:
    """The revision in the version table, read over a DB-API connection; None when there is none."""
    cursor = connection.cursor()
    try:
        cursor.execute(f"SELECT version_num FROM {service.version_table}")
        row = cursor.fetchone()
    except Exception:
        return None
    return str(row[0]) if row else None


@contextmanager
def _locked(service: "Service", engine: Engine) -> Iterator[None]:
    try:
        with engine.lock(f"migrate {service.name}", engine.limits.lock):
            yield
    except TimeoutError:
        raise StartupError(
            f"Another migration of {service.name} has held the lock for {engine.limits.lock:.0f} seconds: wait for it."
        ) from None


@contextmanager
def _connected(engine: Engine) -> Iterator[sa.Connection]:
    sqlalchemy = engine.sqlalchemy()
    with sqlalchemy.connect() as connection:
        yield connection
    sqlalchemy.dispose()


def _config(service: "Service") -> Config:
    config = Config()
    config.set_main_option("script_location", str(service.migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def _alembic(service: "Service", connection: sa.Connection, work: Callable[[Config], None]) -> None:
    config = _config(service)
    config.attributes["connection"] = connection
    try:
        work(config)
    except CommandError as error:
        raise StartupError(f"The migration stopped: {error}.") from None
    except sa.exc.DBAPIError as error:
        words = " ".join(str(error.orig).split())
        raise StartupError(f"The migration stopped, the database said: {words}") from error


__all__ = ["current", "differences", "expected", "move", "revise", "run", "upgrade", "why_not"]
