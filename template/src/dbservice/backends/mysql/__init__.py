"""MySQL 8.0 and MariaDB 10.11 (one server or a Galera cluster): PyMySQL for writes and migrations, aiomysql for reads.

Which of the two answers is found out at run time; the few places where they differ are marked in the code."""

from .connection import MySQL

__all__ = ["MySQL"]
