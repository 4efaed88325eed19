"""The read path: queries, the check that every engine computes them alike (`portability`), and the connection pool."""

from .pool import ReadPool
from .query import Query, Rows, Statement, query

__all__ = ["Query", "ReadPool", "Rows", "Statement", "query"]
