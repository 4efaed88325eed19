"""What the accounts of a service are granted on MySQL and MariaDB, table by table."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...accounts.declared import VERBS, Declared, TableAccess
from ...accounts.facts import Fact
from .names import account_name, name
from .row_views import view_account, views_of

_MIGRATION_VERBS = (*VERBS, "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES")
"""On the tables of the service, by name: they may be missing, and are dropped and made again."""


@dataclass(frozen=True)
class Grant:
    """Verbs for an account on one table or view of the current database, in all columns or in some."""

    account: str
    kind: str
    table: str
    verbs: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def facts(self, *, exists: bool) -> list[Fact]:
        account = account_name(self.account)
        found = []
        for verb in self.verbs:
            if self.columns and verb != "DELETE":  # which has no columns
                found += [
                    Fact(
                        self.account,
                        f"{verb} on column {self.table}.{each}",
                        statements=(f"GRANT {verb} ({name(each)}) ON {name(self.table)} TO {account}",),
                    )
                    for each in self.columns
                ]
                continue
            statements = self._grants([verb], exists=exists)
            found.append(Fact(self.account, f"{verb} on {self.kind} {self.table}", statements=statements))
        return found

    def statements(self, *, exists: bool) -> tuple[str, ...]:
        """The same in as few statements as possible."""
        columns = ", ".join(map(name, self.columns))
        verbs = [f"{each} ({columns})" if columns and each != "DELETE" else each for each in self.verbs]
        return self._grants(verbs, exists=exists)

    def _grants(self, verbs: Sequence[str], *, exists: bool) -> tuple[str, ...]:
        on, account = f"ON {name(self.table)}", account_name(self.account)
        if exists or "CREATE" in verbs:
            return (f"GRANT {', '.join(verbs)} {on} TO {account}",)
        # the servers let only those who may create a table be granted something on a missing one
        grant = f"GRANT {', '.join(verbs)}, CREATE {on} TO {account}"
        return (grant,) if "CREATE" in self.verbs else (grant, f"REVOKE CREATE {on} FROM {account}")


def of_own(declared: Declared) -> list[Grant]:
    """On the service's own tables, whether these exist or not."""
    if not declared.migrate:
        return []
    found = []
    # the version table first: who holds that is known as this service, in each database that has one
    runtime = {declared.version_table: VERBS[:1], **dict.fromkeys(declared.own, VERBS)}
    for table in (*runtime, *declared.former, declared.journal, declared.lock_table):
        found.append(Grant(declared.migrate, "table", table, _MIGRATION_VERBS))
        if table in runtime:
            found.append(Grant(declared.runtime, "table", table, runtime[table]))
    return found


def of_references(declared: Declared) -> list[Grant]:
    """On the tables of other services that foreign keys refer to, whether these exist or not."""
    if not declared.migrate:
        return []
    return [Grant(declared.migrate, "table", table, ("REFERENCES",)) for table in declared.references]


def of_shared(declared: Declared, access: TableAccess) -> tuple[Grant, list[Grant]]:
    """On the table of another service, and on the views of its rows where there are some."""
    if not access.rows:
        return Grant(declared.runtime, "table", access.table, access.verbs, access.columns), []
    views = views_of(access.table, declared.package, inserts="INSERT" in access.verbs)
    verbs = (tuple(each for each in access.verbs if each != "INSERT"), ("INSERT",))
    return (
        Grant(view_account(declared), "table", access.table, access.verbs, access.columns),
        [Grant(declared.runtime, "view", *each) for each in zip(views, verbs[: len(views)], strict=True)],
    )
