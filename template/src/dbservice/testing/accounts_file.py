"""The file with the SQL of the accounts, which an administrator runs."""

import re
from pathlib import Path

import pytest

from ..accounts import commands
from ..settings import Settings
from .plugin import about, the_service

ACCOUNTS_FILE = Path("deploy/sql/accounts.sql")


def accounts_file_is_current() -> None:
    """Assert that deploy/sql/accounts.sql is what `grants` prints for the service's own engine, for the pool size, the replicas
    and the TLS that the file was printed for. SQLite has no accounts."""
    engine = about(Path.cwd()).get("database", "sqlite")
    if engine == "sqlite":
        return
    written = ACCOUNTS_FILE.read_text(encoding="utf-8") if ACCOUNTS_FILE.exists() else ""
    numbers = re.search(r"for DB_POOL_SIZE=(\d+) and REPLICAS=(\d+)", written)
    environ = {
        "DB_TYPE": "mysql" if engine == "mariadb" else engine,
        **dict.fromkeys(("DB_NAME", "DB_USER", "DB_PASS"), "-"),
        **(dict(zip(("DB_POOL_SIZE", "REPLICAS"), numbers.groups(), strict=True)) if numbers else {}),
    }
    service = the_service(Path.cwd())
    backend = service.backend(Settings.load(environ))
    if written != commands.script(service, backend, require_ssl="REQUIRE SSL" in written):
        pytest.fail(
            f"{ACCOUNTS_FILE} is not what tables.py and access.py declare: run `make grants`", pytrace=False
        )
