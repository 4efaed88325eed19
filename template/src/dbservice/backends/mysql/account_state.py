"""What an account of MySQL or MariaDB is, besides its grants, and what else on the server gives or takes something."""

import re
from collections.abc import Iterator
from typing import Any

from ...accounts.declared import Declared
from ...accounts.facts import Fact
from ..sql import quoted
from .names import HOST, account_name, shown_database
from .passwords import NO_PASSWORD

_PASSWORD_PLUGINS = ("caching_sha2_password", "sha256_password", "mysql_native_password", "ed25519")


def held_attributes(account: str, created: str, *, require_ssl: bool) -> Iterator[Fact]:
    """From what SHOW CREATE USER prints for the account."""
    target = account_name(account)
    # the hash may hold any character
    text = re.sub(r"(AS|USING|PASSWORD) '(?:[^'\\]|\\.|'')*'", r"\1 ''", created, flags=re.DOTALL)
    yield Fact(account, "ACCOUNT LOCK" if " ACCOUNT LOCK" in text else "ACCOUNT UNLOCK")
    limits = dict(re.findall(r"\b(MAX_[A-Z_]+) ([\d.]+)", text))
    for limit, value in limits.items():
        # the statement of the declared one replaces it
        reset = () if limit == "MAX_USER_CONNECTIONS" else (f"ALTER USER {target} WITH {limit} 0",)
        yield Fact(account, f"{limit} {value}", statements=reset)
    # without require_ssl the service does not mind that the administrator wants it
    required = re.search(r"\bREQUIRE (SSL|X509|NONE|(?:SUBJECT|ISSUER|CIPHER) '.*')", text)
    if require_ssl and required and required[1] != "NONE":
        yield Fact(account, "REQUIRE SSL")
    if found := _login(text):
        yield Fact(account, found, statements=(f"ALTER USER {target} {NO_PASSWORD}",))
    if re.search(r"\bPASSWORD EXPIRE(?! (?:DEFAULT|NEVER|INTERVAL))", text):
        yield Fact(account, "password expired", advice="set a new password")


def _login(text: str) -> str:
    """How one can log in to the account without its one password; empty if one cannot."""
    ways = re.search(
        r"\bIDENTIFIED (?:BY|WITH|VIA) (.*?)(?= REQUIRE | WITH MAX_| PASSWORD EXPIRE| ACCOUNT |$)", text
    )
    if not ways:
        return "login without a password"
    if ways[1].startswith("PASSWORD "):  # MariaDB, of mysql_native_password
        return ""
    plugin = re.match(r"'?(\w+)", ways[1])
    if " OR " in ways[1] or not plugin or plugin[1] not in _PASSWORD_PLUGINS:
        return f"login by {ways[1].replace(' AS ', '').replace(chr(39), '')}"
    return "" if re.search(r"\b(?:AS|USING) (?:''|<secret>|0x)", ways[1]) else "login without a password"


def held_by_others(cursor: Any, account: str, *, mariadb: bool) -> Iterator[Fact]:
    """Other accounts that are, or act as, the account, and other ways to log in to it."""
    target = account_name(account)
    cursor.execute("SELECT host FROM mysql.user WHERE user = %s AND host NOT IN (%s, '')", [account, HOST])
    for (host,) in cursor.fetchall():
        other = account_name(account, host)
        text = f"another account {other}, which takes its place for connections from {host}"
        yield Fact(account, text, statements=(f"DROP USER {other}",))
    cursor.execute("SELECT user, host FROM mysql.proxies_priv WHERE proxied_user = %s", [account])
    for user, host in cursor.fetchall():
        other = account_name(user, host)
        yield Fact(
            account,
            f"account {other} may act as it (PROXY)",
            statements=(f"REVOKE PROXY ON {target} FROM {other}",),
        )
    if not mariadb:  # where an account can be a role
        cursor.execute("SELECT to_user, to_host FROM mysql.role_edges WHERE from_user = %s", [account])
        for user, host in cursor.fetchall():
            other = account_name(user, host)
            yield Fact(
                account, f"account {other} is a member of it", statements=(f"REVOKE {target} FROM {other}",)
            )
        cursor.execute(
            "SELECT 1 FROM mysql.user WHERE user = %s AND host = %s AND user_attributes->'$.additional_password' IS NOT NULL",
            [account, HOST],
        )
        if cursor.fetchone():
            discard = f"ALTER USER {target} DISCARD OLD PASSWORD"
            yield Fact(account, "a second password, the one before", statements=(discard,))


def held_definers(cursor: Any, account: str, database: str) -> Iterator[Fact]:
    """The objects in the database that act with the account's privileges for whoever uses them."""
    for kind, columns, table, schema in _DEFINED:
        cursor.execute(
            f"SELECT {columns} FROM information_schema.{table} WHERE {schema} = %s AND definer = %s",
            [database, f"{account}@{HOST}"],
        )
        for thing, kind_of_routine in cursor.fetchall():
            text = f"DEFINER of {kind or kind_of_routine.lower()} {thing}"
            advice = "who uses that acts with the account's privileges: drop it, or give it another definer"
            yield Fact(account, text, advice=advice)


def held_by_all(cursor: Any, declared: Declared) -> Iterator[Fact]:
    """What concerns every account of the server: anonymous accounts, and grants to the anonymous account, which hold for all."""
    cursor.execute(
        f"SELECT DISTINCT host FROM mysql.user WHERE user = '' AND host NOT IN ('', {quoted(HOST)})"
    )
    for (host,) in cursor.fetchall():
        anonymous = account_name("", host)
        yield Fact(
            declared.runtime,
            f"anonymous account {anonymous}, which takes its place for connections from {host}",
            advice=f"DROP USER {anonymous}, if nothing else on the server needs it",
        )
    cursor.execute("SELECT * FROM mysql.db WHERE user = ''")
    names = [each[0] for each in cursor.description]
    for row in cursor.fetchall():
        held = dict(zip(names, row, strict=True))
        verbs = [each[:-5].replace("_", " ").upper() for each, value in held.items() if value == "Y"]
        pattern = held["Db"]
        forget = f"DELETE FROM mysql.db WHERE User = '' AND Db = {quoted(pattern)} AND Host = {quoted(held['Host'])}"
        here = shown_database(pattern) == f"database {declared.database}" or pattern == declared.database
        yield Fact(
            declared.runtime,
            f"{', '.join(verbs)} on {shown_database(pattern)}",
            "through a grant to '', which holds for all accounts",
            (forget, "FLUSH PRIVILEGES") if here else (),
            "" if here else f"{forget}; FLUSH PRIVILEGES",
        )


_DEFINED = (
    ("view", "table_name, ''", "views", "table_schema"),
    ("", "routine_name, routine_type", "routines", "routine_schema"),
    ("trigger", "trigger_name, ''", "triggers", "trigger_schema"),
    ("event", "event_name, ''", "events", "event_schema"),
)
