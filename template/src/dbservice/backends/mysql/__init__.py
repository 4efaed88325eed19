"""MySQL 8.0 and MariaDB 10.11 (one server or a Galera cluster): PyMySQL for writes and migrations, aiomysql for reads.

The server is detected at run time; the code marks the few places where the two differ."""

from .connection import MySQL

__all__ = ["MySQL"]
