"""The commands `grants` and `verify-access`."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from ..backends.interface import Asking, Backend
from ..errors import StartupError
from . import cache
from .apply import BackendOf, accounts_of, apply, refuse_tables_of_others, verify
from .declared import Declared, DeclaringService
from .facts import Differences, Fact

__all__ = [
    "after_migration",
    "apply",
    "as_json",
    "ask_privileges",
    "check_migration",
    "check_runtime",
    "check_tables",
    "declared",
    "lacking",
    "lacks_after_migration",
    "script",
    "verify",
    "verify_all",
]

logger = logging.getLogger(__name__)


def script(service: DeclaringService, backend: Backend, *, require_ssl: bool = False) -> str:
    """The SQL that makes the accounts."""
    accounts, declared = accounts_of(service, backend, require_ssl=require_ssl)
    return accounts.script(declared)


def declared(service: DeclaringService, backend: Backend) -> Declared:
    """What the service declares of its accounts."""
    return accounts_of(service, backend)[1]


def check_runtime(service: DeclaringService, backend: Backend) -> None:
    """Raises StartupError if the account of `backend` must not serve requests: it can do more than it needs, or less."""
    settings = backend.settings
    if backend.accounts is None or settings.db_single_account:
        return
    accounts, declared = accounts_of(service, backend)
    with closing(backend.connect(statement_timeout=backend.limits.statement)) as connection:
        cursor = connection.cursor()
        migrates = settings.db_user in (settings.migrate_db_user, declared.migrate)
        excess = "it is that of migrations" if migrates else ""
        if excess := excess or accounts.excess(cursor, declared):
            raise StartupError(
                f"The service does not run as {settings.db_user}: {excess}. Run it as {declared.runtime}, which `grants --apply`"
                " creates; on a server of your own set DB_SINGLE_ACCOUNT=true."
            )
        if lacks := accounts.lacks(cursor, declared, settings.db_user):
            raise StartupError(lacking(settings.db_user, lacks))
        needed, limit = declared.replicas * (declared.pool_size + 1), accounts.connection_limit(cursor)
        if limit is not None and needed > limit:
            raise StartupError(
                f"REPLICAS={declared.replicas} with DB_POOL_SIZE={declared.pool_size} need {needed} connections, and"
                f" {settings.db_user} may have {limit}: lower them, or run `grants --apply` with both."
            )
    if settings.db_pool_size > declared.pool_size:  # it is not set, and there are many cores
        logger.warning(
            "DB_POOL_SIZE is not set: this process has a pool of %d, but the connection limit of %s counts with %d: set it,"
            " for `grants` too",
            *(settings.db_pool_size, settings.db_user, declared.pool_size),
        )


def ask_privileges(service: DeclaringService, backend: Backend) -> Callable[[], Asking] | None:
    """What asks, with any driver, which privileges the account of `backend` lacks; None where there is one account, or none."""
    if backend.accounts is None or backend.settings.db_single_account:
        return None
    accounts, declared = accounts_of(service, backend)
    return lambda: accounts.ask_lacks(declared, backend.settings.db_user)


def lacking(account: str, privileges: Sequence[str]) -> str:
    """The sentence for privileges that an account lacks."""
    more = f" and {len(privileges) - 3} more privileges" if len(privileges) > 3 else ""
    return f"The account {account} lacks {', '.join(privileges[:3])}{more}: run `grants --apply`."


def check_migration(service: DeclaringService, backend: Backend) -> None:
    """Raises StartupError if the account of `backend` must not migrate: it is the run-time account."""
    if backend.accounts is None or backend.settings.db_single_account:
        return
    _, declared = accounts_of(service, backend)
    if backend.settings.db_user in (f"{service.name}-rw", f"{service.name}-ro"):
        raise StartupError(
            f"MIGRATE_DB_USER is {backend.settings.db_user}, the account of the running service: set it to {declared.migrate}."
        )


def check_tables(service: DeclaringService, backend: Backend) -> None:
    """Raises StartupError if a table of the service belongs to another one, as far as the account of `backend` can tell."""
    if backend.accounts is None or backend.settings.db_single_account:
        return
    accounts, declared = accounts_of(service, backend)
    with closing(backend.connect()) as connection:
        refuse_tables_of_others(accounts, declared, connection.cursor())


def lacks_after_migration(service: DeclaringService, backend: Backend, connection: Any) -> bool:
    """Whether the run-time account lacks privileges that `after_migration` grants."""
    if backend.accounts is None or backend.settings.db_single_account:
        return False
    accounts, declared = accounts_of(service, backend)
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
    accounts, declared = accounts_of(service, backend)
    cursor = connection.cursor()
    for statement in accounts.after_migration(declared, accounts.existing_tables(cursor, declared)):
        cursor.execute(statement)


def verify_all(
    service: DeclaringService, backend: Backend, backend_of: BackendOf, **options: Any
) -> tuple[Differences, list[str]]:
    """The differences that `verify` finds, with its `options`, and those of the account in the cache; and why one of the two
    servers could not be asked."""
    found, errors = Differences([], []), []
    verifications: list[Callable[[], Differences]] = [lambda: cache.verify(service, backend.settings)]
    if backend.accounts is not None:
        verifications.insert(0, lambda: verify(service, backend, backend_of, **options))
    for verification in verifications:
        try:
            found = found.with_those(verification())
        except StartupError as error:
            errors.append(str(error))
    return found, errors


def as_json(differences: Differences, errors: Sequence[str] = ()) -> str:
    """The differences for programs, and why something could not be compared."""

    def rows(facts: list[Fact]) -> list[dict[str, str]]:
        return [{"account": each.account, "what": each.text, "via": each.via} for each in facts]

    found = {
        "missing": rows(differences.missing),
        "undeclared": rows(differences.surplus),
        "not seen": [*differences.unseen],
        "notes": [*differences.notes],
        "errors": [*errors],
    }
    return json.dumps(found, indent=2)
