"""What pytest shows of a service's own tests."""

import os
import subprocess
import sys

import pytest

from ..cli_service import PLATFORM, USERS_WITH_PASSWORD, CliService

SERVICE = """
from dbservice import Reads, Service
from dbservice.http import Router

from . import tables

router = Router("broken")


@router.get("/route")
async def route() -> str:
    raise ValueError(f"the value was {'-'.join(['left', 'out'])}")


@router.get("/statement")
async def statement(reads: Reads) -> str:
    await reads.fetch_raw("SELECT nick FROM users WHERE email = 'a-value'")
    return ""


service = Service(name="demo", tables=tables, routers=[router])
"""
TEST = """
async def test_route(client):
    assert (await client.get("/v1/broken/route")).status_code == 200


async def test_statement(client):
    assert (await client.get("/v1/broken/statement")).status_code == 200


async def test_caught(client):
    assert (await client.get("/v1/broken/route")).status_code == 500
"""


@pytest.mark.engines("sqlite")
def test_a_failed_test_shows_the_exceptions_of_the_service_as_they_were(cli_service: CliService) -> None:
    """The log has no values; a developer's own test has nothing to hide."""
    cli_service.tables(USERS_WITH_PASSWORD)
    cli_service.revision()
    (cli_service.folder / "pyproject.toml").write_text(
        '[tool.dbservice]\nservice = "demo.service:service"\ndatabase = "sqlite"\n'
        '[tool.pytest.ini_options]\nanyio_mode = "auto"\n'
    )
    (cli_service.package / "service.py").write_text(SERVICE)
    (cli_service.folder / "test_it.py").write_text(TEST)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "dbservice.testing.plugin", "test_it.py"],
        cwd=cli_service.folder,
        env={**os.environ, "PYTHONPATH": f"{cli_service.folder / 'src'}:{PLATFORM}"},
        capture_output=True,
        text=True,
    )
    assert "2 failed, 1 passed" in ran.stdout, ran.stdout
    assert ran.stdout.count("- Unhandled exception in the service -") == 2
    assert "ValueError: the value was left-out" in ran.stdout
    assert "sqlite3.OperationalError: no such column: nick" in ran.stdout
    assert "statement: SELECT nick FROM users WHERE email = 'a-value'" in ran.stdout
