"""The version table, at startup and in `migrate`."""

import re
import secrets

import pytest

from dbservice import startup
from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.testing import servers

from ...cli_service import CliService, CommandLine
from .live_tables import ONE, change_things


def checked(cli_service: CliService) -> str:
    with pytest.raises(StartupError) as caught:
        startup.checked_revision(cli_service.service, cli_service.backend)
    return str(caught.value)


def test_only_a_missing_version_table_means_that_there_are_no_tables(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    assert checked(cli_service) == "The database has no tables of demo yet: run `make migrate` first."
    change_things(cli_service, "CREATE TABLE alembic_version_demo (something_else INTEGER)")
    assert re.fullmatch(
        r"Cannot read the table alembic_version_demo: [^\n]*version_num[^\n]*\.", checked(cli_service)
    )


@pytest.mark.engines("postgresql", "mysql", "mariadb")
def test_an_account_that_may_not_read_the_version_table_is_reported(
    cli_service: CliService, request: pytest.FixtureRequest
) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    server = servers.find(request.node.callspec.params["private_database"])
    name, database = f"blind_{secrets.token_hex(5)}", cli_service.database.name
    if cli_service.database.type == "postgresql":
        server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'Blind-1-pw'")
        grants = (
            f'GRANT CONNECT ON DATABASE "{database}" TO {name}',
            f"GRANT USAGE ON SCHEMA public TO {name}",
            f"GRANT INSERT ON users TO {name}",
        )
        change_things(cli_service, *grants)
    else:
        server.query(f"CREATE USER {name} IDENTIFIED BY 'Blind-1-pw'")
        server.query(f"GRANT INSERT ON `{database}`.users TO {name}")
    environ = {**cli_service.environ, "DB_USER": name, "DB_PASS": "Blind-1-pw"}
    try:
        with pytest.raises(StartupError) as caught:
            startup.checked_revision(cli_service.service, cli_service.service.backend(Settings.load(environ)))
        assert str(caught.value) == (
            f"Cannot read the table alembic_version_demo: the account {name} needs SELECT on it."
        )
    finally:
        if cli_service.database.type == "postgresql":
            change_things(
                cli_service, *(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ") for grant in grants)
            )
        server.query(f"DROP {'ROLE' if cli_service.database.type == 'postgresql' else 'USER'} {name}")


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("to", ["base", "head", "0001_first", None])
def test_a_revision_that_the_code_does_not_know_is_one_sentence(
    cli_service: CliService, run: CommandLine, to: str | None
) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    change_things(cli_service, "UPDATE alembic_version_demo SET version_num = '0009_theirs'")
    code, out, err = run("migrate", *(["--to", to] if to else []))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "The database is at revision 0009_theirs, which this code does not know: deploy the code that it belongs to."
    )
    assert "Traceback" not in err


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("to", ["", "nonsense", "+7", "base:head", "0"])
def test_an_unknown_revision_is_one_sentence(cli_service: CliService, run: CommandLine, to: str) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(ONE.replace("20", "30"))
    cli_service.revision("second")
    code, out, err = run("migrate", "--to", to)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1 and "Traceback" not in err, err
