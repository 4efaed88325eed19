"""The platform under a service: one database that many services share, read asynchronously, written on threads,
migrated on its own, the same on PostgreSQL, MySQL, MariaDB and SQLite. Replaced by `copier update`: do not edit."""

from .errors import BadValue, Conflict, NotFound, Problem, Unavailable
from .http.pools import Reads, Writes
from .limits import Limits
from .mirror import DAL
from .models import Create, Page, Patch, Row
from .reads import Query, query
from .schema import public
from .service import Service

__all__ = [
    "DAL",
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
    "Unavailable",
    "Writes",
    "public",
    "query",
]
