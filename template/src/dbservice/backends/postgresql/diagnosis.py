"""What PostgreSQL says about itself."""

import datetime as dt
from typing import Any

from ...accounts.declared import MIGRATE
from ..diagnosis import Connections, Diagnosis


class PostgreSQLDiagnosis(Diagnosis):
    def version(self, cursor: Any) -> str:
        cursor.execute("SHOW server_version")
        return f"PostgreSQL {str(cursor.fetchone()[0]).split()[0]}"

    def encryption(self, cursor: Any) -> str:
        cursor.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
        row = cursor.fetchone()
        return str(row[0]) if row else ""

    def clock(self, cursor: Any) -> dt.datetime:
        cursor.execute("SELECT clock_timestamp()")
        found: dt.datetime = cursor.fetchone()[0]
        return found.astimezone(dt.UTC)

    def connections(self, cursor: Any) -> Connections:
        cursor.execute(
            """
            SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                    - coalesce(current_setting('reserved_connections', true)::int, 0),
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                coalesce(sum(rolconnlimit), 0), count(*)
            FROM pg_roles WHERE rolcanlogin AND rolconnlimit > 0 AND rolname NOT LIKE %(migrate)s
            """,
            {"migrate": f"%{MIGRATE}"},
        )
        return Connections(*map(int, cursor.fetchone()))

    def wants_encryption(self, error: Exception) -> bool:
        return "no encryption" in str(error)  # of pg_hba.conf, with which the server ends its sentence
