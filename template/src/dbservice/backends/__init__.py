"""The engines: one folder each, which implements `interface.Backend`."""

from ..limits import Limits
from ..settings import Settings
from .interface import PASSED_OVER, WORTH_WAITING_FOR, Backend, ErrorKind
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

BACKENDS: dict[str, type[Backend]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}
"""By the value of DB_TYPE."""

__all__ = ["BACKENDS", "PASSED_OVER", "WORTH_WAITING_FOR", "Backend", "ErrorKind", "backend_for"]


def backend_for(
    settings: Settings,
    *,
    schema: str = "public",
    application: str = "dbservice",
    limits: Limits | None = None,
    writes: bool = True,
) -> Backend:
    """The backend of `settings.db_type`. Without `writes`, all of its connections are for reads."""
    return BACKENDS[settings.db_type](
        settings, schema=schema, application=application, limits=limits, writes=writes
    )
