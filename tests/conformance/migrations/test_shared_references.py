"""Tables of other services in migrations: foreign keys refer to them, and no revision creates, changes or drops them."""

from contextlib import closing
from types import ModuleType

import pytest
import sqlalchemy as sa

from dbservice import types as t
from dbservice.backends.interface import Backend, ErrorKind
from dbservice.errors import StartupError
from dbservice.migrations import create_shared_tables
from dbservice.schema import Column, SharedTable, Table
from dbservice.settings import Settings
from dbservice.testing import plugin

from ...cli_service import CliService, CommandLine

others = sa.MetaData()
SESSIONS = """
class Sessions(Table, name="sessions"):
    account_id = Column(BigInteger(), ForeignKey("accounts.id"), index=True)
    {}
"""


class Accounts(Table, name="accounts", metadata=others):
    email = Column(t.String(40))


class SharedAccounts(SharedTable, name="accounts", metadata=sa.MetaData()):
    id = Column(t.BigInteger(), primary_key=True)
    email = Column(t.String(40))


ACCESS = ModuleType("access")
vars(ACCESS)["SharedAccounts"] = SharedAccounts


@pytest.fixture
def with_accounts(cli_service: CliService) -> CliService:
    """The service beside one that owns `accounts`."""
    cli_service.options["access"] = ACCESS
    engine = cli_service.backend.migrations.engine()
    others.create_all(engine)
    engine.dispose()
    return cli_service


def test_a_foreign_key_refers_to_the_table_of_another_service(with_accounts: CliService) -> None:
    with_accounts.tables(SESSIONS.format(""))
    first = with_accounts.revision("first")
    assert '["accounts.id"]' in first and first.count("create_table") == 1
    with_accounts.upgrade()
    assert not with_accounts.differences() and not with_accounts.revision("again", again=True)

    with_accounts.tables(SESSIONS.format("agent = Column(String(20), nullable=True)"))
    second = with_accounts.revision("second")
    assert "agent" in second and "accounts" not in second
    with_accounts.upgrade()
    assert not with_accounts.differences()

    backend = with_accounts.backend
    with closing(backend.connect()) as connection, pytest.raises(Exception) as caught:
        now = "'2024-01-31 13:45:00'"
        connection.cursor().execute(
            f"INSERT INTO sessions (account_id, created_at, updated_at) VALUES (5, {now}, {now})"
        )
    assert backend.classify_error(caught.value) is ErrorKind.REFERENCE
    with_accounts.migrate_to("base")
    assert tables_of(backend) == {"accounts"}


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_the_migration_account_may_refer_to_it(
    with_accounts: CliService, run: CommandLine, request: pytest.FixtureRequest
) -> None:
    server = plugin.find_server(request.node.callspec.params["private_database"], request.config)
    declared = {
        "DB_SINGLE_ACCOUNT": "",
        **{"DB_USER": "demo-rw", "DB_PASS": "secret-1"},
        **{"MIGRATE_DB_USER": "demo-migrate", "MIGRATE_DB_PASS": "secret-2"},
        **{"ADMIN_DB_USER": server.user, "ADMIN_DB_PASS": server.password},
    }
    with_accounts.tables(SESSIONS.format(""))
    with_accounts.revision("first")
    assert run("grants", "--apply", **declared)[0] == 0
    assert run("migrate", **declared)[0] == 0
    assert run("grants", "--apply", **declared)[1] == "nothing to change\n"
    assert run("verify-access", **declared)[0] == 0
    assert run("check-migrations", **declared)[0] == 0
    insert = "INSERT INTO {} VALUES ({}, '2024-01-31 13:45:00', '2024-01-31 13:45:00')"
    with closing(with_accounts.backend.connect()) as owner:
        owner.cursor().execute(insert.format("accounts (email, created_at, updated_at)", "'a'"))
        with closing(
            with_accounts.service.backend(Settings.load({**with_accounts.environ, **declared})).connect()
        ) as runtime:
            runtime.cursor().execute(insert.format("sessions (account_id, created_at, updated_at)", 1))
    with_accounts.tables(SESSIONS.format("agent = Column(String(20), nullable=True)"))
    with_accounts.revision("second")
    assert run("migrate", **declared)[0] == 0
    assert run("migrate", "--to", "base", **declared)[0] == 0


def test_a_foreign_key_to_a_column_that_is_not_declared_is_refused(with_accounts: CliService) -> None:
    with pytest.raises(
        ValueError, match=r"sessions\.account_id refers to accounts\.name, a column that access\.py does not"
    ):
        with_accounts.tables(SESSIONS.format("").replace("accounts.id", "accounts.name"))


def test_a_foreign_key_to_a_table_that_nobody_declares_is_refused(cli_service: CliService) -> None:
    cli_service.tables(SESSIONS.format(""))
    with pytest.raises(StartupError, match=r"sessions\.account_id refers to accounts\.id, which neither"):
        cli_service.revision("first", again=True)


@pytest.mark.engines("sqlite")
def test_migrate_creates_the_tables_of_others_in_a_file_only(
    cli_service: CliService, run: CommandLine
) -> None:
    cli_service.options["access"] = ACCESS
    cli_service.tables("")
    said = "Created accounts, which on a server another service owns."
    code, out, _ = run("migrate")
    assert code == 0 and said in out
    code, out, _ = run("migrate")
    assert code == 0 and said not in out
    assert not create_shared_tables(cli_service.service, cli_service.backend)


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_migrate_creates_no_table_of_others_on_a_server(cli_service: CliService, run: CommandLine) -> None:
    cli_service.options["access"] = ACCESS
    cli_service.tables("")
    assert run("migrate")[0] == 0
    assert tables_of(cli_service.backend) == set()


def tables_of(backend: Backend) -> set[str]:
    """The tables of the database, without the version table."""
    engine = backend.migrations.engine()
    with engine.connect() as connection:
        found = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    return found - {"alembic_version_demo"}
