"""What Alembic runs in: its configuration, its connection, and its errors as one sentence."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from alembic import context
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ..backends.interface import Backend
from ..errors import StartupError

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


def script_directory(service: Owner) -> ScriptDirectory:
    """The revisions on disk, of which there is one line. Raises StartupError."""
    with one_sentence(service):
        script = ScriptDirectory.from_config(alembic_config(service))
        if len(heads := script.get_heads()) > 1:
            raise CommandError(
                f"the revisions {' and '.join(sorted(heads))} both come last: set down_revision of the one to the other"
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
    engine = backend.migrations.engine()
    with one_sentence(service), engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def one_sentence(service: Owner) -> Iterator[None]:
    """What is wrong with a revision or the database, as a StartupError; what is wrong with us, as it is."""
    try:
        yield
    except CommandError as error:
        raise StartupError(f"The migration stopped: {first_line(error)}.") from None
    except StartupError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            frames.append(traceback.FrameSummary(error.filename, error.lineno, ""))
        places = [each for each in frames if Path(each.filename).is_relative_to(service.migrations)]
        where = f" at {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
        if isinstance(error, sa.exc.DBAPIError):
            said = f"{where}, the database said: {first_line(error.orig)}"
        elif where:
            said = f"{where}: {type(error).__name__}: {first_line(error)}"
        else:
            raise
        raise StartupError(f"The migration stopped{said}.") from error


def first_line(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")
