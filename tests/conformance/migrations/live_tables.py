"""What tests of migrations start from, and what they do to the tables in the database: fill, read, compare, clear."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice.schema import MANAGED_COLUMNS

from ...cli_service import CliService

ONE = 'class Users(Table, name="users"): email = Column(String(20), nullable=False, unique=True)\n'


USERS = """
class Users(Table, name="users"):
    email = Column(String(20), nullable=False, unique=True)
    nick = Column(String(20), nullable=True)
    order = Column(Enum("a", "b"), nullable=False, default="a")
    balance = Column(Numeric(12, 2), nullable=False, default="1.5")
    big = Column(Numeric(18, 2), nullable=True)
    age = Column(Integer(), nullable=True)
    about = Column(Text(), nullable=False, default="it's \\\\ é")
    settings = Column(JSON(), nullable=True, default={"a": [1.5, None, "x'"]})
    since = Column(Timestamp(), nullable=False, default="2024-01-31T13:45:00.000001Z")
"""


POSTS = """
class Posts(Table, name="posts"):
    user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)
    parent_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=True, index=True)
    title = Column(String(20), nullable=False, index=True)
"""


NOTES = """
class Notes(Table, name="notes"):
    post_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=False, index=True)
    kind = Column(Enum("x", "y"), nullable=False, default="y")
"""


BEFORE = USERS + POSTS


@contextmanager
def connected(cli_service: CliService) -> Iterator[sa.Connection]:
    engine = cli_service.backend.migrations.engine()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def names(cli_service: CliService) -> set[str]:
    with connected(cli_service) as connection:
        return set(sa.inspect(connection).get_table_names())


def fill(cli_service: CliService, count: int = 3) -> None:
    """Rows in every table, parents first; every second one has NULL where it may."""
    with connected(cli_service) as connection:
        for table in cli_service.service.tables.sorted_tables:
            for number in range(count):
                connection.execute(table.insert().values(row_of(table, number)))
        connection.commit()


def row_of(table: sa.Table, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        column_type: Any = column.type
        if column.name in MANAGED_COLUMNS[1:]:
            row[column.name] = column_type.from_json("2024-01-31T13:45:00.123456Z")
        elif column.foreign_keys:
            row[column.name] = None if column.nullable else number % 3 + 1
        elif column.name != "id":
            example = column_type.from_json(column_type.example(number))
            row[column.name] = None if column.nullable and number % 2 else example
    return row


def rows(cli_service: CliService, table: str) -> list[dict[str, Any]]:
    found = cli_service.service.tables.tables[table]
    with connected(cli_service) as connection:
        return [dict(row) for row in connection.execute(found.select().order_by(found.c.id)).mappings()]


def seen(cli_service: CliService) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(cli_service, table) for table in cli_service.service.tables.tables}


def clear(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        for table in reversed(cli_service.service.tables.sorted_tables):
            for column in table.columns:
                if any(key.column.table is table for key in column.foreign_keys):
                    connection.execute(table.update().values({column.name: None}))
            connection.execute(table.delete())
        connection.commit()


def change_things(cli_service: CliService, *statements: str) -> None:
    with connected(cli_service) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def the_checks_hold(cli_service: CliService) -> None:
    """Each enum column takes its values and no other, whoever writes."""
    for table in cli_service.service.tables.sorted_tables:
        for column in table.columns:
            column_type: Any = column.type
            if type(column_type).__name__ != "Enum":
                continue
            with connected(cli_service) as connection:
                name = cli_service.backend.dialect().identifier_preparer.quote
                update = f"UPDATE {name(table.name)} SET {name(column.name)} = "
                connection.execute(table.insert().values(row_of(table, 10) | parents(table)))
                for value in column_type.values:
                    connection.exec_driver_sql(f"{update}'{value}'")
                with pytest.raises((sa.exc.IntegrityError, sa.exc.OperationalError), match=r"(?i)check|4025"):
                    connection.exec_driver_sql(f"{update}'Z'")
                connection.rollback()


def parents(table: sa.Table) -> dict[str, Any]:
    return {column.name: 1 for column in table.columns if column.foreign_keys and not column.nullable}


def make_check_is_content(cli_service: CliService) -> None:
    for words in (["format", "--check"], ["check"]):
        command = [str(Path(sys.executable).with_name("ruff")), *words, "--no-cache", "."]
        found = subprocess.run(command, capture_output=True, text=True, cwd=cli_service.versions)
        assert found.returncode == 0, found.stdout
