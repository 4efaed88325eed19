"""The commands: upgrade, downgrade, compare with `tables.py`, write a revision."""

import logging
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.util import CommandError

from ..backends import backend_for
from ..backends.interface import Backend
from ..schema.revisions import keeps
from ..settings import Settings
from . import autogenerate, render, review
from .cancellation import CancelToken
from .check import broken_rules
from .compatibility import compatible, prepare, record
from .environment import Owner, connected, script_directory, startup_errors
from .runner import Migration, has_journal, migration
from .shared import create_shared_tables
from .status import checked_current, head, knows, read_current

logger = logging.getLogger("alembic.runtime.migration")


def upgrade(
    service: Owner, backend: Backend, revision: str = "head", *, token: CancelToken | None = None
) -> None:
    """Upgrade the database to `revision`, an id or its beginning, under the migration lock. A database that is at a later
    revision stays as it is, also at one that this code does not know and can run on. Raises StartupError."""
    target = _resolve(service, revision)
    if _is_at(service, backend, target):
        return
    with migration(service, backend, token) as running:
        backend.migrations.create_schema(running.connection)
        found = checked_current(service, running.connection, newer=target == "head")
        if knows(service, found.revision):
            running.run(lambda config: _run(service, running, lambda: command.upgrade(config, target)))


def downgrade(service: Owner, backend: Backend, revision: str, *, token: CancelToken | None = None) -> None:
    """Downgrade the database to an earlier `revision`, or to "base", before the first one. Raises StartupError."""
    target = _resolve(service, revision)
    if _is_at(service, backend, target):
        return
    with migration(service, backend, token) as running:
        checked_current(service, running.connection)
        running.run(lambda config: _run(service, running, lambda: command.downgrade(config, target)))


def is_applied(service: Owner, backend: Backend, revision: str) -> bool:
    """Whether the database is at `revision` or at a later one, so that only `downgrade` can lead to it. Raises StartupError."""
    if revision == "head":
        return False
    with connected(service, backend) as connection:
        found = checked_current(service, connection).revision
        target = _resolve(service, revision)
        script = script_directory(service)
        applied = {each.revision for each in script.iterate_revisions(found, "base")} if found else set()
        return target == "base" or target in applied


def differences(service: Owner, backend: Backend) -> list[str]:
    """The operations that lead from the database to `tables.py`, as lines of a revision; empty when the two agree.

    Tables of other services are ignored, and so are tables that `tables.py` no longer has, and columns that a revision keeps for
    the version before. Raises StartupError."""
    tables = service.tables.tables
    with startup_errors(service):
        kept = {name for each in script_directory(service).walk_revisions() for name in keeps(each.module)}

    def include(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "column":
            table = str(parents["table_name"])
            return str(name) in tables[table].columns or f"{table}.{name}" not in kept
        return kind != "table" or name in tables

    with connected(service, backend) as connection:
        script = autogenerate.compare(
            connection,
            service.tables,
            version_table=service.version_table,
            include_name=include,
        )
        if script.upgrade_ops is None or script.upgrade_ops.is_empty():
            return []
        return render.render_operations(script.upgrade_ops).splitlines()


def revision(service: Owner, message: str) -> Path | None:
    """Write the revision that leads from the latest one to `tables.py`; its path, or None when nothing changed.

    `tables.py` is compared with a temporary SQLite database at the latest revision: no server is needed, and no table of
    another service can get in. Raises StartupError."""
    versions = service.migrations / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    review.check_tables(service.tables)
    with tempfile.TemporaryDirectory() as folder:
        backend = backend_for(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": f"{folder}/scratch.db"}))
        others = create_shared_tables(service, backend)  # foreign keys refer to them
        upgrade(service, backend)
        with connected(service, backend) as connection:
            script = autogenerate.compare(
                connection,
                service.tables,
                version_table=service.version_table,
                include_name=lambda name, kind, parents: kind != "table" or name not in others,
            )
    if script.upgrade_ops is None or script.upgrade_ops.is_empty():
        return None
    review.check_portable(script)
    dropped, breaking = review.describe_drops(script), review.breaks_older_code(script)
    review.isolate_renames(script)
    for sentence in dropped:
        logger.warning("the revision %s", sentence)
    path = versions / f"{_new_revision_id(service, message)}.py"
    before = script_directory(service).get_current_head()
    write = partial(render.write_revision, path, message, before, script, breaks_older_code=breaking)
    write(dropped)
    with startup_errors(service):
        module = script_directory(service).get_revision(path.stem).module
    if costs := [sentence for _, sentence in broken_rules(service, module)]:
        for sentence in costs:
            logger.warning("the revision %s; `make check` refuses that, and says what to do", sentence)
        write([*dropped, *costs])
    return path


def _run(service: Owner, running: Migration, work: Callable[[], None]) -> None:
    """Let Alembic work, and write down which code can run on the result: each revision does (environment.py), except where none
    ran or the server could not do it in the revision's transaction."""
    prepare(running.connection, service.version_table)
    work()
    found = read_current(service, running.connection)
    if found.revision and found.compatible != _compatible(service, found.revision):
        record(script_directory(service), running.connection, service.version_table, [found.revision])
        running.connection.commit()


def _compatible(service: Owner, revision: str) -> tuple[str, ...]:
    with startup_errors(service):
        return compatible(script_directory(service), revision)


def _is_at(service: Owner, backend: Backend, target: str) -> bool:
    """Whether the database is at the revision `target` and no migration is running or interrupted: then there is nothing to
    do, and no lock to take, so that replicas start side by side. Raises StartupError."""
    wanted = {"base": None, "head": head(service)}.get(target, target)
    with connected(service, backend) as connection:
        found = checked_current(service, connection, newer=target == "head")
        if not knows(service, found.revision):
            return True
        if found.revision != wanted or has_journal(service, connection):
            return False
        return wanted is None or found.compatible == _compatible(service, wanted)


def _resolve(service: Owner, revision: str) -> str:
    """The full id of a revision, "base" or "head". Raises StartupError."""
    if revision in ("base", "head"):
        return revision
    with startup_errors(service):
        found = script_directory(service).get_revision(revision) if revision else None
        if found is None:
            raise CommandError(f"there is no revision {revision!r}")
        return found.revision


def _new_revision_id(service: Owner, message: str) -> str:
    """The next number and the message: two revisions with the same number, from two branches, still have different ids."""
    known = [each.revision for each in script_directory(service).walk_revisions()]
    number = 1 + max(
        (int(found[0]) for each in known if (found := re.match(r"\d{4}", each))), default=len(known)
    )
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    return "_".join([f"{number:04}", *re.findall("[a-z0-9]+", plain)])[:32].rstrip("_")
