"""How the script of a service's accounts begins, on each engine."""

from .declared import Declared

_HEADER = """\
-- The accounts of the service {declared.service} on {engine}, and all that they may do.
-- `python -m {declared.package} grants` prints this from tables.py and access.py, and `make grants` writes it to
-- deploy/sql/accounts.sql: nobody edits it.
--
-- An administrator runs it in the database of the service, with `{command}`: any number of times,
-- before or after the tables of this and of other services exist. It grants what is declared, revokes what is not, and sets
-- no password: {password} does.
-- `grants --apply` does all of this, and changes only what differs. `verify-access` compares the server with what is declared.
--
-- The connection limits are for DB_POOL_SIZE={declared.pool_size} and REPLICAS={declared.replicas}. With these variables set, `grants` prints others.
"""


def header(declared: Declared, *, engine: str, command: str, password: str) -> list[str]:
    """The lines of a comment: what the script is, how `command` runs it, what sets a `password`, and for which pool size and
    replicas it is."""
    return _HEADER.format(declared=declared, engine=engine, command=command, password=password).splitlines()
