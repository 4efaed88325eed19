"""What an engine makes of the errors of its drivers, without a server."""

import pymysql

from dbservice.engines import Fault, engine_of
from dbservice.settings import Settings


async def test_too_many_connections_of_an_account_are_retried(server_settings: Settings) -> None:
    if server_settings.db_type == "mysql":
        assert (
            engine_of(server_settings).fault(pymysql.err.OperationalError(1226, "max_user_connections"))
            is Fault.STARTING
        )
