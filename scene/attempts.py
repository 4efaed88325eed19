"""What each account tries on each table and on the server, and whether it is declared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dbservice.accounts.declared import VERBS, Declared, TableAccess, insert_view, row_view


class Attempt(NamedTuple):
    """What one account tries."""

    account: str
    table: str
    """Empty for what concerns no table."""
    column: str
    action: str
    statements: tuple[str, ...]
    allowed: bool
    """Whether it is declared."""


class Target(NamedTuple):
    """A table or a view, as the attempts see it."""

    name: str
    columns: tuple[str, ...]
    is_view: bool


def attempts(
    kind: str, account: str, own: Declared, others: Sequence[str], targets: Sequence[Target]
) -> Iterator[Attempt]:
    """Everything that an account of the service `own` tries; `kind` is the server's DB_TYPE, `others` the accounts of the
    other services."""
    postgresql = kind == "postgresql"
    for target in targets:
        declared = {
            verb: _declared_columns(own, account, target, verb, postgresql=postgresql) for verb in VERBS
        }
        owns = account == own.migrate and target.name in _owned(own)
        for verb, sql in _of_rows(target, postgresql).items():
            allowed = declared[verb] == {*target.columns}
            yield Attempt(account, target.name, "", verb, (sql,), allowed)
        for column in target.columns:
            for verb, sql in _of_column(target, column, postgresql).items():
                yield Attempt(account, target.name, column, verb, (sql,), column in declared[verb])
        for action, statements in _definitions(target, others[0], postgresql).items():
            allowed = owns and (postgresql or action != "GRANT")
            if action == "LOCK":  # PostgreSQL lets those lock a table who may delete its rows
                allowed = owns or bool(declared["DELETE"])
            yield Attempt(account, target.name, "", action, statements, allowed)
    for action, of_server in _of_server(others, postgresql).items():
        for sql in of_server:
            allowed = action == "CREATE" and postgresql and account == own.migrate
            yield Attempt(account, "", "", action, (sql,), allowed)


def _owned(own: Declared) -> tuple[str, ...]:
    return (*own.migrated, own.journal, own.lock_table)


def _declared_columns(
    own: Declared, account: str, target: Target, verb: str, *, postgresql: bool
) -> set[str]:
    """The columns on which the verb is declared; for DELETE all or none."""
    every = {*target.columns}
    if account == own.migrate:
        return every if target.name in _owned(own) else set()
    if target.name in own.own or (target.name == own.version_table and own.migrate and verb == "SELECT"):
        return every
    for access in own.shared:
        if verb in access.verbs and target.name == name_of(access, own, verb, postgresql=postgresql):
            return every if verb == "DELETE" else {*access.columns}
    return set()


def name_of(access: TableAccess, own: Declared, verb: str, *, postgresql: bool) -> str:
    """What the service uses of another service's table: that table, or a view of its rows."""
    if postgresql or not access.rows:
        return access.table
    return (insert_view if verb == "INSERT" else row_view)(access.table, own.package)


def _of_rows(target: Target, postgresql: bool) -> dict[str, str]:
    table = name(target.name, postgresql)
    columns = [name(each, postgresql) for each in target.columns]
    return {
        "SELECT": f"SELECT * FROM {table} LIMIT 1",
        "INSERT": f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('DEFAULT' for _ in columns)})",
        "UPDATE": f"UPDATE {table} SET {', '.join(f'{each} = DEFAULT' for each in columns)} WHERE 1 = 0",
        "DELETE": f"DELETE FROM {table} WHERE 1 = 0",
    }


def _of_column(target: Target, column: str, postgresql: bool) -> dict[str, str]:
    table, quoted = name(target.name, postgresql), name(column, postgresql)
    return {
        "SELECT": f"SELECT {quoted} FROM {table} LIMIT 1",
        "INSERT": f"INSERT INTO {table} ({quoted}) VALUES (DEFAULT)",
        "UPDATE": f"UPDATE {table} SET {quoted} = DEFAULT WHERE 1 = 0",
    }


def _definitions(target: Target, other: str, postgresql: bool) -> Mapping[str, tuple[str, ...]]:
    table, column = name(target.name, postgresql), name(target.columns[0], postgresql)
    if target.is_view:
        return {
            "ALTER": (f"ALTER VIEW {table} AS SELECT 1",),
            "DROP": (f"DROP VIEW {table}",),
            "CREATE": (f"CREATE OR REPLACE VIEW {table} AS SELECT 1",),
            "GRANT": (f"GRANT SELECT ON {table} TO '{other}'@'%'",),
            "SHOW CREATE": (f"SHOW CREATE VIEW {table}",),
        }
    common = {
        "TRUNCATE": (f"TRUNCATE TABLE {table}" + (" CASCADE" if postgresql else ""),),
        "ALTER": (f"ALTER TABLE {table} ADD COLUMN scene_column INTEGER",),
        "INDEX": (f"CREATE INDEX scene_index ON {table} ({column})",),
    }
    if not postgresql:
        return common | {
            "DROP": (f"DROP TABLE {table}",),
            "CREATE": (f"CREATE TABLE {table} (id INTEGER)",),
            "GRANT": (f"GRANT SELECT ON {table} TO '{other}'@'%'",),
        }
    return common | {
        "DROP": (f"DROP TABLE {table} CASCADE",),
        "GRANT": (f'GRANT SELECT ON {table} TO "{other}"',),
        "LOCK": (f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",),
        "TRIGGER": (
            f"CREATE TRIGGER scene BEFORE UPDATE ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ),
        "POLICY": (f"CREATE POLICY scene ON {table} USING (true)",),
        "ROW SECURITY": (f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",),
        "OWNER": (f"ALTER TABLE {table} OWNER TO CURRENT_USER",),
    }


def _of_server(others: Sequence[str], postgresql: bool) -> Mapping[str, Sequence[str]]:
    if postgresql:
        return {
            "CREATE": ["CREATE TABLE scene_table (id BIGINT)"],
            "TEMPORARY": [
                "CREATE TEMPORARY TABLE scene_table (id BIGINT)",
                "CREATE TEMPORARY VIEW scene_view AS SELECT 1",
                "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            ],
            "SET ROLE": [
                *(f'SET ROLE "{each}"' for each in others),
                f'SET SESSION AUTHORIZATION "{others[0]}"',
                "SET ROLE pg_read_all_data",
            ],
            "ROLES": [
                "CREATE ROLE scene_role",
                "ALTER ROLE CURRENT_USER CREATEDB",
                "ALTER ROLE CURRENT_USER BYPASSRLS",
                f"ALTER ROLE \"{others[0]}\" PASSWORD 'x'",
                f'GRANT "{others[0]}" TO CURRENT_USER',
                "SELECT rolpassword FROM pg_authid",
            ],
            "DATABASE": [
                "CREATE SCHEMA scene_schema",
                "CREATE DATABASE scene_database",
                "CREATE FOREIGN DATA WRAPPER scene_wrapper",
                "CREATE PUBLICATION scene_publication FOR ALL TABLES",
                "CREATE EVENT TRIGGER scene ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            ],
            "FILES": [
                "COPY (SELECT 1) TO '/tmp/scene_file'",
                "COPY (SELECT 1) TO PROGRAM 'true'",
                "SELECT pg_read_file('PG_VERSION')",
                "SELECT pg_ls_dir('.')",
                "SELECT lo_import('/etc/hostname')",
                "LOAD 'auto_explain'",
            ],
            "SETTINGS": [
                "SET session_replication_role = 'replica'",
                "SET log_min_error_statement = 'debug5'",
                "SET log_statement = 'none'",
                "SELECT set_config('session_preload_libraries', 'x', false)",
                "SET dynamic_library_path = '/tmp'",
                "ALTER SYSTEM SET work_mem = '1MB'",
                "SELECT pg_reload_conf()",
            ],
        }
    return {
        "CREATE": ["CREATE TABLE scene_table (id BIGINT)", "CREATE VIEW scene_view AS SELECT 1"],
        "TEMPORARY": ["CREATE TEMPORARY TABLE scene_table (id BIGINT)"],
        "SET ROLE": [
            *(f"SET ROLE '{each}'" for each in others),
            f"GRANT PROXY ON '{others[0]}'@'%' TO CURRENT_USER()",
            f"CREATE DEFINER = '{others[0]}'@'%' VIEW scene_view AS SELECT 1",
        ],
        "ROLES": [
            "CREATE USER scene_user",
            "CREATE ROLE scene_role",
            f"DROP USER '{others[0]}'@'%'",
            f"SET PASSWORD FOR '{others[0]}'@'%' = 'x'",
            "GRANT ALL ON *.* TO CURRENT_USER()",
            "SELECT * FROM mysql.user",
            "SELECT * FROM mysql.db",
        ],
        "DATABASE": [
            "CREATE DATABASE scene_database",
            "CREATE PROCEDURE scene_procedure() SELECT 1",
            "CREATE EVENT scene_event ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            "INSTALL PLUGIN scene SONAME 'scene.so'",
            "FLUSH TABLES",
            "FLUSH TABLES WITH READ LOCK",
            "SHOW ENGINE INNODB STATUS",
        ],
        "FILES": [
            "SELECT 1 INTO OUTFILE '/tmp/scene_file'",
            "SELECT 1 INTO DUMPFILE '/tmp/scene_file'",
            "LOAD DATA INFILE '/etc/hostname' INTO TABLE alembic_version_connector",
        ],
        "SETTINGS": [
            "SET GLOBAL general_log = 1",
            "SET GLOBAL max_connections = 1",
            "SET GLOBAL local_infile = 1",
            "SET SESSION sql_log_bin = 0",
        ],
    }


def name(identifier: str, postgresql: bool) -> str:
    mark = '"' if postgresql else "`"
    return mark + identifier.replace(mark, mark * 2) + mark
