"""Services that share one database of a real server, each with the accounts that it declares.

`connector` owns platform_integrations and users, `trigger` owns jobs and uses the `twitch` rows of platform_integrations and
two columns of users, `analytics` owns nothing and reads users."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2
import pymysql
import sqlalchemy as sa

from dbservice import Service
from dbservice import types as t
from dbservice.accounts import commands
from dbservice.accounts.declared import insert_view, row_view
from dbservice.accounts.facts import Differences
from dbservice.backends import Backend
from dbservice.schema import Column, SharedTable, Table
from dbservice.settings import Settings
from dbservice.testing.servers import Database, Server

_connectors, _triggers, _access = sa.MetaData(), sa.MetaData(), sa.MetaData()


class Users(Table, name="users", metadata=_connectors):
    email = Column(t.String(255))
    password = Column(t.String(255), nullable=True, secret=True)


class Integrations(Table, name="platform_integrations", metadata=_connectors):
    platform = Column(t.String(20))
    token = Column(t.String(255), nullable=True)
    owner = Column(t.String(20), nullable=True)


class Jobs(Table, name="jobs", metadata=_triggers):
    name = Column(t.String(20))


class TwitchIntegrations(
    SharedTable,
    name="platform_integrations",
    access="read-write",
    rows={"platform": "twitch"},
    metadata=_access,
):
    id = Column(t.BigInteger(), primary_key=True)
    platform = Column(t.String(20))
    token = Column(t.String(255), nullable=True)
    created_at = Column(t.Timestamp())
    updated_at = Column(t.Timestamp())


class KnownUsers(SharedTable, name="users", metadata=_access):
    id = Column(t.BigInteger(), primary_key=True)
    email = Column(t.String(255))


def module_of(**shared: type[SharedTable]) -> ModuleType:
    """An access module."""
    module = ModuleType("access")
    module.__dict__.update(shared)
    return module


CONNECTOR = Service("connector", _connectors, root=Path("/nowhere"))
TRIGGER = Service(
    "trigger", _triggers, root=Path("/nowhere"), access=module_of(rows=TwitchIntegrations, users=KnownUsers)
)
ANALYTICS = Service("analytics", sa.MetaData(), access=module_of(users=KnownUsers))
SERVICES = (TRIGGER, CONNECTOR, ANALYTICS)
MIGRATED = (TRIGGER, CONNECTOR)
ACCOUNTS = (
    *("trigger-rw", "trigger-migrate", "trigger-view"),
    *("connector-rw", "connector-migrate", "analytics-ro"),
)


class Scene:
    """A database for the services, without tables and accounts yet."""

    def __init__(self, server: Server, database: Database) -> None:
        self.server, self.database = server, database
        self.passwords = {account: f"pässword of {account}" for account in ACCOUNTS}

    @property
    def engine(self) -> str:
        return self.server.engine

    def settings(self, service: Service, **more: str) -> Settings:
        runtime = f"{service.name}-{'ro' if service is ANALYTICS else 'rw'}"
        migrate = f"{service.name}-migrate"
        environ = {
            **self.database.environ(),
            "DB_USER": runtime,
            "DB_PASS": self.passwords[runtime],
            "ADMIN_DB_USER": self.server.user,
            "ADMIN_DB_PASS": self.server.password,
            "DB_POOL_SIZE": "5",
            "DB_SINGLE_ACCOUNT": "false",
        }
        if service is not ANALYTICS:
            environ |= {"MIGRATE_DB_USER": migrate, "MIGRATE_DB_PASS": self.passwords[migrate]}
        return Settings.load({**environ, **more})

    def backend(self, service: Service, **more: str) -> Backend:
        return service.backend(self.settings(service, **more))

    def apply(self, service: Service, *, more: Mapping[str, str] = {}, **options: Any) -> list[str]:
        return commands.apply(service, self.backend(service, **more), service.backend, **options)

    def apply_all(self) -> None:
        for service in SERVICES:
            failed = [line for line in self.apply(service) if "NOT DONE" in line]
            assert not failed, failed

    def verify(self, service: Service) -> Differences:
        return commands.verify(service, self.backend(service), service.backend)

    def script(self, service: Service) -> str:
        return commands.script(service, self.backend(service))

    def create_tables(self) -> None:
        """The tables as `migrate` makes them: with the migration accounts."""
        for service in MIGRATED:
            backend = service.backend(self.settings(service).for_migration())
            engine = sa.create_engine(
                f"{backend.migrations.drivername}://",
                creator=lambda backend=backend: backend.connect(autocommit=False),
                poolclass=sa.pool.NullPool,
            )
            version = sa.Table(service.version_table, sa.MetaData(), sa.Column("version_num", sa.String(32)))
            with engine.begin() as connection:
                version.create(connection)
                service.tables.create_all(connection)
            with closing(backend.connect()) as raw:
                commands.after_migration(service, backend, raw)

    def ready(self) -> None:
        """Accounts and tables as they should be."""
        self.apply_all()
        self.create_tables()
        self.apply_all()

    def rows_of_trigger(self) -> str:
        """What `trigger` reads and writes instead of platform_integrations."""
        name = "platform_integrations"
        return name if self.engine == "postgresql" else row_view(name, TRIGGER.package)

    def inserts_of_trigger(self) -> str:
        """What it inserts into."""
        name = "platform_integrations"
        return name if self.engine == "postgresql" else insert_view(name, TRIGGER.package)

    def as_admin(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of the last of some statements, which the administrator runs in the database."""
        return self._run(self._admin(), sql)

    def as_account(self, account: str, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement that an account runs. Raises the driver's exceptions."""
        return self._run(self.login(account), sql)

    def denied(self, account: str, sql: str) -> bool:
        """Whether the account is denied a statement."""
        connection = self.login(account)
        try:
            self._run(connection, sql)
        except (psycopg2.Error, pymysql.MySQLError) as error:
            return is_denial(error)
        # PostgreSQL's GRANT without the right to grant
        return any("no privileges were granted" in each for each in getattr(connection, "notices", ()))

    def sql_account(self, account: str) -> str:
        """The account's name in SQL."""
        return f'"{account}"' if self.engine == "postgresql" else f"'{account}'@'%'"

    @contextmanager
    def logged_statements(self) -> Iterator[Callable[[], str]]:
        """The server logs all statements in the block; then the function returns them."""
        if self.engine == "postgresql":
            log, start = self.server.folder / "log", (self.server.folder / "log").stat().st_size
            on, off = ["ALTER SYSTEM SET log_statement = 'all'"], ["ALTER SYSTEM RESET log_statement"]
            reload = ["SELECT pg_reload_conf()"]
        else:
            on = [
                "SET GLOBAL log_output = 'TABLE'",
                "TRUNCATE TABLE mysql.general_log",
                "SET GLOBAL general_log = 1",
            ]
            off, reload = ["SET GLOBAL general_log = 0", "SET GLOBAL log_output = 'FILE'"], []
        for each in (*on, *reload):
            self.server.query(each)

        def logged() -> str:
            if self.engine == "postgresql":
                return log.read_bytes()[start:].decode(errors="replace")
            found = self.server.query("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log")
            return "\n".join(str(row[0]) for row in found)

        try:
            yield logged
        finally:
            for each in (*off, *reload):
                self.server.query(each)

    def login(self, account: str, password: str | None = None) -> Any:
        """A connection of the account. Raises the driver's exceptions."""
        d = self.database
        password = self.passwords[account] if password is None else password
        return _connection(Database(d.type, d.name, d.host, d.port, account, password))

    def _admin(self) -> Any:
        a, d = self.server.admin, self.database
        return _connection(Database(d.type, d.name, d.host, d.port, a.user, a.password))

    def _run(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(sql)
            found: list[tuple[Any, ...]] = []
            while True:
                if cursor.description:
                    found = list(cursor.fetchall())
                if self.engine == "postgresql" or not cursor.nextset():
                    return found

    def close(self) -> None:
        self.server.drop_database(self.database)
        for account in ACCOUNTS:
            if self.engine == "postgresql":
                self.server.query(f'DROP ROLE IF EXISTS "{account}"')
            else:
                self.server.query(f"DROP USER IF EXISTS '{account}'@'%'")


def is_denial(error: Exception) -> bool:
    """Whether a server refuses a statement for want of a privilege, or by row security."""
    if isinstance(error, psycopg2.Error):
        return error.pgcode == "42501"
    # denied: to a database, a command on a table or a column, a global privilege, a routine; and a row of a view
    return error.args[0] in (1044, 1142, 1143, 1227, 1370, 1369, 1045, 3530, 1959, 1290)


@contextmanager
def account_scene(server: Server) -> Iterator[Scene]:
    scene = Scene(server, server.create_database())
    try:
        yield scene
    finally:
        with suppress(psycopg2.Error, pymysql.MySQLError):
            scene.close()


def _connection(database: Database) -> Any:
    if database.type == "postgresql":
        connection = database.connect()
        connection.autocommit = True
        return connection
    return pymysql.connect(
        host=database.host,
        port=database.port,
        user=database.user,
        password=database.password.encode().decode("latin-1"),
        database=database.name,
        charset="utf8mb4",
        autocommit=True,
        client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
    )
