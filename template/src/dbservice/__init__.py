"""The platform under a service: one database that many services share, read asynchronously, written on threads,
migrated on its own, the same on PostgreSQL, MySQL, MariaDB and SQLite. Replaced by `copier update`: do not edit."""

from .errors import BadValue, Conflict, NotFound, OutcomeUnknown, ServiceError, Unavailable
from .http.pools import Reads, Writes
from .http.problems import Problem
from .limits import Limits
from .models import Create, Page, Patch, Row
from .reads import Query, query
from .schema import public
from .service import Service
from .writes import DAL

__all__ = [
    "DAL",
    "BadValue",
    "Conflict",
    "Create",
    "Limits",
    "NotFound",
    "OutcomeUnknown",
    "Page",
    "Patch",
    "Problem",
    "Query",
    "Reads",
    "Row",
    "Service",
    "ServiceError",
    "Unavailable",
    "Writes",
    "public",
    "query",
]
