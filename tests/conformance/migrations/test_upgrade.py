"""Migrations go up, down and up again, build what tables.py says, and touch nothing of other services."""

from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice.errors import StartupError

from ...cli_service import CliService
from ...sample_service import metadata
from .live_tables import ONE, change_things, connected, names


def test_every_type_goes_up_down_and_up_again(cli_service: CliService) -> None:
    cli_service.use(metadata)
    first = cli_service.revision("create the tables")
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {*metadata.tables, "alembic_version_demo"}
    cli_service.migrate_to("base")
    assert names(cli_service) == {"alembic_version_demo"}
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert "text(" not in first and "VARCHAR" not in first and "schema=" not in first
    assert cli_service.revision("nothing") == "" and len(list(cli_service.versions.glob("*.py"))) == 1


def test_what_the_migrations_build_holds_what_tables_py_says(cli_service: CliService) -> None:
    """The same CHECKs, keys, defaults and orders as create_all makes."""
    cli_service.use(metadata)
    cli_service.revision()
    cli_service.upgrade()
    with connected(cli_service) as connection:
        migrated = shape(connection)
    cli_service.migrate_to("base")
    with connected(cli_service) as connection:
        metadata.create_all(connection)
        connection.commit()
        assert shape(connection) == migrated


def shape(connection: sa.Connection) -> Any:
    inspector = sa.inspect(connection)
    found = {}
    for table in metadata.tables:
        columns = {
            each["name"]: {**each, "type": repr(each["type"])} for each in inspector.get_columns(table)
        }
        found[table] = (
            columns,
            inspector.get_pk_constraint(table),
            sorted(inspector.get_foreign_keys(table), key=str),
            sorted(inspector.get_unique_constraints(table), key=str),
            sorted(inspector.get_indexes(table), key=str),
            sorted(inspector.get_check_constraints(table), key=str),
            inspector.get_table_options(table),
        )
    return found


def test_tables_of_others_are_neither_touched_nor_mentioned(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        for sql in (
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email VARCHAR(20))",
            "INSERT INTO accounts VALUES (1, 'a@b')",
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
            "INSERT INTO alembic_version VALUES ('theirs')",
            "CREATE TABLE alembic_version_other (version_num VARCHAR(32) NOT NULL)",
            "INSERT INTO alembic_version_other VALUES ('theirs')",
        ):
            connection.exec_driver_sql(sql)
        connection.commit()
    cli_service.tables(ONE)
    assert "accounts" not in cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {
        "users",
        "alembic_version_demo",
        "accounts",
        "alembic_version",
        "alembic_version_other",
    }
    cli_service.migrate_to("base")
    assert cli_service.differences() != []
    with connected(cli_service) as connection:
        assert connection.exec_driver_sql("SELECT email FROM accounts").scalar() == "a@b"
        for table in ("alembic_version", "alembic_version_other"):
            assert connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar() == "theirs"
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version_demo").scalar() == 0


def test_a_table_of_another_service_with_the_same_name_is_an_error(cli_service: CliService) -> None:
    change_things(cli_service, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    cli_service.tables(ONE)
    cli_service.revision("first")
    for _ in range(3):
        with pytest.raises(StartupError, match=r"(?i)already exists"):
            cli_service.upgrade()
    assert names(cli_service) - {"alembic_version_demo"} == {"users"}
    with connected(cli_service) as connection:
        assert [each["name"] for each in sa.inspect(connection).get_columns("users")] == ["id"]


@pytest.mark.engines("postgresql")
def test_a_schema_of_its_own_is_made(cli_service: CliService) -> None:
    cli_service.options["schema"] = "their own"
    cli_service.tables(ONE)
    cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {"users", "alembic_version_demo"}
    with closing(cli_service.database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename IN ('users', 'alembic_version_demo')"
        )
        assert cursor.fetchall() == [("their own",), ("their own",)]
    cli_service.migrate_to("base")
    cli_service.upgrade()
