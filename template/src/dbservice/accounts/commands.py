"""The commands `grants` and `verify-access`."""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from ..backends.interface import Accounts, Backend, ErrorKind
from ..errors import StartupError
from ..settings import Settings
from .declared import Declared, DeclaringService, declared_of
from .facts import Differences, Fact, compare

BackendOf = Callable[[Settings], Backend]


def script(service: DeclaringService, backend: Backend) -> str:
    """The SQL that makes the accounts."""
    accounts, declared = _declared(service, backend)
    return accounts.script(declared)


def apply(service: DeclaringService, backend: Backend, backend_of: BackendOf) -> list[str]:
    """Make the server hold what is declared, as the administrator; the lines that say what was changed, and what cannot be.
    Raises StartupError."""
    accounts, declared = _declared(service, backend)
    changed: list[str] = []
    with _administrator(backend, backend_of) as connection:
        cursor = connection.cursor()

        def run(line: str, statements: Sequence[str]) -> None:
            try:
                for statement in statements:
                    _execute(backend, cursor, statement)
            except Exception as error:
                changed.append(f"NOT DONE   {line}: {_reason(backend, error)}")
            else:
                changed.append(line)

        existing = accounts.existing_accounts(cursor, declared)
        for statement in accounts.create_schema(declared):
            cursor.execute(statement)
        for account in declared.accounts:
            if account not in existing:
                run(f"created    {account}", accounts.create_account(account))
        tables = accounts.existing_tables(cursor, declared)
        found = _differences(accounts, declared, cursor, tables)
        for fact in found.missing:
            run(f"granted    {fact}", fact.statements)
        # what replaces a value (a limit, a setting, a policy) has nothing to revoke
        for fact in found.surplus:
            if fact.statements:
                run(f"revoked    {fact}", fact.statements)
            elif fact.advice:
                changed.append(f"NOT DONE   {fact}: {fact.advice}")
        for account, password in _passwords(backend.settings, declared).items():
            if not _accepts(backend, backend_of, account, password):
                _execute(backend, cursor, accounts.password_statement(connection, account, password))
                changed.append(f"set        the password of {account}")
    # those of the service itself need no second visit
    for table in (each.table for each in declared.shared if each.table not in tables):
        changed.append(f"LATER      table {table} does not exist yet: apply again when it does")
    return changed


def verify(service: DeclaringService, backend: Backend, backend_of: BackendOf) -> Differences:
    """The differences between what is declared and what the server holds, seen by the administrator if ADMIN_DB_USER names
    one, else by the service's account, which may see only itself. Raises StartupError."""
    accounts, declared = _declared(service, backend)
    with _administrator(backend, backend_of, or_own=True) as connection:
        cursor = connection.cursor()
        existing = accounts.existing_accounts(cursor, declared)
        seen = accounts.seen_accounts(cursor, declared)
        absent = [each for each in declared.accounts if each in seen and each not in existing]
        tables = accounts.existing_tables(cursor, declared)
        found = _differences(accounts, declared, cursor, tables)
    missing = [each for each in found.missing if each.account in seen and each.account not in absent]
    unseen = [each for each in declared.accounts if each not in seen]
    return Differences([Fact(each, "exists") for each in absent] + missing, found.surplus, unseen)


def declared(service: DeclaringService, backend: Backend) -> Declared:
    """What the service declares of its accounts."""
    return _declared(service, backend)[1]


def check_runtime(service: DeclaringService, backend: Backend) -> None:
    """Raises StartupError if the account of `backend` must not serve requests: it can do more than it needs, or less."""
    settings = backend.settings
    if backend.accounts is None or settings.db_single_account:
        return
    accounts, declared = _declared(service, backend)
    with closing(backend.connect(statement_timeout=backend.limits.statement)) as connection:
        cursor = connection.cursor()
        excess = "it is that of migrations" if settings.db_user == settings.migrate_db_user else ""
        if excess := excess or accounts.excess(cursor, declared):
            raise StartupError(
                f"The service does not run as {settings.db_user}: {excess}. Run it as {declared.runtime}, which `grants --apply`"
                " creates; on a server of your own set DB_SINGLE_ACCOUNT=true."
            )
        if lacks := accounts.lacks(cursor, declared, settings.db_user):
            raise StartupError(lacking(settings.db_user, lacks))


def lacking(account: str, privileges: Sequence[str]) -> str:
    """The sentence for privileges that an account lacks."""
    more = f" and {len(privileges) - 3} more privileges" if len(privileges) > 3 else ""
    return f"The account {account} lacks {', '.join(privileges[:3])}{more}: run `grants --apply`."


def check_migration(service: DeclaringService, backend: Backend) -> None:
    """Raises StartupError if the account of `backend` must not migrate: it is the run-time account."""
    if backend.accounts is None or backend.settings.db_single_account:
        return
    _, declared = _declared(service, backend)
    if backend.settings.db_user in (f"{service.name}-rw", f"{service.name}-ro"):
        raise StartupError(
            f"MIGRATE_DB_USER is {backend.settings.db_user}, the account of the running service: set it to {declared.migrate}."
        )


def lacks_after_migration(service: DeclaringService, backend: Backend, connection: Any) -> bool:
    """Whether the run-time account lacks privileges that `after_migration` grants."""
    if backend.accounts is None or backend.settings.db_single_account:
        return False
    accounts, declared = _declared(service, backend)
    cursor = connection.cursor()
    if declared.runtime not in accounts.existing_accounts(cursor, declared):
        return False
    own = replace(declared, shared=())
    return bool(accounts.lacks(cursor, own, declared.runtime)) and bool(
        accounts.after_migration(own, accounts.existing_tables(cursor, own))
    )


def after_migration(service: DeclaringService, backend: Backend, connection: Any) -> None:
    """Grant the run-time account what it may do with the service's own tables, as their owner."""
    if backend.accounts is None or backend.settings.db_single_account:
        return
    accounts, declared = _declared(service, backend)
    cursor = connection.cursor()
    for statement in accounts.after_migration(declared, accounts.existing_tables(cursor, declared)):
        cursor.execute(statement)


def as_json(differences: Differences) -> str:
    """The differences for programs."""

    def rows(facts: list[Fact]) -> list[dict[str, str]]:
        return [{"account": each.account, "what": each.text, "via": each.via} for each in facts]

    found = {
        "missing": rows(differences.missing),
        "undeclared": rows(differences.surplus),
        "not seen": differences.unseen,
    }
    return json.dumps(found, indent=2)


def _declared(service: DeclaringService, backend: Backend) -> tuple[Accounts, Declared]:
    assert backend.accounts is not None, "SQLite has no accounts"
    return backend.accounts, declared_of(service, backend.settings, backend.codec.literal)


def _differences(accounts: Accounts, declared: Declared, cursor: Any, tables: Sequence[str]) -> Differences:
    wanted = [*accounts.of_accounts(declared), *accounts.of_tables(declared, tables)]
    return compare(wanted, accounts.held(cursor, declared))


def _passwords(settings: Settings, declared: Declared) -> dict[str, str]:
    """The passwords that the environment gives to declared accounts."""
    found = {}
    if settings.db_user == declared.runtime:
        found[declared.runtime] = settings.db_pass.get_secret_value()
    if declared.migrate and settings.migrate_db_user == declared.migrate:
        found[declared.migrate] = settings.migrate_db_pass.get_secret_value()
    return {account: password for account, password in found.items() if password}


def _accepts(backend: Backend, backend_of: BackendOf, account: str, password: str) -> bool:
    """Whether the server accepts the password already."""
    settings = backend.settings.model_copy(
        update={"db_user": account, "db_pass": type(backend.settings.db_pass)(password)}
    )
    other = backend_of(settings)
    try:
        other.connect().close()
    except Exception as error:
        return other.classify_error(other.connect_error(error)) is not ErrorKind.DENIED
    return True


@contextmanager
def _administrator(backend: Backend, backend_of: BackendOf, *, or_own: bool = False) -> Iterator[Any]:
    settings = backend.settings
    if settings.admin_db_user or not or_own:
        settings = settings.for_administration()
    admin = backend_of(settings)
    try:
        connection = admin.connect()
    except Exception as error:
        sentence = admin.explain(admin.connect_error(error))
        raise StartupError(f"Cannot use {settings.target} as {settings.db_user}: {sentence}") from error
    with closing(connection):
        try:
            yield connection
        except Exception as error:
            if backend.classify_error(error) is ErrorKind.OTHER and not backend.error_details(error)[0]:
                raise
            raise StartupError(f"{settings.target}: {_reason(backend, error)}.") from error


def _execute(backend: Backend, cursor: Any, statement: str) -> None:
    for attempt in range(10):
        try:
            return cursor.execute(statement)  # type: ignore[no-any-return]
        except Exception as error:
            # PostgreSQL does not wait for another session that changes the same account or access list, but fails
            if attempt == 9 or "concurrently updated" not in str(error):
                raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
    return None


def _reason(backend: Backend, error: Exception) -> str:
    return backend.error_details(error)[1] or type(error).__name__
