"""SQLite 3, for development and tests: the standard library's sqlite3 for writes, aiosqlite for reads.

SQLite has no types for decimals and times. Decimals of up to 18 digits are stored as integers in minor units, longer
ones as text that sorts in numeric order; times are ISO text."""

from .connection import SQLite

__all__ = ["SQLite"]
