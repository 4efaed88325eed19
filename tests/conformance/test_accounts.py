"""The accounts of services on a real server: what `grants` prints and applies, and what the accounts may do then."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import new_class as types_new
from typing import Any

import psycopg2
import pymysql
import pytest
import sqlalchemy as sa

from dbservice import Service
from dbservice import types as t
from dbservice.accounts import commands
from dbservice.errors import StartupError
from dbservice.schema import Column, ForeignKey, SharedTable, Table
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from .account_scene import (
    ACCOUNTS,
    ANALYTICS,
    CONNECTOR,
    MIGRATED,
    SERVICES,
    TRIGGER,
    Scene,
    account_scene,
    module_of,
)

DriverErrors = (psycopg2.Error, pymysql.MySQLError)


@pytest.fixture
def scene(own_server: Server) -> Iterator[Scene]:
    with account_scene(own_server) as made:
        yield made


def test_grants_are_applied_once(scene: Scene) -> None:
    """Before the tables exist and after; the second time there is nothing to change."""
    later = {
        service.name: [
            f"LATER      table {each} does not exist yet: apply again when it does"
            for each in sorted(shared.__table__.name for shared in service.shared)
        ]
        for service in SERVICES
    }
    for service in SERVICES:
        first, second = scene.apply(service), scene.apply(service)
        assert not [line for line in first if "NOT DONE" in line]
        assert f"created    {service.name}-migrate" in first or service is ANALYTICS
        assert second == later[service.name]
        assert not scene.verify(service)
    scene.create_tables()
    for service in MIGRATED:
        assert scene.as_account(f"{service.name}-rw", f"SELECT * FROM {service.version_table}") == []
    scene.as_account("trigger-rw", "UPDATE jobs SET name = 'x'")
    for service in SERVICES:
        scene.apply(service)
        assert scene.apply(service) == []
        assert not scene.verify(service), scene.verify(service).lines()


def test_a_script_makes_the_same_accounts(scene: Scene) -> None:
    """Run by the administrator twice before the tables exist and twice after, in any order."""
    for service in (*SERVICES, *SERVICES):
        scene.as_admin(scene.script(service))
    for service in SERVICES:  # for their passwords
        assert {line.partition(" ")[0] for line in scene.apply(service)} <= {"set", "LATER"}
    scene.create_tables()
    for service in (*SERVICES[::-1], *SERVICES):
        scene.as_admin(scene.script(service))
    for service in SERVICES:
        assert not scene.verify(service), scene.verify(service).lines()
        assert scene.apply(service) == []
        assert not [each for each in scene.passwords.values() if each in scene.script(service)]


def test_a_script_is_the_same_wherever_it_is_printed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names no database, and no limit depends on the machine: DB_POOL_SIZE counts as 10 where it is not set."""

    def printed(**more: str) -> str:
        given = {"DB_TYPE": scene.database.type, "DB_NAME": "-", "DB_USER": "-", "DB_PASS": "-", **more}
        return commands.script(TRIGGER, TRIGGER.backend(Settings.load(given)))

    script = printed()
    for cores in (2, 200):
        monkeypatch.setattr("dbservice.settings.available_cpus", lambda cores=cores: cores)
        assert printed(DB_NAME=scene.database.name) == script == printed(DB_POOL_SIZE="10")
    assert printed(DB_POOL_SIZE="5") == scene.script(TRIGGER) != script
    assert "DB_POOL_SIZE=5 and REPLICAS=1" in scene.script(TRIGGER)


MANAGER = {"ADMIN_DB_USER": "manager", "ADMIN_DB_PASS": "manager"}


@pytest.fixture
def managed(scene: Scene) -> Iterator[Scene]:
    """A database that `manager` owns, who may create roles and is no superuser, as on a managed server."""
    if scene.engine != "postgresql":
        pytest.skip("its administrators may do everything")
    scene.as_admin("CREATE ROLE manager LOGIN CREATEROLE PASSWORD 'manager'")
    scene.as_admin(f"ALTER DATABASE {scene.database.name} OWNER TO manager")
    yield scene
    scene.close()
    scene.server.query("DROP ROLE manager")


def test_an_administrator_need_not_be_a_superuser(managed: Scene) -> None:
    scene = managed

    def apply(service: Service) -> list[str]:
        return commands.apply(service, scene.backend(service, **MANAGER), service.backend)

    def differences(service: Service) -> list[str]:
        return commands.verify(service, scene.backend(service, **MANAGER), service.backend).lines()

    def skipped(service: Service) -> str:
        accounts = ", ".join(commands.declared(service, scene.backend(service)).accounts)
        names = "log_min_error_statement, log_error_verbosity, log_parameter_max_length"
        return f"SKIPPED    {accounts}: SET {names}: only a superuser may, or who has SET on these parameters"

    for service in SERVICES:
        lines = apply(service)
        assert skipped(service) in lines and not [each for each in lines if "NOT DONE" in each], lines
    scene.create_tables()
    for service in SERVICES:
        apply(service)
        assert differences(service) == [] and apply(service) == [skipped(service)]
    commands.check_runtime(TRIGGER, scene.backend(TRIGGER))
    for changed in (
        'GRANT DELETE ON users TO "trigger-rw"',
        'GRANT TRUNCATE ON jobs TO "trigger-rw"',
        "ALTER TABLE platform_integrations DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE jobs OWNER TO manager",
    ):
        scene.as_admin(changed)
        with closing(scene.login("manager", "manager")) as connection, connection.cursor() as cursor:
            for _ in range(2):
                cursor.execute(scene.script(TRIGGER))
            assert any("log_min_error_statement is not set" in each for each in connection.notices)
        assert differences(TRIGGER) == [] != [scene.as_admin(changed)]
        apply(TRIGGER)
        assert differences(TRIGGER) == []
    # who may set everything finds what is missing, and nothing is left of the manager's memberships
    assert {each.text.partition(" =")[0] for each in scene.verify(TRIGGER).missing} == {
        "SET log_min_error_statement",
        "SET log_error_verbosity",
        "SET log_parameter_max_length",
    }
    assert not scene.verify(TRIGGER).surplus
    assert scene.as_admin("SELECT pg_has_role('manager', 'trigger-migrate', 'USAGE')") == [(False,)]
    scene.apply(TRIGGER)
    assert apply(TRIGGER) == differences(TRIGGER) == []


def test_a_script_needs_a_database(scene: Scene) -> None:
    if scene.engine == "postgresql":
        pytest.skip("its connections always have one")
    script = f"USE mysql; CREATE DATABASE gone; USE gone; DROP DATABASE gone; {scene.script(TRIGGER)}"
    with pytest.raises(DriverErrors, match="no database is selected: USE one, or name it after mysql"):
        scene.as_admin(script)
    assert "created    trigger-rw" in scene.apply(TRIGGER)  # before it has done anything


def test_what_migrate_creates_is_for_nobody_else(scene: Scene) -> None:
    if scene.engine != "postgresql":
        pytest.skip("it has no default privileges")
    scene.ready()
    scene.as_account("trigger-migrate", "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert scene.denied("connector-rw", "SELECT one()") and scene.denied("trigger-rw", "SELECT one()")


def test_a_script_revokes_what_is_not_declared(scene: Scene) -> None:
    scene.ready()
    scene.as_admin(f"GRANT DELETE ON users TO {scene.sql_account('trigger-rw')}")
    scene.as_admin(scene.script(TRIGGER))
    assert not scene.verify(TRIGGER)


def test_tables_that_are_dropped_and_made_again_keep_their_grants(scene: Scene) -> None:
    """As by `migrate --to base` and `migrate`: no administrator is needed for a service's own tables."""
    scene.ready()
    for service, tables in ((TRIGGER, "jobs"), (CONNECTOR, "users, platform_integrations")):
        cascade = " CASCADE" if scene.engine == "postgresql" else ""
        scene.as_account(f"{service.name}-migrate", f"DROP TABLE {tables}{cascade}")
        scene.as_account(f"{service.name}-migrate", f"DROP TABLE {service.version_table}")
    for service in SERVICES:
        assert not scene.verify(service), scene.verify(service).lines()
        scene.apply(service)
    scene.create_tables()
    scene.as_account(
        "trigger-rw", "INSERT INTO jobs (name, created_at, updated_at) VALUES ('x', now(), now())"
    )
    scene.as_account("connector-rw", "SELECT * FROM users")
    if scene.engine != "postgresql":  # which forgets what was granted on a table that is gone
        scene.as_account("analytics-ro", "SELECT email FROM users")
        assert not scene.verify(TRIGGER)
    scene.apply_all()
    assert not any(scene.verify(each) for each in SERVICES)


INSERT = (
    "INSERT INTO {} (platform, token, created_at, updated_at)"
    " VALUES ('{}', 'x', '2020-01-01 00:00:00', '2020-01-01 00:00:00')"
)


@pytest.mark.parametrize("last", (TRIGGER, CONNECTOR), ids=lambda each: each.name)
def test_rows(scene: Scene, last: object) -> None:
    """`trigger` can neither see, insert, move nor delete a row that is not of twitch; the owner sees all."""
    scene.ready()
    for service in sorted(SERVICES, key=lambda each: each is last):
        scene.as_admin(scene.script(service))
    rows, inserts = scene.rows_of_trigger(), scene.inserts_of_trigger()
    for platform in ("discord", "twitch", "slack"):
        scene.as_account("connector-rw", INSERT.format("platform_integrations", platform))
    assert scene.as_account("trigger-rw", f"SELECT platform FROM {rows}") == [("twitch",)]
    scene.as_account("trigger-rw", INSERT.format(inserts, "twitch"))
    assert scene.denied("trigger-rw", INSERT.format(inserts, "discord"))
    assert scene.denied("trigger-rw", f"UPDATE {rows} SET platform = 'discord'")
    scene.as_account(
        "trigger-rw", f"UPDATE {rows} SET platform = 'twitch', token = 'y' WHERE platform = 'discord'"
    )
    scene.as_account("trigger-rw", f"UPDATE {rows} SET token = 'z'")
    scene.as_account("trigger-rw", f"DELETE FROM {rows} WHERE platform <> 'twitch' OR token = 'x'")
    assert scene.denied("trigger-rw", f"SELECT owner FROM {rows}") or scene.engine != "postgresql"
    if scene.engine == "postgresql":
        returning = INSERT.format(rows, "discord") + " RETURNING id"
        assert scene.denied("trigger-rw", returning)
        prepared = f"PREPARE s AS SELECT platform FROM {rows}; EXECUTE s"
    else:
        assert scene.denied("trigger-rw", "SELECT id FROM platform_integrations")
        assert scene.denied("trigger-rw", "DELETE FROM platform_integrations")
        prepared = f"PREPARE s FROM 'SELECT platform FROM {rows}'; EXECUTE s"
    assert scene.as_account("trigger-rw", prepared) == [("twitch",)] * 2
    seen = scene.as_account("connector-rw", "SELECT platform, token FROM platform_integrations ORDER BY id")
    assert seen == [("discord", "x"), ("twitch", "z"), ("slack", "x"), ("twitch", "z")]
    # a backfill by the owner reaches all rows
    scene.as_account("connector-migrate", "UPDATE platform_integrations SET owner = 'me'")
    assert scene.as_account("connector-rw", "SELECT DISTINCT owner FROM platform_integrations") == [("me",)]


DENIED = {
    "trigger-rw": [
        *("SELECT * FROM users", "SELECT password FROM users", "SELECT email, password FROM users"),
        *("INSERT INTO users (email) VALUES ('x')", "UPDATE users SET email = 'x'", "DELETE FROM users"),
        *("SELECT * FROM alembic_version_connector", "DELETE FROM alembic_version_trigger"),
        *(
            "TRUNCATE TABLE jobs",
            "DROP TABLE jobs",
            "ALTER TABLE jobs ADD COLUMN x int",
            "CREATE TABLE x (id int)",
        ),
        *("CREATE INDEX x ON jobs (name)", "CREATE VIEW x AS SELECT 1", "DROP TABLE users"),
        *("GRANT SELECT ON jobs TO {analytics}", "SET ROLE {connector}"),
    ],
    "trigger-migrate": [
        *("SELECT * FROM users", "DROP TABLE users", "ALTER TABLE platform_integrations ADD COLUMN x int"),
        *(
            "DELETE FROM alembic_version_connector",
            "GRANT SELECT ON users TO {analytics}",
            "CREATE DATABASE x",
        ),
    ],
    "analytics-ro": [
        *("SELECT * FROM users", "SELECT password FROM users", "DELETE FROM users"),
        *("INSERT INTO users (email) VALUES ('x')", "UPDATE users SET email = 'x'"),
        *("SELECT * FROM jobs", "SELECT * FROM platform_integrations", "CREATE TABLE x (id int)"),
    ],
}
ALLOWED = {
    "trigger-rw": [
        *("SELECT id, email FROM users", "SELECT * FROM jobs", "SELECT * FROM alembic_version_trigger"),
        *("UPDATE jobs SET name = 'x'", "DELETE FROM jobs"),
    ],
    "trigger-migrate": [
        *("ALTER TABLE jobs ADD COLUMN x int", "CREATE INDEX ix ON jobs (x)", "UPDATE jobs SET x = 1"),
        *("DELETE FROM alembic_version_trigger", "TRUNCATE TABLE jobs", "DROP TABLE jobs"),
    ],
    "analytics-ro": ["SELECT id, email FROM users"],
}
OF_ENGINE = {
    "postgresql": [
        *(
            "CREATE TEMPORARY TABLE x (id int)",
            "COPY jobs TO '/tmp/x'",
            "CREATE SCHEMA x",
            "SET ROLE pg_monitor",
        ),
        *(
            "ALTER TABLE platform_integrations DISABLE ROW LEVEL SECURITY",
            "SET session_replication_role = replica",
        ),
        *("SELECT pg_read_file('/etc/passwd')", "ALTER SYSTEM SET work_mem = '1MB'"),
    ],
    "mysql": [
        *(
            "CREATE TEMPORARY TABLE x (id int)",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SET GLOBAL max_connections = 1",
        ),
        *("SELECT * FROM mysql.user", "FLUSH TABLES", "LOCK TABLES jobs READ", "SHOW CREATE VIEW {rows}"),
    ],
}
OF_ENGINE["mariadb"] = OF_ENGINE["mysql"]


def test_denials(scene: Scene) -> None:
    scene.ready()
    names = {"analytics": scene.sql_account("analytics-ro"), "connector": scene.sql_account("connector-rw")}
    if scene.engine == "mariadb":  # whose roles have no host
        names["connector"] = "`connector-rw`"
    wrong = []
    for account in DENIED:
        more = OF_ENGINE[scene.engine] if account == "trigger-rw" else []
        for sql in (*DENIED[account], *more):
            if not scene.denied(account, sql.format(**names, rows=scene.rows_of_trigger())):
                wrong.append(f"{account} may {sql}")
    for account, allowed in ALLOWED.items():
        for sql in allowed:
            try:
                scene.as_account(account, sql)
            except DriverErrors as error:
                wrong.append(f"{account} may not {sql}: {error}")
    assert not wrong, "\n".join(wrong)


def test_an_account_verifies_itself(scene: Scene) -> None:
    """Without an administrator's account: on MySQL and MariaDB it is told nothing about others, and says so."""
    scene.ready()
    alone = {"ADMIN_DB_USER": "", "ADMIN_DB_PASS": ""}
    backend = scene.backend(TRIGGER, **alone)
    found = commands.verify(TRIGGER, backend, TRIGGER.backend)
    assert not found
    assert [*found.unseen] == ([] if scene.engine == "postgresql" else ["trigger-migrate"])
    assert len(found.lines()) == len(found.unseen)
    scene.as_admin(f"GRANT DELETE ON users TO {scene.sql_account('trigger-rw')}")
    (line, *_) = commands.verify(TRIGGER, backend, TRIGGER.backend).lines()
    assert line == "undeclared trigger-rw: DELETE on table users"


def test_one_service_in_two_databases_of_a_server(own_server: Server, scene: Scene) -> None:
    """Its accounts are the same, and the grants of one database do not disturb the other."""
    with account_scene(own_server) as other:
        for each in (scene, other):
            each.ready()
        scene.apply_all()
        for each in (scene, other):
            assert not [line for service in SERVICES for line in each.verify(service).lines()]
        for account, sql in (
            ("trigger-rw", "SELECT name FROM jobs"),
            ("analytics-ro", "SELECT email FROM users"),
        ):
            assert scene.as_account(account, sql) == other.as_account(account, sql) == []
        if scene.engine != "postgresql":  # whose connections see one database
            name = other.database.name
            scene.as_admin(f"GRANT DELETE ON {name}.users TO 'trigger-rw'@'%'")
            assert scene.verify(TRIGGER).lines() == [f"undeclared trigger-rw: DELETE on table {name}.users"]
            scene.apply(TRIGGER)
        assert other.apply(TRIGGER) == scene.apply(TRIGGER) == []


REFUSED = {
    "postgresql": {
        'ALTER ROLE "trigger-rw" SUPERUSER': "it is a superuser",
        'ALTER ROLE "trigger-rw" BYPASSRLS': "it sees past row security (BYPASSRLS)",
        'CREATE ROLE boss SUPERUSER; GRANT boss TO "trigger-rw"': "it is a member of boss, which sees past row security",
        'ALTER TABLE jobs OWNER TO "trigger-rw"': "it owns jobs",
        'ALTER TABLE platform_integrations OWNER TO "trigger-rw"': "it owns platform_integrations",
        'GRANT "trigger-migrate" TO "trigger-rw"': "it owns alembic_version_trigger, jobs",
        'ALTER DATABASE {db} OWNER TO "trigger-rw"': "it owns the database",
        'ALTER ROLE "trigger-rw" CREATEROLE': "it may create roles (CREATEROLE)",
        'GRANT CREATE ON SCHEMA public TO "trigger-rw"': "it may create tables in the schema public",
    },
    "mysql": {
        "GRANT SELECT ON *.* TO 'trigger-rw'@'%'": "it has SELECT on *.*",
        "GRANT PROCESS ON *.* TO 'trigger-rw'@'%'": "it has PROCESS on *.*",
        "GRANT INSERT ON {db}.* TO 'trigger-rw'@'%'": "it has INSERT on databases like {db}",
        "GRANT ALTER ON jobs TO 'trigger-rw'@'%'": "it has ALTER on table jobs",
        "GRANT SELECT ON platform_integrations TO 'trigger-rw'@'%'": (
            "it sees all rows of platform_integrations: it has SELECT on table platform_integrations"
        ),
    },
}
REFUSED["mariadb"] = REFUSED["mysql"]


def test_the_account_of_a_running_service_is_checked(scene: Scene) -> None:
    """It may do what it needs, and nothing that only others need."""
    scene.ready()

    def refused(**account: str) -> str:
        with pytest.raises(StartupError) as caught:
            commands.check_runtime(TRIGGER, scene.backend(TRIGGER, **account))
        return str(caught.value)

    advice = "Run it as trigger-rw, which `grants --apply` creates; on a server of your own set DB_SINGLE_ACCOUNT=true."
    alone = {"MIGRATE_DB_USER": "", "MIGRATE_DB_PASS": ""}
    migration = {"DB_USER": "trigger-migrate", "DB_PASS": scene.passwords["trigger-migrate"]}
    for more in ({}, alone):
        said = f"The service does not run as trigger-migrate: it is that of migrations. {advice}"
        assert refused(**migration, **more) == said
    assert f" as {scene.server.user}: it " in refused(
        DB_USER=scene.server.user, DB_PASS=scene.server.password, **alone
    )
    for sql, reason in REFUSED[scene.engine].items():
        commands.check_runtime(TRIGGER, scene.backend(TRIGGER))
        scene.as_admin(sql.format(db=scene.database.name))
        reason = reason.format(db=scene.database.name)
        assert refused() == f"The service does not run as trigger-rw: {reason}. {advice}"
        scene.apply(TRIGGER)
    if scene.engine == "postgresql":
        scene.as_admin("DROP ROLE boss")

    account = scene.sql_account("trigger-rw")
    for revoked, named in (
        ("SELECT ON jobs", "SELECT on table jobs"),
        ("SELECT (email) ON users", "SELECT on column users.email"),
        (f"UPDATE ON {scene.rows_of_trigger()}", "UPDATE on"),
    ):
        if "UPDATE" in revoked and scene.engine == "postgresql":
            revoked = "UPDATE (token) ON platform_integrations"
        scene.as_admin(f"REVOKE {revoked} FROM {account}")
        with pytest.raises(StartupError, match=f"The account trigger-rw lacks {named}"):
            commands.check_runtime(TRIGGER, scene.backend(TRIGGER))
        scene.apply(TRIGGER)
    commands.check_runtime(TRIGGER, scene.backend(TRIGGER))


def test_more_connections_than_the_account_may_have_are_refused_at_the_start(scene: Scene) -> None:
    scene.ready()
    few = {"DB_POOL_SIZE": "10", "REPLICAS": "1"}  # 24 connections
    scene.apply(TRIGGER, more=few)
    commands.check_runtime(TRIGGER, scene.backend(TRIGGER, **few | {"REPLICAS": "2"}))
    many = few | {"REPLICAS": "3"}
    with pytest.raises(StartupError) as refused:
        commands.check_runtime(TRIGGER, scene.backend(TRIGGER, **many))
    said = "REPLICAS=3 with DB_POOL_SIZE=10 need 33 connections, and trigger-rw may have 24: lower them, or run `grants --apply` with both."
    assert str(refused.value) == said
    scene.apply(TRIGGER, more=many)
    commands.check_runtime(TRIGGER, scene.backend(TRIGGER, **many))


def test_a_revision_may_make_a_table_that_a_later_one_drops(scene: Scene, tmp_path: Path) -> None:
    """The migration account may do both in an empty database, though nobody declares the table any more."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001.py").write_text('op.create_table("tasks", sa.Column("id", sa.BigInteger()))')
    service = Service("trigger", TRIGGER.tables, root=tmp_path)
    scene.apply(service)
    scene.as_account("trigger-migrate", "CREATE TABLE tasks (id int)")
    assert scene.apply(service) == [] and not scene.verify(service)
    assert scene.denied("trigger-rw", "SELECT * FROM tasks")
    scene.as_account("trigger-migrate", "DROP TABLE tasks")
    assert scene.apply(service) == [] and not scene.verify(service)


def test_rows_may_have_values_of_every_type(scene: Scene) -> None:
    """What the server makes of the condition is recognized: there is nothing to change the second time."""
    types: dict[str, tuple[t.ColumnType, object]] = {
        "text": (t.String(40), 'it\'s \\ a "ü" (x) `y` -1 % $$ \n'),
        "choice": (t.Enum("a", "b"), "a"),
        "yes": (t.Boolean(), True),
        "small": (t.Integer(), -5),
        "big": (t.BigInteger(), 9_000_000_000),
        "price": (t.Numeric(12, 2), "-12.50"),
        "day": (t.Date(), "2020-01-02"),
        "noon": (t.Time(), "12:00:00"),
        "moment": (t.Timestamp(), "2020-01-02T03:04:05.000006Z"),
        "token": (t.Uuid(), "12345678-1234-5678-1234-567812345678"),
    }
    metadata = sa.MetaData()
    columns = {name: Column(kind) for name, (kind, _) in types.items()}
    types_new(
        "Everything",
        (Table,),
        {"name": "everything", "metadata": metadata},
        lambda body: body.update(columns),
    )
    shared_columns: dict[str, Any] = {
        "id": Column(t.BigInteger(), primary_key=True),
        **{name: Column(kind) for name, (kind, _) in types.items()},
    }
    rows = {name: value for name, (_, value) in types.items()}
    options = {"name": "everything", "metadata": sa.MetaData(), "rows": rows, "access": "read-write"}
    shared = types_new("Shared", (SharedTable,), options, lambda body: body.update(shared_columns))
    owner = Service("connector", metadata, root=Path("/nowhere"))
    service = Service("trigger", sa.MetaData(), access=module_of(shared=shared))
    scene.apply(owner)
    backend = owner.backend(scene.settings(owner).for_migration())
    metadata.create_all(backend.migrations.engine())
    for _ in range(2):
        lines = scene.apply(service)
        assert not [line for line in lines if "NOT DONE" in line], lines
    assert lines == [], "\n".join(lines)
    assert not scene.verify(service), scene.verify(service).lines()
    script = scene.script(service)
    scene.as_admin(script)
    assert not scene.verify(service)


def test_twenty_migrations_at_once_find_a_connection(scene: Scene) -> None:
    """Each while it waits for the lock, and the one that works three."""
    scene.ready()
    with ExitStack() as stack:
        for _ in range(22):
            stack.enter_context(closing(scene.login("trigger-migrate")))
        with closing(scene.login("trigger-migrate")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_a_foreign_key_to_a_table_of_another_service(scene: Scene) -> None:
    metadata = sa.MetaData()

    class Sessions(Table, name="jobs", metadata=metadata):
        user_id = Column(t.BigInteger(), ForeignKey("users.id"))

    service = Service("trigger", metadata, root=Path("/nowhere"))
    scene.ready()
    reference = "ALTER TABLE jobs ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id)"
    scene.as_account("trigger-migrate", "ALTER TABLE jobs ADD user_id BIGINT")
    assert scene.denied("trigger-migrate", reference)
    scene.apply(service)
    assert scene.apply(service) == [] and not scene.verify(service)
    scene.as_account("trigger-migrate", reference)
    assert scene.denied("trigger-migrate", "SELECT id FROM users")


def test_no_log_shows_a_password(scene: Scene) -> None:
    """With all statements logged; the new password works, the old one is refused."""
    scene.ready()
    old = dict(scene.passwords)
    scene.passwords = {account: f"sEcret-{account}-'\"\\é" for account in ACCOUNTS}
    with scene.logged_statements() as logged:
        for service in SERVICES:
            assert [line.partition(" ")[0] for line in scene.apply(service) if "password" in line]
    text = logged()
    assert "ALTER" in text and "sEcret" not in text
    for account in ("trigger-rw", "trigger-migrate", "analytics-ro"):
        scene.login(account).close()
        with pytest.raises(DriverErrors):
            scene.login(account, old[account])
    with pytest.raises(DriverErrors):
        scene.login("trigger-rw", "")
    with closing(scene.login("connector-rw")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
