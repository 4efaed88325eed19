"""Operations that Alembic lacks: a CHECK that reads the same on every engine, filling a column before it becomes required,
and another primary key, which no revision can make."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic.operations import ops

from ..types import Default


class BackfillOp(ops.MigrateOperation):
    """An UPDATE that puts the default where a column is NULL."""

    def __init__(self, table: str, column: str, default: Default) -> None:
        self.table, self.column, self.default = table, column, default


class CreateCheckOp(ops.CreateCheckConstraintOp):
    """A CHECK, of an enum column or with a text of its own."""

    def __init__(self, name: str, table: str, check: sa.CheckConstraint) -> None:
        super().__init__(name, table, check.sqltext)
        self.check = check

    def reverse(self) -> "DropCheckOp":
        return DropCheckOp(self)


class DropCheckOp(ops.DropConstraintOp):
    """The reverse of `created`."""

    def __init__(self, created: CreateCheckOp) -> None:
        super().__init__(created.constraint_name, created.table_name, type_="check", _reverse=created)
        self.created = created

    def reverse(self) -> CreateCheckOp:
        return self.created


class AlterPrimaryKeyOp(ops.MigrateOperation):
    """A primary key with other columns: `check-migrations` reports it, `revision` refuses it."""

    def __init__(self, table_name: str, old: Sequence[str], new: Sequence[str]) -> None:
        self.table_name, self.old, self.new = table_name, old, new

    def reverse(self) -> "AlterPrimaryKeyOp":
        return AlterPrimaryKeyOp(self.table_name, self.new, self.old)
