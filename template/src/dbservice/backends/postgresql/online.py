"""Alembic on PostgreSQL: a table that is in use is changed in steps that block nobody for longer than a moment.

An index and a unique constraint are built CONCURRENTLY, a foreign key and a CHECK are added NOT VALID and then validated, and
a column becomes required by way of such a CHECK. These steps run outside of the revision's transaction, which is committed
before them; they can be run again. What was committed is recorded in a journal, so that a revision that is interrupted
continues there. Decision 30."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import exc

from ..interface import UNCHECKED
from ..online import OnlineImpl
from .concurrent_index import ConcurrentIndexImpl
from .rules import RULES
from .session import identifier, set_config

_BLOCKS_NOBODY = re.compile(
    r"\s*(?:CREATE|DROP)\s.*\bCONCURRENTLY\b|\s*ALTER\s.*\bVALIDATE\s+CONSTRAINT\b", re.I | re.S
)

_CONSTRAINT = sa.text(
    "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name"
)

_REQUIRED = sa.text(
    "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column"
)


class OnlinePostgreSQLImpl(OnlineImpl, ConcurrentIndexImpl):
    __dialect__ = "postgresql"

    copying_stops = "nobody can read or write it"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._recorded: set[str] | None = None  # None: the journal has not been read yet
        self._executed: Counter[str] = Counter()
        self._uncommitted: list[tuple[str, str]] = []
        self._recording = True

    # --- operations

    def create_index(self, index: sa.Index, **options: Any) -> None:
        if self._in_transaction(index.table):
            index.dialect_options["postgresql"]["concurrently"] = True
            with self.outside_transaction():
                self._create_concurrently(index, **options)
        else:
            super().create_index(index, **options)

    def add_constraint(self, const: Any, **options: Any) -> None:
        plain = any(each is not None for each in (const.deferrable, const.initially))
        if not self._in_transaction(const.table) or plain:
            super().add_constraint(const, **options)
        elif isinstance(const, sa.UniqueConstraint):
            self._add_unique(const)
        elif isinstance(const, sa.ForeignKeyConstraint | sa.CheckConstraint):
            const.dialect_options["postgresql"]["not_valid"] = True
            name = self._name_of(const)
            if self._is_validated(const.table.name, name) is None:
                self._recording = False  # it is there or not, and no record says otherwise
                try:
                    super().add_constraint(const, **options)
                finally:
                    self._recording = True
            with self.outside_transaction():
                self._validate(const.table.name, name)
        else:
            super().add_constraint(const, **options)

    def alter_column(
        self,
        table_name: str,
        column_name: str,
        *,
        nullable: bool | None = None,
        name: str | None = None,
        type_: Any = None,
        existing_type: Any = None,
        existing_nullable: bool | None = None,
        **change: Any,
    ) -> None:
        existing = {"existing_type": existing_type, "existing_nullable": existing_nullable}
        in_use = self._in_transaction(table_name)
        if in_use and type_ is not None and RULES.copies_on_type(existing_type, type_):
            declared = type_.compile(dialect=self.dialect)
            self.check_copy(
                table_name, f"ALTER TABLE {table_name} ALTER COLUMN {column_name} TYPE {declared}"
            )
        required = in_use and nullable is False and existing_nullable is not False
        super().alter_column(
            table_name, column_name, nullable=None if required else nullable, name=name, type_=type_, **existing, **change
        )  # fmt: skip
        if required:
            self._make_required(table_name, name or column_name)

    def _create_concurrently(self, index: sa.Index, **options: Any) -> None:
        assert index.table is not None
        # the session of a pooler may have another search_path than the transaction before had
        index.table.schema = self._schema
        try:
            super().create_index(index, **options)
        except exc.IntegrityError:
            self._drop_invalid(str(index.name), index.table.name)  # it would refuse rows from now on
            raise

    def _add_unique(self, const: sa.UniqueConstraint) -> None:
        name, table = self._name_of(const), const.table.name
        options = {f"postgresql_{key}": value for key, value in const.dialect_options["postgresql"].items()}
        columns: list[sa.Column[Any]] = [sa.Column(each.name) for each in const.columns]
        copy = sa.Table(table, sa.MetaData(), *columns)
        index = sa.Index(name, *copy.columns, unique=True, postgresql_concurrently=True, **options)
        with self.outside_transaction():
            if self._is_validated(table, name) is None:
                self._create_concurrently(index)
                quoted = identifier(name)
                self._step(
                    f"ALTER TABLE {self._qualified(table)} ADD CONSTRAINT {quoted} UNIQUE USING INDEX {quoted}"
                )

    def _make_required(self, table: str, column: str) -> None:
        quoted, check = self._qualified(table), f"nn_{table}_{column}"[:63]
        with self.outside_transaction():
            if not self._ask(_REQUIRED, table=quoted, column=column):
                if self._is_validated(table, check) is None:
                    self._step(
                        f"ALTER TABLE {quoted} ADD CONSTRAINT {identifier(check)} CHECK ({identifier(column)} IS NOT NULL)"
                        " NOT VALID"
                    )
                self._validate(table, check)
                self._step(f"ALTER TABLE {quoted} ALTER COLUMN {identifier(column)} SET NOT NULL")
            self._step(f"ALTER TABLE {quoted} DROP CONSTRAINT IF EXISTS {identifier(check)}")

    def _validate(self, table: str, name: str) -> None:
        """Check the rows that were there before the constraint. Where one violates it, the constraint is dropped."""
        try:
            self._step(f"ALTER TABLE {self._qualified(table)} VALIDATE CONSTRAINT {identifier(name)}")
        except exc.IntegrityError:
            self._step(f"ALTER TABLE {self._qualified(table)} DROP CONSTRAINT {identifier(name)}")
            raise

    # --- steps outside of the transaction

    @property
    def schema_of_steps(self) -> str | None:
        return self._schema or None

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        """Commit what the revision has done so far, and run the block in autocommit. Its statements must be able to run
        again."""
        self._record()
        assert self.connection is not None
        self.connection.info["qualified"] = True
        try:
            with op.get_context().autocommit_block():
                yield
        finally:
            del self.connection.info["qualified"]

    def _step(self, sql: str) -> None:
        self._exec(sa.text(sql.replace(":", "\\:")))

    def _in_transaction(self, table: Any) -> bool:
        """Whether `table` is in use, and the revision does not run outside of a transaction by its own wish."""
        return self.is_in_use(table) and not self._autocommit

    @property
    def _autocommit(self) -> bool:
        if self.connection is None:
            return False
        driver: Any = self.connection.connection.dbapi_connection
        return bool(driver.autocommit)

    def _is_validated(self, table: str, name: str) -> bool | None:
        """Whether a constraint is valid; None if it does not exist."""
        found = self._ask(_CONSTRAINT, table=self._qualified(table), name=name)
        return None if found is None else bool(found)

    def _ask(self, question: sa.TextClause, **values: str) -> Any:
        return None if self.connection is None else self.connection.scalar(question, values)

    def _qualified(self, table: str) -> str:
        return f"{identifier(self._schema)}.{identifier(table)}" if self._schema else identifier(table)

    def _name_of(self, const: sa.Constraint) -> str:
        return str(self.dialect.identifier_preparer.format_constraint(const, _alembic_quote=False))

    def table_size(self, table: str) -> int:
        return int(self._ask(_SIZE, table=self._qualified(table)) or 0)

    # --- the journal

    def _exec(
        self, construct: Any, execution_options: Any = None, multiparams: Any = None, params: Any = None
    ) -> Any:
        def execute() -> Any:
            return super(OnlinePostgreSQLImpl, self)._exec(
                construct, execution_options, multiparams, params or {}
            )

        if self.as_sql or self.connection is None:
            return execute()
        compiled = (sa.text(construct) if isinstance(construct, str) else construct).compile(
            dialect=self.dialect
        )
        text = str(compiled)
        if self._autocommit:
            self._set_lock_timeout(text)
            return execute()
        if not self._recording:
            return execute()
        if getattr(getattr(construct, "table", None), "name", None) == self.version_table:
            self._forget()
            return execute()
        values = None if isinstance(construct, sa.schema.ExecutableDDLElement) else compiled.params
        key = hashlib.sha256(repr((text, values, multiparams, params)).encode()).hexdigest()[:50]
        self._executed[key] += 1  # a revision may contain the same statement twice
        key = f"{key} {self._executed[key]}"
        if key in self._journal():
            return None
        result = execute()
        self._uncommitted.append((key, text))
        return result

    def is_interrupted(self) -> bool:
        """Whether a journal records statements of a revision that is not complete."""
        assert self.connection is not None
        self.connection.rollback()
        found = sa.inspect(self.connection).has_table(self.journal_table)
        self.connection.rollback()
        return found

    def _journal(self) -> set[str]:
        if self._recorded is None:
            assert self.connection is not None
            self._recorded = set()
            if sa.inspect(self.connection).has_table(self.journal_table):
                self._recorded = {row.id for row in self._write("SELECT id FROM {}")}
                self._has_journal = True
        return self._recorded

    _has_journal = False

    @property
    def _schema(self) -> str:
        if not self.known_schema and self.connection is not None:
            self.known_schema = str(self.connection.scalar(sa.text("SELECT current_schema()")))
        return self.known_schema

    def _record(self) -> None:
        """Write down what the transaction has done, which is committed next."""
        self._schema  # noqa: B018 - the session after the commit may have another one
        if not self._uncommitted or self.connection is None:
            return
        if not self._has_journal:
            self._write("CREATE TABLE {} (id VARCHAR(64) PRIMARY KEY, statement TEXT NOT NULL)")
        for key, text in self._uncommitted:
            self._write("INSERT INTO {} VALUES (%s, %s)", key, " ".join(text.split()))
        self._has_journal = True
        self._journal().update(key for key, _ in self._uncommitted)
        self._uncommitted.clear()

    def _forget(self) -> None:
        """Drop the journal: the revision is complete when its version is written, in the same transaction."""
        self._journal()
        if self._has_journal:
            self._write("DROP TABLE {}")
        self._recorded, self._has_journal = set(), False
        self._executed.clear()
        self._uncommitted.clear()

    def _write(self, sql: str, *values: str) -> sa.CursorResult[Any]:
        assert self.connection is not None
        return self.connection.exec_driver_sql(
            sql.format(self.journal), values or None, execution_options=UNCHECKED
        )

    def _set_lock_timeout(self, sql: str) -> None:
        """Wait for long where nobody queues behind the statement, and else for a moment."""
        assert self.connection is not None
        info = self.connection.info
        wanted = info.get("patience" if _BLOCKS_NOBODY.match(sql) else "lock_timeout")
        if wanted is not None and info.get("is lock_timeout") != wanted:
            self.connection.exec_driver_sql(set_config({"lock_timeout": wanted}), execution_options=UNCHECKED)
            info["is lock_timeout"] = wanted


_SIZE = sa.text("SELECT pg_total_relation_size(to_regclass(:table))")
