"""The platform of a service on a shared database: asynchronous reads, writes on threads, migrations; the same behavior
on PostgreSQL, MySQL, MariaDB and SQLite. Replaced by `copier update`: do not edit."""

from .errors import BadValue, Conflict, NotFound, OutcomeUnknown, ServiceError, Unavailable
from .http.pools import Cache, ReadOnlyCache, Reads, Writes
from .http.problems import Problem
from .limits import Limits
from .reads import Query, Statement, query
from .schema import UNSET, Create, Page, Patch, Row, UnsetType, public_columns
from .service import Service
from .writes import DAL

__all__ = [
    "DAL",
    "UNSET",
    "BadValue",
    "Cache",
    "Conflict",
    "Create",
    "Limits",
    "NotFound",
    "OutcomeUnknown",
    "Page",
    "Patch",
    "Problem",
    "Query",
    "ReadOnlyCache",
    "Reads",
    "Row",
    "Service",
    "ServiceError",
    "Statement",
    "Unavailable",
    "UnsetType",
    "Writes",
    "public_columns",
    "query",
]
