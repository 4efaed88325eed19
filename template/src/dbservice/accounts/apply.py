"""What `grants --apply` and `verify-access` do: compare what is declared with what the server holds, on each node of a cluster
that they are told of, and change what differs."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from ..backends.interface import Accounts, Backend, ErrorKind
from ..errors import StartupError
from ..settings import Settings
from .declared import Declared, DeclaringService, declared_of
from .facts import Differences, Fact, compare

BackendOf = Callable[[Settings], Backend]
Nodes = Sequence[tuple[str, int]]
_PASSES = 5
"""To revoke one privilege may take another with it, which the next pass grants again; the last one finds nothing to do."""


def apply(
    service: DeclaringService,
    backend: Backend,
    backend_of: BackendOf,
    *,
    nodes: Nodes = (),
    require_ssl: bool = False,
) -> list[str]:
    """Make the server hold what is declared, as the administrator; the lines that say what was changed, and what cannot be.
    `nodes` are hosts and ports of a cluster, instead of DB_HOST. Raises StartupError."""
    if require_ssl and backend.settings.db_ssl_mode == "disable":
        raise StartupError(
            "--require-ssl needs DB_SSL_MODE=require or verify-full, without which the service cannot connect then."
        )
    accounts, declared = accounts_of(service, backend, require_ssl=require_ssl)
    with _connected(backend.settings.for_administration(), backend_of, nodes) as connected:
        for each in connected:
            refuse_tables_of_others(accounts, declared, each.cursor)
        mending = _Mending(accounts, declared, connected)
        for statement in accounts.create_schema(declared):
            connected[0].cursor.execute(statement)
        for _ in range(_PASSES):
            if not mending.mend():
                break
        mending.report_rest()
        for account, password in _passwords(backend.settings, declared).items():
            mending.set_password(account, password)
        tables = accounts.existing_tables(connected[0].cursor, declared)
        if skipped := accounts.not_settable(connected[0].cursor, declared):
            mending.lines.append(f"SKIPPED    {skipped}")
    # those of the service itself need no second visit
    later = [each.table for each in declared.shared if each.table not in tables]
    return mending.lines + [
        f"LATER      table {each} does not exist yet: apply again when it does" for each in later
    ]


def verify(
    service: DeclaringService,
    backend: Backend,
    backend_of: BackendOf,
    *,
    nodes: Nodes = (),
    require_ssl: bool = False,
) -> Differences:
    """The differences between what is declared and what the server holds, or each of the `nodes`, seen by the administrator if
    ADMIN_DB_USER names one, else by the service's account, which may see only itself. Raises StartupError."""
    accounts, declared = accounts_of(service, backend, require_ssl=require_ssl)
    settings = backend.settings
    settings = settings.for_administration() if settings.admin_db_user else settings
    with _connected(settings, backend_of, nodes) as connected:
        found = [(node.name if nodes else "", node.differences(accounts, declared)) for node in connected]
        seen = accounts.seen_accounts(connected[0].cursor, declared)
    missing, surplus = [], []
    for name, differences in found:
        absent = [each.account for each in differences.missing if each.text == _EXISTS]
        for fact in differences.missing:
            if fact.account in seen and (fact.text == _EXISTS or fact.account not in absent):
                missing.append(_on(name, fact))
        surplus += [_on(name, each) for each in differences.surplus]
    return Differences(
        missing, surplus, {each: "ADMIN_DB_USER" for each in declared.accounts if each not in seen}
    )


def refuse_tables_of_others(accounts: Accounts, declared: Declared, cursor: Any) -> None:
    """Raises StartupError if another service of the database owns a table that this one declares as its own."""
    for table, owner in accounts.other_owners(cursor, declared).items():
        raise StartupError(
            f"The table {table} belongs to the service {owner.rpartition('-')[0]}, by its account {owner}: rename it in"
            f" tables.py, or declare what {declared.service} may do with it in access.py."
        )


def _on(node: str, fact: Fact) -> Fact:
    return replace(fact, via=", ".join(filter(None, [fact.via, f"on {node}"]))) if node else fact


def accounts_of(
    service: DeclaringService, backend: Backend, *, require_ssl: bool = False
) -> tuple[Accounts, Declared]:
    """The accounts of the service, on an engine that has some."""
    assert backend.accounts is not None, "SQLite has no accounts"
    literal = backend.codec.literal
    return backend.accounts, declared_of(service, backend.settings, literal, require_ssl=require_ssl)


_EXISTS = "exists"


@dataclass(frozen=True)
class _Node:
    """A server, and the connection to it."""

    name: str
    backend: Backend
    backend_of: BackendOf
    connection: Any
    cursor: Any

    def differences(self, accounts: Accounts, declared: Declared) -> Differences:
        existing = accounts.existing_accounts(self.cursor, declared)
        tables = accounts.existing_tables(self.cursor, declared)
        wanted = [
            *(
                Fact(each, _EXISTS, statements=tuple(accounts.create_account(each)))
                for each in declared.accounts
            ),
            *accounts.of_accounts(declared),
            *accounts.of_tables(declared, tables),
        ]
        held = [*(Fact(each, _EXISTS) for each in declared.accounts if each in existing)]
        return compare(wanted, [*held, *accounts.held(self.cursor, declared)])

    def execute(self, statements: Sequence[str]) -> None:
        for statement in statements:
            for attempt in range(10):
                try:
                    self.cursor.execute(statement)
                    break
                except Exception as error:
                    # PostgreSQL does not wait for another session that changes the same account, but fails
                    if attempt == 9 or "concurrently updated" not in str(error):
                        raise
                    time.sleep(random.uniform(0, 0.05 * 2**attempt))

    def accepts(self, account: str, password: str) -> bool:
        """Whether the server accepts the password already."""
        settings = self.backend.settings
        other = self.backend_of(settings.with_account(account, type(settings.db_pass)(password)))
        try:
            other.connect().close()
        except Exception as error:
            return other.classify_error(other.connect_error(error)) is not ErrorKind.DENIED
        return True


class _Mending:
    """Changes what differs; what it did in `lines`."""

    def __init__(self, accounts: Accounts, declared: Declared, nodes: Sequence[_Node]) -> None:
        self.lines: list[str] = []
        self._accounts, self._declared, self._nodes = accounts, declared, nodes
        self._found: list[Differences] = []
        self._errors: dict[Fact, str] = {}

    def mend(self) -> bool:
        """Grant what is missing and revoke what is undeclared; whether anything was changed."""
        before = len(self.lines)
        self._found = found = [each.differences(self._accounts, self._declared) for each in self._nodes]
        with ExitStack() as stack:
            for node in self._nodes:
                stack.enter_context(self._accounts.administering(node.cursor, self._declared))
            self._change(found)
        return len(self.lines) > before

    def _change(self, found: Sequence[Differences]) -> None:
        for verb, facts in (
            ("granted", [each.missing for each in found]),
            ("revoked", [each.surplus for each in found]),
        ):
            for fact in dict.fromkeys(each for of_node in facts for each in of_node):
                where = [node for node, of_node in zip(self._nodes, facts, strict=True) if fact in of_node]
                created = verb == "granted" and fact.text == _EXISTS
                line = f"created    {fact.account}" if created else f"{verb:<10} {fact}"
                # surplus without a statement is a value that what is missing has replaced
                if fact.statements and (error := self._run(line, fact.statements, where)):
                    self._errors[fact] = error

    def report_rest(self) -> None:
        """Add a line for what could not be mended. (That a statement failed may not matter: another one took the same.)"""
        for found in self._found:
            for fact in (*found.missing, *found.surplus):
                reason = self._errors.get(fact, fact.advice)
                line = f"NOT DONE   {fact}: {reason}"
                if reason and line not in self.lines:
                    self.lines.append(line)

    def set_password(self, account: str, password: str) -> None:
        """Set a password where it is not accepted."""
        for _ in self._nodes[:2]:  # a cluster tells its other nodes, unless they have no part in it
            where = [each for each in self._nodes if not each.accepts(account, password)]
            if not where:
                return
            statement = self._accounts.password_statement(where[0].connection, account, password)
            if error := self._run(f"set        the password of {account}", [statement], where):
                self.lines.append(f"NOT DONE   the password of {account}: {error}")
            for node in self._nodes[1:]:  # which have heard of it when they answer this
                self._accounts.existing_accounts(node.cursor, self._declared)

    def _run(self, line: str, statements: Sequence[str], where: Sequence[_Node]) -> str:
        """Run statements for all nodes, over the first, or for each of some nodes; why one failed, or an empty string."""
        error = ""
        common = len(where) == len(self._nodes)
        for node in where[:1] if common else where:
            try:
                with nullcontext() if common else self._accounts.only_here(node.cursor):
                    node.execute(statements)
            except Exception as failed:
                error = _reason(node.backend, failed)
            else:
                self.lines.append(line if common else f"{line}, on {node.name}")
        return error


def _passwords(settings: Settings, declared: Declared) -> dict[str, str]:
    """The passwords that the environment gives to declared accounts."""
    found = {}
    if settings.db_user == declared.runtime:
        found[declared.runtime] = settings.db_pass.get_secret_value()
    if declared.migrate and settings.migrate_db_user == declared.migrate:
        found[declared.migrate] = settings.migrate_db_pass.get_secret_value()
    return {account: password for account, password in found.items() if password}


@contextmanager
def _connected(settings: Settings, backend_of: BackendOf, nodes: Nodes) -> Iterator[list[_Node]]:
    """Connections to the nodes, or to DB_HOST. Raises StartupError, also for errors of the block."""
    with ExitStack() as stack:
        connected = []
        each_node = [settings.model_copy(update={"db_host": host, "db_port": port}) for host, port in nodes]
        for each in each_node or [settings]:
            backend = backend_of(each)
            try:
                connection = stack.enter_context(closing(backend.connect()))
            except Exception as error:
                sentence = backend.explain(backend.connect_error(error))
                target = backend.settings.target
                raise StartupError(f"Cannot use {target} as {settings.db_user}: {sentence}") from error
            name = f"{each.db_host}:{each.db_port}"
            connected.append(_Node(name, backend, backend_of, connection, connection.cursor()))
        try:
            yield connected
        except Exception as error:
            backend = connected[0].backend
            if backend.classify_error(error) is ErrorKind.OTHER and not backend.error_details(error)[0]:
                raise
            raise StartupError(f"{settings.target}: {_reason(backend, error)}.") from error


def _reason(backend: Backend, error: Exception) -> str:
    return backend.error_details(error)[1] or type(error).__name__
