"""Everything that differs between engines: one file each, behind `interface.Engine`."""

from ..limits import Limits
from ..settings import Settings
from .interface import Engine, Fault
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

ENGINES: dict[str, type[Engine]] = {"postgresql": PostgreSQL, "mysql": MySQL, "sqlite": SQLite}
"""By the value of DB_TYPE."""

__all__ = ["ENGINES", "Engine", "Fault", "engine_of"]


def engine_of(
    settings: Settings,
    *,
    schema: str = "public",
    application: str = "dbservice",
    limits: Limits | None = None,
) -> Engine:
    """The engine that the settings name, ready to hand out URLs and options for the three libraries."""
    return ENGINES[settings.db_type](settings, schema=schema, application=application, limits=limits)
