"""The commands: upgrade, downgrade, compare, write a revision."""

import logging
import re
import tempfile
import unicodedata
from pathlib import Path

from alembic import command
from alembic.util import CommandError

from ..backends import backend_for
from ..backends.interface import Backend
from ..settings import Settings
from . import autogenerate, render, review
from .cancellation import CancelToken
from .environment import Owner, connected, script_directory
from .runner import migration
from .status import known_revision

logger = logging.getLogger("alembic.runtime.migration")


def upgrade(
    service: Owner, backend: Backend, revision: str = "head", *, token: CancelToken | None = None
) -> None:
    """Bring the database to `revision`, under the lock. Raises StartupError with a sentence."""
    with migration(service, backend, token) as running:
        backend.migrations.create_schema(running.connection)
        known_revision(service, running.connection)
        running.run(lambda config: command.upgrade(config, revision))


def migrate_to(service: Owner, backend: Backend, revision: str, *, token: CancelToken | None = None) -> None:
    """Take the database to `revision`, forward or back ("base": to no tables), under the lock."""
    with migration(service, backend, token) as running:
        backend.migrations.create_schema(running.connection)
        found = known_revision(service, running.connection)
        script = script_directory(service)
        older = {each.revision for each in script.iterate_revisions(found, "base")} if found else set()
        wanted = revision
        if revision not in ("base", "head", "heads"):
            target = script.get_revision(revision) if revision else None
            if target is None:
                raise CommandError(f"there is no revision {revision!r}")
            wanted = target.revision
        work = command.downgrade if wanted == "base" or wanted in older else command.upgrade
        running.run(lambda config: work(config, wanted))


def differences(service: Owner, backend: Backend) -> list[str]:
    """What would still have to be done to the database, as lines of a revision: empty when it and `tables.py` agree.

    Tables of others are never looked at, and so are tables that `tables.py` no longer has."""
    tables = service.tables.tables
    with connected(service, backend) as connection:
        script = autogenerate.compare(
            connection,
            service.tables,
            version_table=service.version_table,
            include_name=lambda name, kind, parents: kind != "table" or name in tables,
        )
        if script.upgrade_ops is None or script.upgrade_ops.is_empty():
            return []
        return render.rendered(script.upgrade_ops).splitlines()


def revision(service: Owner, message: str) -> Path | None:
    """Write the revision that leads from the last one to `tables.py`; its path, or None when nothing changed.

    Compared with a scratch SQLite database that holds the revisions so far: no server is needed, and no other service's
    table can get in. Raises StartupError with a sentence."""
    versions = service.migrations / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    review.check_tables(service.tables)
    with tempfile.TemporaryDirectory() as folder:
        backend = backend_for(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": f"{folder}/scratch.db"}))
        upgrade(service, backend)
        with connected(service, backend) as connection:
            script = autogenerate.compare(connection, service.tables, version_table=service.version_table)
    if script.upgrade_ops is None or script.upgrade_ops.is_empty():
        return None
    review.check_portable(script)
    dropped = review.describe_drops(script)
    review.isolate_renames(script)
    for sentence in dropped:
        logger.warning("the revision %s", sentence)
    path = versions / f"{_new_id(service, message)}.py"
    render.write(path, message, script_directory(service).get_current_head(), script, dropped)
    return path


def _new_id(service: Owner, message: str) -> str:
    """The number after the highest, and the message: two that were written apart have two ids, and both are seen."""
    known = [each.revision for each in script_directory(service).walk_revisions()]
    number = 1 + max(
        (int(found[0]) for each in known if (found := re.match(r"\d{4}", each))), default=len(known)
    )
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    return "_".join([f"{number:04}", *re.findall("[a-z0-9]+", plain)])[:32].rstrip("_")
