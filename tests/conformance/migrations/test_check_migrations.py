"""The differences that `check-migrations` reports."""

import re

from ...cli_service import CliService
from .live_tables import BEFORE, connected

TYPES = (
    *("String(40)", "String(41)", "Text()", "Integer()", "BigInteger()", "Boolean()", "Numeric(12, 2)", "Numeric(12, 3)"),
    *("Numeric(40, 2)", "Float()", "Date()", "Time()", "Timestamp()", "JSON()", "Uuid()", "Binary()", 'Enum("a", "b")'),
    'Enum("a", "c")',
)  # fmt: skip


def typed(shift: int) -> str:
    columns = "; ".join(
        f"c{i} = Column({TYPES[(i + shift) % len(TYPES)]}, nullable=True)" for i in range(len(TYPES))
    )
    return f'class Values(Table, name="values"): {columns}\n'


def test_a_column_of_another_type_is_reported(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        cli_service.tables(typed(0)).tables.create_all(connection)
        connection.commit()
    assert cli_service.differences() == []
    missed = []
    for shift in range(1, len(TYPES)):
        cli_service.tables(typed(shift))
        said = "\n".join(cli_service.differences())
        for i in range(len(TYPES)):
            if f"c{i}" not in re.findall(r"c\d+", said):
                missed.append({TYPES[i], TYPES[(i + shift) % len(TYPES)]})
    same = {"Text()", "JSON()"}  # to MySQL and MariaDB both are LONGTEXT
    assert missed == ([same, same] if cli_service.database.type == "mysql" else [])


def test_the_order_of_enum_values_is_ignored(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.tables(BEFORE.replace('Enum("a", "b")', 'Enum("b", "a")'))
    assert cli_service.revision() == ""
