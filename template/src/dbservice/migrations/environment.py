"""Alembic's environment: its configuration, its connection, and its errors as StartupError."""

import logging
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from alembic import context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import exc

from ..backends.interface import Backend
from ..errors import StartupError
from ..schema import SharedTable
from . import compatibility

logging.getLogger("alembic.runtime.migration").addFilter(
    lambda record: record.getMessage().startswith("Running ") or record.levelno > logging.INFO
)
for _name in ("alembic.runtime.plugins", "alembic.autogenerate"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Owner(Protocol):
    """What migrations must know of a service."""

    name: str
    package: str
    tables: sa.MetaData
    shared: Sequence[type[SharedTable]]
    version_table: str
    migrations: Path
    """The folder with `env.py` and `versions/`."""


def run(service: Owner) -> None:
    """Run the revisions on the connection that the command has opened. `migrations/env.py` calls it."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise CommandError(
            f"Alembic has no connection: use `python -m {service.package} migrate` or `revision`"
        )

    def record(ctx: MigrationContext, step: Any, heads: Collection[str], run_args: Any) -> None:
        assert ctx.connection is not None
        compatibility.record(context.script, ctx.connection, service.version_table, heads)

    context.configure(
        connection=connection,
        target_metadata=service.tables,
        version_table=service.version_table,
        transaction_per_migration=True,
        on_version_apply=record,
    )
    _announce_revisions(context.get_context())
    with context.begin_transaction():
        context.run_migrations()


def _announce_revisions(migration: MigrationContext) -> None:
    """Tell the engine's implementation which revision its next operations belong to; Alembic itself only tells afterwards."""
    begin, steps = getattr(migration.impl, "begin_revision", None), migration._migrations_fn
    if begin is None or steps is None:
        return

    def announced(*arguments: Any) -> Iterator[Any]:
        for step in steps(*arguments):
            if (revision := getattr(step, "revision", None)) is not None:  # none of `alembic stamp`
                begin(revision.module, upgrade=step.is_upgrade)
            yield step

    migration._migrations_fn = announced


def script_directory(service: Owner) -> ScriptDirectory:
    """The revisions on disk, which must have one head. Raises StartupError."""
    with startup_errors(service):
        script = ScriptDirectory.from_config(alembic_config(service))
        if len(heads := script.get_heads()) > 1:
            raise CommandError(
                f"the revisions {' and '.join(sorted(heads))} are both heads: set down_revision of one of them to the other"
            )
        return script


def alembic_config(service: Owner) -> Config:
    """Alembic's configuration: where the revisions are."""
    config = Config()
    config.set_main_option("script_location", str(service.migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def connected(service: Owner, backend: Backend) -> Iterator[sa.Connection]:
    """A connection for a migration, closed at the end. Raises StartupError."""
    engine = backend.migrations.engine()
    with startup_errors(service), engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def startup_errors(service: Owner) -> Iterator[None]:
    """Raise errors of a revision and of the database as StartupError; programming errors of the platform as they are."""
    try:
        yield
    except CommandError as error:
        raise StartupError(f"The migration failed: {single_line(error)}.") from None
    except StartupError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            frames.append(traceback.FrameSummary(error.filename, error.lineno, ""))
        places = [each for each in frames if Path(each.filename).is_relative_to(service.migrations)]
        where = f" at {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
        if isinstance(error, exc.DBAPIError):
            reason = f"database error: {single_line(error.orig)}"
        elif where:
            reason = f"{type(error).__name__}: {single_line(error)}"
        else:
            raise
        raise StartupError(f"The migration failed{where}: {reason}.") from error


def single_line(error: Any) -> str:
    """The text of an error on one line, without its full stop."""
    return " ".join(str(error).split()).rstrip(".")
