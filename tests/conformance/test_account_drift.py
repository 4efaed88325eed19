"""Changes that somebody made by hand: `verify-access` names each, `grants --apply` mends it, and then has nothing to do."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from dbservice.testing.servers import Server

from .account_scene import SERVICES, TRIGGER, Scene, account_scene


class Drift(NamedTuple):
    sql: str
    """What an administrator runs; `{db}` is the database."""
    named: str
    """What a line of verify-access says."""
    after: str = ""
    """What removes the rest of it."""
    round: int = 1


# fmt: off
POSTGRESQL = [
    Drift('GRANT SELECT ON users TO "trigger-rw"', "undeclared trigger-rw: SELECT on table users"),
    Drift('GRANT SELECT (password) ON users TO "trigger-rw"', "undeclared trigger-rw: SELECT on column users.password"),
    Drift('REVOKE SELECT ON jobs FROM "trigger-rw"', "missing    trigger-rw: SELECT on table jobs", round=2),
    Drift('REVOKE SELECT (email) ON users FROM "trigger-rw"', "missing    trigger-rw: SELECT on column users.email"),
    Drift('GRANT TRUNCATE ON jobs TO "trigger-rw"', "undeclared trigger-rw: TRUNCATE on table jobs"),
    Drift('GRANT SELECT ON jobs TO "trigger-rw" WITH GRANT OPTION', "GRANT OPTION of SELECT on table jobs"),
    Drift("GRANT SELECT ON users TO PUBLIC", "trigger-rw: SELECT on table users, through PUBLIC"),
    Drift('GRANT SELECT ON jobs TO "trigger-migrate"; REVOKE UPDATE ON jobs FROM "trigger-migrate"', "OWNER of table jobs, without UPDATE", round=2),
    Drift('GRANT pg_read_all_data TO "trigger-rw"', "undeclared trigger-rw: member of role pg_read_all_data"),
    Drift('CREATE ROLE guest; GRANT "trigger-rw" TO guest', "trigger-rw: role guest is a member of it", "DROP ROLE guest"),
    Drift('ALTER ROLE "trigger-rw" SUPERUSER', "undeclared trigger-rw: SUPERUSER"),
    Drift('ALTER ROLE "trigger-migrate" CREATEROLE', "undeclared trigger-migrate: CREATEROLE"),
    Drift('ALTER ROLE "trigger-rw" BYPASSRLS', "undeclared trigger-rw: BYPASSRLS"),
    Drift('ALTER ROLE "trigger-rw" INHERIT', "undeclared trigger-rw: INHERIT"),
    Drift('ALTER ROLE "trigger-rw" NOLOGIN', "missing    trigger-rw: LOGIN"),
    Drift('ALTER ROLE "trigger-rw" CONNECTION LIMIT -1', "missing    trigger-rw: CONNECTION LIMIT 14"),
    Drift('ALTER ROLE "trigger-rw" SET search_path = secret', "undeclared trigger-rw: SET search_path = secret"),
    Drift('ALTER ROLE "trigger-rw" RESET log_min_error_statement', "missing    trigger-rw: SET log_min_error_statement"),
    Drift('ALTER ROLE "trigger-rw" IN DATABASE {db} SET row_security = off', "row_security = off, in database {db}"),
    Drift('ALTER TABLE jobs OWNER TO "trigger-rw"', "undeclared trigger-rw: OWNER of table jobs", round=3),
    Drift('CREATE TABLE more (id int); ALTER TABLE more OWNER TO "trigger-migrate"', "undeclared trigger-migrate: OWNER of table more", "DROP TABLE more"),
    Drift('ALTER TABLE users OWNER TO "trigger-migrate"', "undeclared trigger-migrate: OWNER of table users"),
    Drift("ALTER TABLE platform_integrations DISABLE ROW LEVEL SECURITY", "missing    trigger-rw: only rows of platform_integrations"),
    Drift("ALTER TABLE platform_integrations NO FORCE ROW LEVEL SECURITY", "missing    trigger-rw: only rows of platform_integrations", round=2),
    Drift('DROP POLICY "trigger-rw" ON platform_integrations', "missing    trigger-rw: only rows of platform_integrations", round=3),
    Drift('ALTER POLICY "trigger-rw" ON platform_integrations USING (true)', "policy trigger-rw on table platform_integrations", round=2),
    Drift('CREATE POLICY more ON platform_integrations TO "trigger-rw" USING (true)', "undeclared trigger-rw: policy more"),
    Drift("DROP POLICY all_rows ON platform_integrations", "missing    trigger-rw: only rows of platform_integrations", round=3),
    Drift('GRANT CREATE ON SCHEMA public TO "trigger-rw"', "undeclared trigger-rw: CREATE on schema public"),
    Drift("GRANT CREATE ON SCHEMA public TO PUBLIC", "trigger-rw: CREATE on schema public, through PUBLIC"),
    Drift('GRANT TEMPORARY ON DATABASE {db} TO "trigger-rw"', "undeclared trigger-rw: TEMPORARY on database {db}"),
    Drift('ALTER SCHEMA public OWNER TO "trigger-migrate"', "undeclared trigger-migrate: OWNER of schema public"),
    Drift('ALTER ROLE "trigger-rw" SET statement_timeout = 0', "missing    trigger-rw: SET statement_timeout = 60s"),
    Drift('ALTER ROLE "trigger-migrate" SET statement_timeout = 1', "undeclared trigger-migrate: SET statement_timeout = 1"),
    Drift('ALTER DEFAULT PRIVILEGES FOR ROLE "trigger-migrate" GRANT EXECUTE ON FUNCTIONS TO PUBLIC', "missing    trigger-migrate: new FUNCTIONS are not for PUBLIC"),
    Drift('ALTER DEFAULT PRIVILEGES FOR ROLE "trigger-migrate" IN SCHEMA public GRANT USAGE ON TYPES TO PUBLIC', "USAGE on new TYPES of role trigger-migrate in schema public, through PUBLIC"),
    Drift('ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "trigger-rw"', "SELECT on new TABLES of role"),
    Drift('ALTER DEFAULT PRIVILEGES FOR ROLE "trigger-migrate" GRANT SELECT ON TABLES TO PUBLIC', "SELECT on new TABLES of role trigger-migrate"),
    Drift("CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "EXECUTE on function public.f", "DROP FUNCTION f"),
    Drift('CREATE SCHEMA other CREATE TABLE t (id int); GRANT SELECT ON other.t TO "trigger-rw"', "SELECT on table other.t", "DROP SCHEMA other CASCADE"),
    Drift('GRANT USAGE ON SEQUENCE users_id_seq TO "trigger-rw"', "USAGE on sequence users_id_seq"),
    Drift('GRANT SET ON PARAMETER session_replication_role TO "trigger-rw"', "SET on parameter session_replication_role"),
    Drift('ALTER ROLE "trigger-rw" PASSWORD \'other\'', ""),
]
FAMILY = [
    Drift("GRANT SELECT ON {db}.users TO {rw}", "undeclared trigger-rw: SELECT on table users"),
    Drift("GRANT SELECT (password) ON {db}.users TO {rw}", "undeclared trigger-rw: SELECT on column users.password"),
    Drift("REVOKE SELECT ON {db}.jobs FROM {rw}", "missing    trigger-rw: SELECT on table jobs", round=2),
    Drift("REVOKE SELECT (email) ON {db}.users FROM {rw}", "missing    trigger-rw: SELECT on column users.email"),
    Drift("GRANT ALL ON {db}.jobs TO {rw}", "undeclared trigger-rw: DROP on table jobs"),
    Drift("GRANT SELECT ON {db}.jobs TO {rw} WITH GRANT OPTION", "trigger-rw: GRANT OPTION on table jobs"),
    Drift("GRANT SELECT ON {db}.* TO {rw}", "undeclared trigger-rw: SELECT on databases like {db}"),
    Drift("GRANT INSERT ON `{pattern}`.* TO {rw}", "undeclared trigger-rw: INSERT on database {db}"),
    Drift("GRANT SELECT, GRANT OPTION ON `t%`.* TO {rw}", "trigger-rw: GRANT OPTION on databases like t%"),
    Drift("GRANT PROCESS ON *.* TO {rw}", "undeclared trigger-rw: PROCESS on *.*"),
    Drift("GRANT ALL ON *.* TO {migrate} WITH GRANT OPTION", "undeclared trigger-migrate: GRANT OPTION on *.*"),
    Drift("CREATE ROLE guests; GRANT SELECT ON {db}.users TO guests; GRANT guests TO {rw}", "SELECT on table users, through role guests", "DROP ROLE guests"),
    Drift("CREATE ROLE more; GRANT more TO {rw}; SET DEFAULT ROLE more {to} {rw}", "undeclared trigger-rw: member of role more", "DROP ROLE more"),
    Drift("CREATE PROCEDURE {db}.p() SELECT 1; GRANT EXECUTE ON PROCEDURE {db}.p TO {rw}", "EXECUTE on procedure p", "DROP PROCEDURE {db}.p"),
    Drift("ALTER USER {rw} WITH MAX_USER_CONNECTIONS 0", "missing    trigger-rw: MAX_USER_CONNECTIONS 14"),
    Drift("ALTER USER {rw} WITH MAX_QUERIES_PER_HOUR 100000", "undeclared trigger-rw: MAX_QUERIES_PER_HOUR 100000"),
    Drift("ALTER USER {rw} ACCOUNT LOCK", "missing    trigger-rw: ACCOUNT UNLOCK"),
    Drift("ALTER USER {view} ACCOUNT UNLOCK", "missing    trigger-view: ACCOUNT LOCK"),
    Drift("CREATE USER 'trigger-rw'@'localhost'", "another account 'trigger-rw'@'localhost'"),
    Drift("ALTER USER {rw} IDENTIFIED BY ''", "undeclared trigger-rw: login without a password", round=2),
    Drift("ALTER USER {rw} IDENTIFIED BY 'other'", ""),
    Drift("DROP VIEW {db}.{rows}", "missing    trigger-view: view {rows}"),
    Drift("ALTER DEFINER = {view} SQL SECURITY DEFINER VIEW {db}.{rows} AS {select} WHERE platform = 'twitch'", "view {rows}, SQL SECURITY DEFINER of trigger-view@%, CHECK OPTION NONE", round=2),
    Drift("ALTER DEFINER = {view} SQL SECURITY INVOKER VIEW {db}.{rows} AS {select} WHERE platform = 'twitch' WITH CASCADED CHECK OPTION", "SQL SECURITY INVOKER", round=3),
    Drift("ALTER DEFINER = {view} VIEW {db}.{rows} AS {select} WHERE platform = 'Twitch' WITH CASCADED CHECK OPTION", "missing    trigger-view: view {rows}", round=4),
    Drift("ALTER DEFINER = CURRENT_USER VIEW {db}.{rows} AS {select} WHERE platform = 'twitch' WITH CASCADED CHECK OPTION", "SQL SECURITY DEFINER of admin@%", round=5),
    Drift("CREATE DEFINER = {view} VIEW {db}.all_of_them AS SELECT id, platform FROM {db}.platform_integrations", "undeclared trigger-view: view all_of_them"),
    Drift("GRANT SELECT ON {db}.platform_integrations TO {rw}", "undeclared trigger-rw: SELECT on table platform_integrations"),
    Drift("GRANT SELECT (owner) ON {db}.platform_integrations TO {view}", "trigger-view: SELECT on column platform_integrations.owner"),
    Drift("REVOKE UPDATE ON {db}.{rows} FROM {rw}", "missing    trigger-rw: UPDATE on view {rows}"),
    Drift("REVOKE CREATE ON {db}.jobs FROM {migrate}", "missing    trigger-migrate: CREATE on table jobs"),
    Drift("GRANT DROP ON {db}.users TO {migrate}", "undeclared trigger-migrate: DROP on table users"),
    Drift("GRANT SELECT ON mysql.user TO {rw}", "undeclared trigger-rw: SELECT on table mysql.user"),
    Drift("GRANT SELECT ON {db}.alembic_version_connector TO {rw}", "SELECT on table alembic_version_connector"),
    Drift("INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', '{pattern}', '', 'Y'); FLUSH PRIVILEGES", "SELECT on database {db}, through a grant to ''"),
    Drift("DROP USER {migrate}", "missing    trigger-migrate: exists", round=2),
    Drift("DROP USER {view}", "missing    trigger-view: ACCOUNT LOCK", round=5),
]
MYSQL = [
    *FAMILY,
    Drift("GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO {rw}", "undeclared trigger-rw: SYSTEM_VARIABLES_ADMIN on *.*"),
    Drift("CREATE USER guest; GRANT {rw} TO guest", "trigger-rw: account 'guest'@'%' is a member of it", "DROP USER guest"),
    Drift("ALTER USER {rw} IDENTIFIED BY 'other' RETAIN CURRENT PASSWORD", "undeclared trigger-rw: a second password", round=3),
]
MARIADB = [
    *FAMILY,
    Drift("GRANT SELECT ON {db}.users TO PUBLIC", "trigger-rw: SELECT on table users, through PUBLIC"),
    Drift("GRANT SELECT (password) ON {db}.users TO PUBLIC", "SELECT on column users.password, through PUBLIC"),
    Drift("GRANT DELETE HISTORY ON {db}.users TO {rw}", "trigger-rw: DELETE HISTORY on table users"),
    Drift("ALTER USER {rw} WITH MAX_STATEMENT_TIME 100", "undeclared trigger-rw: MAX_STATEMENT_TIME 100"),
    Drift("ALTER USER {rw} IDENTIFIED VIA mysql_native_password USING PASSWORD('other') OR unix_socket", "undeclared trigger-rw: login by mysql_native_password", round=3),
]
DRIFTS = {"postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MARIADB}
REPORTED = {
    "postgresql": [],
    "mysql": [
        Drift("CREATE ROLE must; SET GLOBAL mandatory_roles = 'must'", "member of role must@%, through mandatory_roles", "SET GLOBAL mandatory_roles = ''; DROP ROLE must"),
    ],
    "mariadb": [
        Drift("CREATE DATABASE other; CREATE TABLE other.t (id int); GRANT SELECT ON other.t TO PUBLIC", "SELECT on table other.t, through PUBLIC", "REVOKE SELECT ON other.t FROM PUBLIC; DROP DATABASE other"),
    ],
}
# fmt: on


@pytest.fixture
def scene(own_server: Server) -> Iterator[Scene]:
    with account_scene(own_server) as made:
        made.ready()
        yield made


def filled(scene: Scene, text: str) -> str:
    """The text of a drift with the names of the scene."""
    if scene.engine == "postgresql":
        return text.replace("{db}", scene.database.name)
    accounts = {each: scene.sql_account(f"trigger-{each}") for each in ("rw", "migrate", "view")}
    return text.format(
        db=scene.database.name,
        pattern=scene.database.name.replace("_", r"\_"),
        rows=scene.rows_of_trigger(),
        select=f"SELECT id, platform, token, created_at, updated_at FROM {scene.database.name}.platform_integrations",
        to="FOR" if scene.engine == "mariadb" else "TO",
        **accounts,
    )


def test_drift(scene: Scene) -> None:
    """In rounds of changes that do not undo each other."""
    drifts = DRIFTS[scene.engine]
    rounds = [
        [drift for drift in drifts if drift.round == number]
        for number in sorted({each.round for each in drifts})
    ]
    for together in rounds:
        for drift in together:
            scene.as_admin(filled(scene, drift.sql))
        lines = scene.verify(TRIGGER).lines()
        unnamed = [
            drift.sql
            for drift in together
            if not any(filled(scene, drift.named) in each for each in lines or [""])
        ]
        assert not unnamed, "\n".join([*unnamed, *lines])
        applied = scene.apply(TRIGGER)
        assert applied and not [each for each in applied if "NOT DONE" in each and ", through" not in each], (
            applied
        )
        for drift in together:
            if drift.after:
                scene.as_admin(filled(scene, drift.after))
        assert scene.apply(TRIGGER) == []
    assert len(drifts) >= 20
    print(f"{len(drifts)} changes by hand on {scene.engine}")
    for service in SERVICES:
        scene.apply(service)
        assert not scene.verify(service), scene.verify(service).lines()


def test_what_apply_cannot_mend_is_said(scene: Scene) -> None:
    """It may be there for others on the server."""
    for drift in REPORTED[scene.engine]:
        scene.as_admin(filled(scene, drift.sql))
        try:
            named = filled(scene, drift.named)
            assert any(named in line for line in scene.verify(TRIGGER).lines()), scene.verify(TRIGGER).lines()
            assert any(line.startswith("NOT DONE") and named in line for line in scene.apply(TRIGGER))
        finally:
            scene.as_admin(filled(scene, drift.after))
    assert not scene.verify(TRIGGER)
