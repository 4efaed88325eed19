"""The read path: what is asked (`query`), whether every engine answers it alike (`portability`), and the pool that asks."""

from .pool import ReadPool
from .query import Query, Rows, Statement, query

__all__ = ["Query", "ReadPool", "Rows", "Statement", "query"]
