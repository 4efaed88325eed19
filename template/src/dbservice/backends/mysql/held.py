"""What a server of MySQL or MariaDB holds of a service's accounts, as the administrator sees it, or the account itself."""

import re
from collections.abc import Iterable
from typing import Any

import pymysql
from pymysql.constants import ER

from ...accounts.declared import Declared
from ...accounts.facts import Fact
from .account_state import held_attributes, held_by_all, held_by_others, held_definers
from .dialect import mariadb_only, mysql_only
from .names import HOST, account_name
from .privileges import Server, held_privileges
from .row_views import held_views, row_views, view_account

_DENIED = (ER.TABLEACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.ACCESS_DENIED_ERROR)


def held(cursor: Any, declared: Declared) -> list[Fact]:
    """All of it, the account that the row views run as included."""
    everything, views = _sees_everything(cursor), row_views(declared)
    server = _server(cursor, declared, mandatory_roles=everything)
    facts: list[Fact] = []
    if everything:
        facts += held_views(cursor, declared)
    for account in existing_accounts(cursor, declared):
        if account == view_account(declared) and not views:
            # after its views, which come first
            facts.append(Fact(account, "exists", statements=(f"DROP USER {account_name(account)}",)))
            continue
        facts += held_attributes(account, _created(cursor, account), require_ssl=declared.require_ssl)
        facts += held_privileges(server, account, own=not everything)
        if everything:
            facts += held_by_others(cursor, account, mariadb=server.mariadb)
        if everything and account != view_account(declared):
            facts += held_definers(cursor, account, declared.database)
    return [*facts, *(held_by_all(cursor, declared) if everything else ())]


def without_other_installations(
    facts: Iterable[Fact], declared: Declared, wanted: Iterable[Fact]
) -> list[Fact]:
    """The facts but those that the service is `wanted` to have and has in another database of the server, where it is
    installed, too: accounts are the server's, and not a database's."""
    texts = {(each.account, each.text.replace(" on view ", " on table ")) for each in wanted}
    here, elsewhere = [], []
    for each in facts:
        found = re.fullmatch(r"(\w+ on )(?:(column) (.+)\.([^.]+\.[^.]+)|table (.+)\.([^.]+))", each.text)
        if found is None:
            here.append(each)
            continue
        verb, _, of_column, column, of_table, table = found.groups()
        text = f"{verb}column {column}" if column else f"{verb}table {table}"
        elsewhere.append((of_column or of_table, each, (each.account, text) in texts))
    version = f"SELECT on table {declared.version_table}"
    installed = {
        database
        for database, each, _ in elsewhere
        if not declared.migrate or each.text == version.replace("table ", f"table {database}.")
    }
    return here + [each for database, each, usual in elsewhere if not usual or database not in installed]


def held_by_own(cursor: Any, declared: Declared) -> list[Fact]:
    """The privileges of the connection's own account, whichever it is."""
    return list(held_privileges(_server(cursor, declared), _own_account(cursor), own=True))


def other_owners(cursor: Any, declared: Declared) -> dict[str, str]:
    """The run-time accounts of other services that have INSERT on the whole of tables which this service declares as its own,
    by table; nothing if the connection may not know. Tables have no owner here, and a migration account has privileges on
    tables that its service has given up, too."""
    if not declared.own or not _sees_everything(cursor):
        return {}
    cursor.execute(
        "SELECT table_name, user FROM mysql.tables_priv WHERE db = %s AND table_name IN %s"
        " AND user LIKE '%%-rw' AND user <> %s AND FIND_IN_SET('Insert', table_priv) ORDER BY table_name",
        [declared.database, declared.own, declared.runtime],
    )
    return dict(cursor.fetchall())


def existing_accounts(cursor: Any, declared: Declared) -> list[str]:
    """Those of `seen_accounts` that exist."""
    return [each for each in seen_accounts(cursor, declared) if _created(cursor, each)]


def seen_accounts(cursor: Any, declared: Declared) -> list[str]:
    """The accounts that the connection can ask about: all of the service, or only its own."""
    if _sees_everything(cursor):
        return [*declared.accounts, view_account(declared)]
    own = _own_account(cursor)
    return [own] if own in declared.accounts else []


def is_mariadb(cursor: Any) -> bool:
    cursor.execute(f"SELECT {mysql_only('0')} {mariadb_only('1')}")
    return bool(cursor.fetchone()[0])


def _server(cursor: Any, declared: Declared, *, mandatory_roles: bool = False) -> Server:
    mariadb = is_mariadb(cursor)
    return Server(
        mariadb,
        declared.database,
        frozenset(row_views(declared)),
        lambda grantee: _shown_grants(cursor, grantee),
        _mandatory_roles(cursor) if mandatory_roles and not mariadb else (),
    )


def _own_account(cursor: Any) -> str:
    cursor.execute("SELECT CURRENT_USER()")
    return str(cursor.fetchone()[0]).rpartition("@")[0]


def _sees_everything(cursor: Any) -> bool:
    try:
        cursor.execute("SELECT 1 FROM mysql.user LIMIT 1")
    except pymysql.err.MySQLError as error:
        if error.args[0] in _DENIED:
            return False
        raise
    return True


def _created(cursor: Any, account: str) -> str:
    """What SHOW CREATE USER prints; empty for an account that does not exist."""
    try:
        cursor.execute(f"SHOW CREATE USER {account_name(account)}")
    except pymysql.err.MySQLError as error:
        if error.args[0] in (ER.CANNOT_USER, ER.PASSWORD_NO_MATCH):  # on MySQL, on MariaDB
            return ""
        raise
    return str(cursor.fetchone()[0])


def _shown_grants(cursor: Any, grantee: str) -> list[str]:
    """What SHOW GRANTS prints; nothing for a role that does not exist."""
    try:
        cursor.execute(f"SHOW GRANTS FOR {grantee}" if grantee else "SHOW GRANTS")
    except pymysql.err.MySQLError as error:
        if error.args[0] == ER.NONEXISTING_GRANT:
            return []
        raise
    return [str(row[0]) for row in cursor.fetchall()]


def _mandatory_roles(cursor: Any) -> tuple[str, ...]:
    cursor.execute("SELECT @@mandatory_roles")
    roles = []
    for each in re.findall(r"(?:[^,`']|`[^`]*`|'[^']*')+", cursor.fetchone()[0] or ""):
        user, _, host = each.strip().partition("@")
        roles.append(account_name(user.strip("`' "), host.strip("`' ") or HOST))
    return tuple(roles)
