"""DDL of MySQL and MariaDB that differs: quoted names in a CHECK, an index for each foreign key."""

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles


@compiles(sa.CheckConstraint, "mysql", "mariadb")
def _compile_check(check: sa.CheckConstraint, compiler: Any, **options: Any) -> str:
    """The CHECK with backticks instead of double quotes, which stand around a string here and around a name elsewhere."""
    text: str = getattr(compiler, f"visit_{check.__visit_name__}")(check, **options)
    parts = re.split(r"('(?:[^']|'')*'|`(?:[^`]|``)*`)", text)
    parts[::2] = [re.sub(r'"([^"]+)"', r"`\1`", part) for part in parts[::2]]
    percent = "%%" if compiler.preparer._double_percents else "%"
    parts[1::2] = [_literal(part, percent) if part[0] == "'" else part for part in parts[1::2]]
    return "".join(parts)


def _literal(text: str, percent: str) -> str:
    # MySQL prints quotes in the strings of a CHECK with backslashes, and then cannot read them in a session without those
    value = text[1:-1].replace("''", "'").replace(percent, "%")
    return (
        text
        if re.fullmatch(r"[ -&(-\[\]-~]*", value)
        else f"CONVERT(x'{value.encode().hex()}' USING utf8mb4)"
    )


def drop_needed_index(connection: sa.Connection, table: str, index: str) -> bool:
    """Drop an index that a foreign key of `table` needs and give the foreign key one of its own, named after it, as the
    server does for a new one. False if no foreign key of the table needs it."""
    quote, inspector = connection.dialect.identifier_preparer.quote, sa.inspect(connection)
    indexes = {each["name"]: each["column_names"] for each in inspector.get_indexes(table)}
    added = [
        f"ADD INDEX {quote(key['name'])} ({', '.join(map(quote, key['constrained_columns']))})"
        for key in inspector.get_foreign_keys(table)
        if key["name"] and key["name"] not in indexes
        if key["constrained_columns"] == indexes.get(index, [])[: len(key["constrained_columns"])]
    ]
    if added:
        connection.exec_driver_sql(
            f"ALTER TABLE {quote(table)} {', '.join(added)}, DROP INDEX {quote(index)}"
        )
    return bool(added)


def drop_foreign_key_index(connection: sa.Connection, table: str, key: str) -> None:
    """Drop the index that was created for a foreign key, which is dropped already. Another foreign key may need it."""
    if key in [each["name"] for each in sa.inspect(connection).get_indexes(table)]:
        if not drop_needed_index(connection, table, key):
            quote = connection.dialect.identifier_preparer.quote
            connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP INDEX {quote(key)}")
        drop_covered_indexes(connection, table)


def drop_covered_indexes(connection: sa.Connection, table: str) -> None:
    """Drop the indexes made for foreign keys, named after them, that another index has become able to replace."""
    quote, inspector = connection.dialect.identifier_preparer.quote, sa.inspect(connection)
    names = {key["name"] for key in inspector.get_foreign_keys(table)}
    indexes = inspector.get_indexes(table)
    for each in indexes:
        columns = each["column_names"]
        others = [other["column_names"] for other in indexes if other["name"] not in names]
        if each["name"] in names and columns in [other[: len(columns)] for other in others]:
            connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP INDEX {quote(str(each['name']))}")
