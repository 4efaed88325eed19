"""SQLite 3, for development and tests: the standard library's sqlite3 for writes, aiosqlite for reads.

SQLite keeps neither decimals nor times. Decimals of up to 18 digits are whole numbers of their last place, longer ones
text that sorts as they do; times are ISO text."""

from .connection import SQLite

__all__ = ["SQLite"]
