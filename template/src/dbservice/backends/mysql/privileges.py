"""What an account of MySQL or MariaDB may do, from what SHOW GRANTS prints, which is what the server goes by."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ...accounts.facts import Fact
from .names import account_name, bare, name, shown_database

_NAME = r"`(?:[^`]|``)*`"
_TABLE_VERBS = (
    *("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER"),
    *("CREATE VIEW", "SHOW VIEW", "TRIGGER"),
)
_GRANT = re.compile(
    rf"GRANT (?P<what>.+?) ON (?:(?P<kind>PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|TABLE) )?"
    rf"(?P<object>\*\.\*|{_NAME}\.\*|{_NAME}\.{_NAME}) TO (?P<who>PUBLIC|{_NAME}(?:@{_NAME})?)(?P<rest>.*)",
    re.DOTALL,
)
_PROXY = re.compile(
    r"GRANT PROXY ON (?P<user>[`'].*?[`'])@(?P<host>[`'].*?[`']) TO (?P<who>[`'].*?[`']@[`'].*?[`']).*"
)
_ROLE = re.compile(
    rf"GRANT (?P<roles>{_NAME}(?:@{_NAME})?(?:, ?{_NAME}(?:@{_NAME})?)*) TO (?P<who>PUBLIC|{_NAME}(?:@{_NAME})?)(?P<rest>.*)"
)
_DEFAULT_ROLE = re.compile(r"SET DEFAULT ROLE (?P<role>.+) FOR (?P<who>.+)")


class Server(NamedTuple):
    """What must be known of a server to read what it prints."""

    mariadb: bool
    database: str
    views: frozenset[str]
    """The views in the database that a service reads and writes instead of a table."""
    show: Callable[[str], list[str]]
    """What SHOW GRANTS FOR an account, a role or PUBLIC, prints; for an empty name, what it prints for the session's own."""
    mandatory_roles: tuple[str, ...]


def held_privileges(server: Server, account: str, *, own: bool = False) -> Iterator[Fact]:
    """All privileges of the account, directly, through roles and through PUBLIC. `own`: the session is that account's, and
    can ask about no other."""
    reader = _Reader(server, account)
    yield from reader.read("" if own else account_name(account))
    for role in () if own else server.mandatory_roles:
        advice = f"remove {role} from the server's mandatory_roles"
        yield Fact(account, f"member of role {role}", "through mandatory_roles", advice=advice)
        yield from reader.read(role)
    if server.mariadb and not own:
        yield from reader.read("PUBLIC")


class _Reader:
    """Reads the grants of an account, and those of the roles that it is a member of, each once."""

    def __init__(self, server: Server, account: str) -> None:
        self._server, self._account = server, account
        self._read: set[str] = set()

    def read(self, grantee: str) -> Iterator[Fact]:
        """The facts of what SHOW GRANTS prints for `grantee`, a name in SQL."""
        if grantee in self._read:
            return
        self._read.add(grantee)
        # an account's own session is shown the roles that are active in it, too
        for line in self._server.show(grantee):
            if found := _GRANT.fullmatch(line):
                yield from self._of_grant(**found.groupdict())
            elif found := _PROXY.fullmatch(line):
                proxied = f"{found['user'][1:-1]}@{found['host'][1:-1]}"
                target = account_name(found["user"][1:-1], found["host"][1:-1])
                yield from self._fact(f"PROXY of account {proxied}", f"PROXY ON {target}", found["who"])
            elif found := _ROLE.fullmatch(line):
                yield from self._of_roles(
                    found["roles"], found["who"], " WITH ADMIN OPTION" in found["rest"], bool(grantee)
                )
            elif found := _DEFAULT_ROLE.fullmatch(line):
                reset = f"SET DEFAULT ROLE NONE FOR {account_name(self._account)}"
                yield Fact(self._account, f"default role {found['role'].strip('`')}", statements=(reset,))
            elif not line.startswith("REVOKE "):  # a partial revoke: less than the grants
                shown = line.partition(" IDENTIFIED ")[0]
                yield Fact(
                    self._account, f"a grant that is not understood: {shown}", advice="revoke it by hand"
                )

    def _of_roles(self, roles: str, who: str, admin: bool, follow: bool) -> Iterator[Fact]:
        for role in re.findall(rf"{_NAME}(?:@{_NAME})?", roles):
            text = f"member of role {role.replace('`', '')}" + (" with ADMIN OPTION" if admin else "")
            yield from self._fact(text, role, who)
            if follow:
                yield from self.read(role)

    def _of_grant(self, what: str, kind: str | None, object: str, who: str, rest: str) -> Iterator[Fact]:
        shown, on = self._object(kind, object)
        for verb, columns in re.findall(rf"([A-Z][A-Z_ ]*?)(?: \(((?:{_NAME}(?:, ?)?)+)\))?(?:, ?|$)", what):
            if verb == "USAGE":
                continue
            table = re.fullmatch("(?:table|view) (.*)", shown)
            if columns and table:
                for column in re.findall(_NAME, columns):
                    text = f"{verb} on column {table[1]}.{bare(column)}"
                    yield from self._fact(text, f"{verb} ({column}) ON {on}", who)
            elif verb == "ALL PRIVILEGES" and table:
                # one by one: some of them may be declared
                for each in (*_TABLE_VERBS, *(["DELETE HISTORY"] if self._server.mariadb else [])):
                    yield from self._fact(f"{each} on {shown}", f"{each} ON {on}", who)
            else:
                yield from self._fact(f"{verb} on {shown}", f"{verb} ON {on}", who)
        if re.search(r" WITH (?:.* )?GRANT OPTION", rest):
            yield from self._fact(f"GRANT OPTION on {shown}", f"GRANT OPTION ON {on}", who)

    def _object(self, kind: str | None, object: str) -> tuple[str, str]:
        """An object as facts show it, and in SQL."""
        if object == "*.*":
            return "*.*", object
        parts = re.findall(_NAME, object)
        if len(parts) == 1:
            return shown_database(bare(parts[0])), object
        database, thing = map(bare, parts)
        shown = thing if database == self._server.database else f"{database}.{thing}"
        if kind and kind != "TABLE":
            return f"{kind.lower()} {shown}", f"{kind} {object}"
        return f"{'view' if shown in self._server.views else 'table'} {shown}", object

    def _fact(self, text: str, what: str, who: str) -> Iterator[Fact]:
        """One fact; `what` is what a REVOKE names, `who` the grantee as SHOW GRANTS prints it."""
        if who == "PUBLIC":
            # what PUBLIC may do elsewhere is for all who use the server, and not this service's to take away
            here = f"{name(self._server.database)}." in what or f"ON {name(self._escaped())}." in what
            revoke = f"REVOKE {what} FROM PUBLIC"
            yield Fact(
                self._account,
                text,
                "through PUBLIC",
                (revoke,) if here else (),
                "" if here else f"all accounts of the server have it: {revoke}",
            )
        elif self._is_account(who):
            yield Fact(self._account, text, statements=(f"REVOKE {what} FROM {account_name(self._account)}",))
        else:
            role = who.replace("`", "")
            yield Fact(self._account, text, f"through role {role}", advice=f"leave the role {role}")

    def _is_account(self, who: str) -> bool:
        parts = re.split(r"(?<=[`'])@(?=[`'])", who)
        return (
            len(parts) == 2 and parts[0][1:-1].replace("``", "`") == self._account and parts[1][1:-1] == "%"
        )

    def _escaped(self) -> str:
        return re.sub(r"([\\%_])", r"\\\1", self._server.database)
