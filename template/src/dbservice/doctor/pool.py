"""The sum of the connections: of this service against the limit of its account, of all services against that of the server."""

from .. import startup
from ..accounts.declared import ASSUMED_POOL_SIZE
from ..backends.diagnosis import Connections
from .patient import Patient
from .report import Finding, failed, ok, skipped, warning

BUSY = 0.8
"""The share of the server's connections that may be in use."""


def check(patient: Patient) -> Finding:
    """Whether the connections of all replicas are allowed, and whether those of all services are there."""
    diagnosis = patient.backend.diagnosis
    if diagnosis is None:
        return skipped("SQLite is a file: its connections have no limit")
    if not patient.has_runtime:
        return skipped("DB_USER is not set here")
    if not patient.connected:
        return skipped("no connection")
    settings, accounts = patient.settings, patient.backend.accounts
    found = patient.ask(diagnosis.connections)
    limit = patient.ask(accounts.connection_limit) if accounts else None
    if found.promised is None and settings.admin_db_user:
        administrator = patient.service.backend(settings.for_administration())
        found = startup.with_connection(administrator, lambda raw: diagnosis.connections(raw.cursor()))
    is_set = "db_pool_size" in settings.model_fields_set
    return compare(found, limit, settings.db_pool_size, settings.replicas, is_set=is_set)


def compare(
    found: Connections, account: int | None, pool_size: int, replicas: int, *, is_set: bool
) -> Finding:
    """What follows from the numbers; `account` is the limit of the account, None without one."""
    # each process has besides its pool the health check and a connection that cancels a statement
    process, size = (
        pool_size + 2,
        f"DB_POOL_SIZE={pool_size}" if is_set else f"the default pool of {pool_size} on this machine",
    )
    needed = replicas * process
    sentence = f"{replicas} x ({size} + 2) = {needed}, twice in a roll-out"
    smaller = (
        "Lower DB_POOL_SIZE or REPLICAS; or raise max_connections of the server, or put a pooler before it."
    )
    if needed > found.server:
        return failed(f"{sentence}; the server takes {found.server} of all services together", smaller)
    if account is not None and account < needed:
        return failed(
            f"{sentence}; the account may have {account}",
            "Lower DB_POOL_SIZE, or run `grants --apply` with the same DB_POOL_SIZE and REPLICAS, which raises the account's limit.",
        )
    if 2 * needed > found.server:
        return warning(f"{sentence}; the server takes {found.server} of all services together", smaller)
    if account is not None and account < 2 * needed:
        return warning(
            f"{sentence}; the account may have {account}",
            "Run `grants --apply` with the same DB_POOL_SIZE and REPLICAS, which raises the account's limit.",
        )
    if found.promised is not None and found.promised > 2 * found.server:
        return warning(
            f"{found.accounts} services may open {found.promised} connections together, half of them outside of roll-outs; the"
            f" server takes {found.server}",
            "When all services are busy at once, some get none: smaller pools (DB_POOL_SIZE, then `grants --apply`), a higher"
            " max_connections, or a pooler.",
        )
    if found.in_use > BUSY * found.server:
        return warning(f"{found.in_use} of the server's {found.server} connections are in use", smaller)
    limit = "" if account is None else f"; the account may have {account}"
    together = "" if found.promised is None else f", all {found.accounts} services {found.promised}"
    text = f"{sentence}{limit}{together}; the server takes {found.server} and has {found.in_use}"
    if not is_set and pool_size > ASSUMED_POOL_SIZE:
        return warning(
            text,
            f"Set DB_POOL_SIZE, for `grants` too, which counts with {ASSUMED_POOL_SIZE} where it is not set.",
        )
    return ok(text)
