"""PostgreSQL 16: psycopg2 for writes and migrations, asyncpg for reads."""

from .connection import PostgreSQL

__all__ = ["PostgreSQL"]
