"""The platform under a service: one database that many services share, read asynchronously, written on threads,
migrated on its own, the same on PostgreSQL, MySQL, MariaDB and SQLite. Replaced by `copier update`: do not edit."""

from .errors import BadValue, Conflict, NotFound, Problem, Unavailable
from .http.pools import Reads, Writes
from .limits import Limits
from .mirror import DAL
from .reads import Query, Statement, query
from .schema import UNSET, Create, Page, Patch, Row, UnsetType, public_columns
from .service import Service

__all__ = [
    "DAL",
    "UNSET",
    "BadValue",
    "Conflict",
    "Create",
    "Limits",
    "NotFound",
    "Page",
    "Patch",
    "Problem",
    "Query",
    "Reads",
    "Row",
    "Service",
    "Statement",
    "Unavailable",
    "UnsetType",
    "Writes",
    "public_columns",
    "query",
]
