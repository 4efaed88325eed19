"""The scene of `make scene`: four stamped services on one database of a real server, each with the accounts that it declares.

Its commands and applications run in this process, which is faster; what they are asked and try is what `make scene` asks."""

import functools
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import copier
import httpx
import psycopg2
import pytest
import sqlalchemy as sa
import yaml
from anyio.from_thread import start_blocking_portal
from scene import matrix, page, requests, rows
from scene.matrix import Login
from scene.services import NAMES, ROOT, StampedService

from dbservice import Service, cli
from dbservice import types as t
from dbservice.accounts import commands
from dbservice.schema import Column, Table
from dbservice.settings import VARIABLES, Settings
from dbservice.testing.servers import Server

Services = Mapping[str, StampedService]


class InThisProcess(StampedService):
    """One of the services, without processes."""

    def command(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        kept = {
            name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in VARIABLES
        }
        values = {**kept, **self.environ(administrator=True), **environ}
        handlers, terminate = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM)
        out, err = io.StringIO(), io.StringIO()
        try:
            with mock.patch.dict(os.environ, values, clear=True), redirect_stdout(out), redirect_stderr(err):
                code = cli.main(self.service, arguments)
        finally:
            logging.getLogger().handlers = handlers
            signal.signal(signal.SIGTERM, terminate)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def start(self) -> None:
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal())
        running = self.service.running(Settings.load(self.environ()))
        self.stack.enter_context(self.portal.wrap_async_context_manager(running))
        transport = httpx.ASGITransport(self.service.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")

    def ask(self, method: str, path: str, json: object = None) -> httpx.Response:
        return self.portal.call(functools.partial(self.client.request, method, path, json=json))

    def stop(self) -> None:
        self.stack.close()

    def succeed(self, *arguments: str) -> str:
        """What a command says that succeeds."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def folders(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the services are stamped; what is stamped depends on no engine."""
    parent = tmp_path_factory.mktemp("scene")
    for name in NAMES:
        answers = ROOT / "tests/answers" / f"{name.replace('-', '_')}.yml"
        data = yaml.safe_load(answers.read_text())
        copier.run_copy(str(template), parent / name, data=data, defaults=True, quiet=True)
    return {name: parent / name for name in NAMES}


@pytest.fixture
def services(folders: dict[str, Path], own_server: Server) -> Iterator[dict[str, InThisProcess]]:
    """Provisioned and migrated: those that use tables of others come first, and again when these exist."""
    database = own_server.create_database()
    made = {name: InThisProcess(name, folder, database, own_server) for name, folder in folders.items()}
    readers, owners = [*made.values()][2:], [*made.values()][:2]
    try:
        for each in (*readers, *owners):
            each.succeed("grants", "--apply")
        for each in owners:
            each.succeed("migrate")
        for each in readers:
            each.succeed("grants", "--apply")
        yield made
    finally:
        own_server.drop_database(database)
        for each in made.values():
            for account in (*each.declared.accounts, f"{each.name}-view"):
                drop_account(own_server, account)


def drop_account(server: Server, account: str) -> None:
    if server.type == "postgresql":
        server.query(f'DROP ROLE IF EXISTS "{account}"')
    else:
        server.query(f"DROP USER IF EXISTS '{account}'@'%'")


@pytest.fixture
def running(services: dict[str, InThisProcess]) -> Iterator[dict[str, InThisProcess]]:
    with ExitStack() as stack:
        for each in services.values():
            each.start()
            stack.callback(each.stop)
        yield services


def login_of(services: Services) -> Login:
    passwords = {
        account: password for each in services.values() for account, password in each.passwords.items()
    }
    one = services["connector"]
    return Login(one.server, one.database, passwords)


def test_every_account_may_do_what_is_declared(running: dict[str, InThisProcess]) -> None:
    """On every table and column, and nothing else; and no row that is not its own, by the API and by hand."""
    asked, ids = requests.run(running)
    assert not [str(each) for each in asked if not each.as_declared]
    login, declared = login_of(running), {name: each.declared for name, each in running.items()}
    results = matrix.run(login, [*declared.values()])
    by_hand = rows.run(login, declared["twitch-trigger"], declared["connector"].runtime, ids)
    print(
        "\n".join(
            page.privileges(results, [*declared.values()], postgresql=login.database.type == "postgresql")
        )
    )
    print("\n".join((*page.denials(results, by_hand), *page.verdict(results, by_hand))))
    assert not page.wrong(results, by_hand), page.wrong(results, by_hand)
    # nobody empties it unseen: 6 accounts, 9 tables and (on MySQL and MariaDB) 2 views and 4 tables of migrations
    accounts = {each.attempt.account for each in results}
    assert len(accounts) == 6
    least = (1772, 1305) if login.database.type == "postgresql" else (2204, 1744)
    assert len(results) >= least[0] and sum(each.outcome == matrix.DENIED for each in results) >= least[1]
    assert len(by_hand) >= (49 if login.database.type == "postgresql" else 58)
    # what was tried changed nothing, neither for the services nor for their accounts
    for each in running.values():
        assert each.ask("GET", "/readyz").status_code == 200
        each.succeed("verify-access")


def test_the_migrations_of_one_leave_the_others_alone(running: dict[str, InThisProcess]) -> None:
    backend, connector, analytics = running["backend-api"], running["connector"], running["analytics"]
    for each in running.values():
        assert each.succeed("check-migrations") == ""
        assert "no changes" in each.succeed("revision", "-m", "nothing")
        assert each.declared.migrate or "nothing to migrate" in each.succeed("migrate")
    row = {"kind": "login", "at": "2020-01-02T03:04:05Z"}
    assert connector.ask("POST", "/v1/events", row).status_code == 201
    tables = set(tables_of(connector))
    assert "has no tables of backend-api" in backend.succeed("migrate", "--to", "base")
    left = set(tables_of(connector))
    assert tables - left == {*backend.declared.own} and connector.declared.version_table in left
    assert backend.ask("GET", "/readyz").status_code == 503
    for each in (connector, analytics, running["twitch-trigger"]):
        assert each.ask("GET", "/readyz").status_code == 200
        assert each.succeed("check-migrations") == ""
        each.succeed("verify-access")
    for path in ("events", "platform_integrations"):
        assert connector.ask("GET", f"/v1/{path}").status_code == 200
    assert len(connector.ask("GET", "/v1/events").json()["items"]) == 1
    assert len(analytics.ask("GET", "/v1/events").json()["items"]) == 1
    assert backend.command("check-migrations").returncode == 1
    backend.succeed("migrate")
    for each in (backend, connector):
        assert each.succeed("check-migrations") == ""
        each.succeed("verify-access")
    created = backend.ask("POST", "/v1/users", {"email": "a@b.example"})
    assert created.status_code == 201 and backend.ask("GET", "/readyz").status_code == 200
    analytics.succeed("grants", "--apply")  # PostgreSQL forgets the grants on a table that is dropped
    assert [each["id"] for each in analytics.ask("GET", "/v1/users").json()["items"]] == [
        created.json()["id"]
    ]


def tables_of(service: StampedService) -> list[str]:
    """The tables in the database, as the administrator sees them."""
    with closing(Login(service.server, service.database, {}).administrator()) as connection:
        cursor = connection.cursor()
        accounts = service.service.backend(service.settings).accounts
        assert accounts
        return accounts.existing_tables(cursor, service.declared)


class Rival(InThisProcess):
    """A service of the same database that has given no table the name of another service's yet."""

    def __post_init__(self) -> None:
        self.folder.joinpath("migrations/versions").mkdir(parents=True)
        self.declares("things")
        self.passwords = {account: "secret" for account in self.declared.accounts}

    def declares(self, *tables: str) -> None:
        metadata = sa.MetaData()
        for each in tables:
            type(each.title(), (Table,), {"nick": Column(t.String(20))}, name=each, metadata=metadata)
        self.service = Service("rival", metadata, root=self.folder)
        self.__dict__.pop("declared", None)


def test_two_services_that_want_one_table_are_told(
    services: dict[str, InThisProcess], own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = services["backend-api"]
    rival = Rival("rival", tmp_path, backend.database, own_server)
    try:
        rival.succeed("grants", "--apply")
        rival.declares("things", "users")
        monkeypatch.setitem(sys.modules, "rival_service", rival)
        env = "from dbservice.migrations import run\nfrom rival_service import service\n\nrun(service)\n"
        (tmp_path / "migrations/env.py").write_text(env)
        revision = (
            "import sqlalchemy as sa\nfrom alembic import op\n\nrevision = '0001'\ndown_revision = None\n\n"
        )
        create = "    op.create_table('users', sa.Column('nick', sa.String(20)))\n"
        (tmp_path / "migrations/versions/0001.py").write_text(f"{revision}\ndef upgrade():\n{create}")
        owner = "backend-api-migrate" if own_server.type == "postgresql" else "backend-api-rw"
        sentence = (
            f"rival: The table users belongs to the service backend-api, by its account {owner}: rename it in tables.py, or"
            " declare what rival may do with it in access.py.\n"
        )
        applied, migrated = rival.command("grants", "--apply"), rival.command("migrate")
        assert (applied.returncode, applied.stderr, applied.stdout) == (1, sentence, "")
        assert (migrated.returncode, migrated.stdout) == (1, "")
        if own_server.type == "postgresql":
            assert migrated.stderr == sentence
            with pytest.raises(
                psycopg2.Error, match="users belongs to another service, by its account backend-api-"
            ):
                script(rival)
        else:  # which says nothing about other accounts to one that is no administrator
            assert "CREATE command denied to user 'rival-migrate'" in migrated.stderr
        assert not {"things", rival.declared.journal} & {*tables_of(backend)}
        backend.succeed("verify-access")
        assert backend.succeed("grants", "--apply") == "nothing to change\n"
    finally:
        own_server.drop_database(backend.database)
        for account in rival.passwords:
            drop_account(own_server, account)


def script(service: StampedService) -> None:
    """Run what `grants` prints, as the administrator."""
    text = commands.script(service.service, service.service.backend(service.settings))
    with closing(Login(service.server, service.database, {}).administrator()) as connection:
        connection.cursor().execute(text)
