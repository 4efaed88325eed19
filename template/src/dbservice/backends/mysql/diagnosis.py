"""What MySQL and MariaDB say about themselves."""

import datetime as dt
from typing import Any

import pymysql
from pymysql.constants import ER

from ...accounts.declared import MIGRATE
from ..diagnosis import Connections, Diagnosis

_INSECURE = 3159
_DENIED = {ER.TABLEACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR}


class MySQLDiagnosis(Diagnosis):
    def version(self, cursor: Any) -> str:
        cursor.execute("SELECT VERSION()")
        version = str(cursor.fetchone()[0])
        return f"{'MariaDB' if 'MariaDB' in version else 'MySQL'} {version.partition('-')[0]}"

    def encryption(self, cursor: Any) -> str:
        cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_version'")
        row = cursor.fetchone()
        return str(row[1]) if row else ""

    def clock(self, cursor: Any) -> dt.datetime:
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        found: dt.datetime = cursor.fetchone()[0]
        return found.replace(tzinfo=dt.UTC)

    def connections(self, cursor: Any) -> Connections:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        in_use = int(cursor.fetchone()[1])
        cursor.execute("SELECT @@global.max_connections")
        server = int(cursor.fetchone()[0])
        try:
            cursor.execute(
                "SELECT coalesce(sum(max_user_connections), 0), count(*) FROM mysql.user"
                " WHERE max_user_connections > 0 AND user NOT LIKE %s",
                (f"%{MIGRATE}",),
            )
            promised, accounts = map(int, cursor.fetchone())
        except pymysql.Error as error:
            if error.args[0] not in _DENIED:
                raise
            return Connections(server, in_use)
        return Connections(server, in_use, promised, accounts)

    def wants_encryption(self, error: Exception) -> bool:
        # an account with REQUIRE SSL is told that its password is wrong
        return bool(error.args) and error.args[0] in (_INSECURE, ER.ACCESS_DENIED_ERROR)
