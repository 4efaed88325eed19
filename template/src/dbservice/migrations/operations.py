"""Operations that Alembic lacks: the CHECK of an enum column, and filling a column before it becomes required."""

from alembic.operations import ops

from ..types import Default, Enum


class BackfillOp(ops.MigrateOperation):
    """An UPDATE that puts the default where a column is empty."""

    def __init__(self, table: str, column: str, default: Default) -> None:
        self.table, self.column, self.default = table, column, default


class AddCheckOp(ops.CreateCheckConstraintOp):
    """A CHECK of an enum column."""

    def __init__(self, name: str, table: str, column: str, column_type: Enum) -> None:
        super().__init__(name, table, column_type.check_constraint(column).sqltext)
        self.column, self.column_type = column, column_type

    def reverse(self) -> "DropCheckOp":
        return DropCheckOp(self)


class DropCheckOp(ops.DropConstraintOp):
    def __init__(self, added: AddCheckOp) -> None:
        super().__init__(added.constraint_name, added.table_name, type_="check", _reverse=added)
        self.added = added

    def reverse(self) -> AddCheckOp:
        return self.added
