"""Classification of driver errors, without a server."""

import pymysql

from dbservice.backends import WORTH_WAITING_FOR, backend_for
from dbservice.settings import Settings


async def test_too_many_connections_of_an_account_are_retried(server_settings: Settings) -> None:
    if server_settings.db_type == "mysql":
        assert (
            backend_for(server_settings).classify_error(
                pymysql.err.OperationalError(1226, "max_user_connections")
            )
            in WORTH_WAITING_FOR
        )
