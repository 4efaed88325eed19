"""The account of a service in Redis or Valkey: as an ACL rule, and what a server really holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..cache.connection import load_driver
from ..errors import StartupError
from ..settings import Settings
from .declared import DeclaringService, only_reads
from .facts import Differences, Fact, compare

HASH_PLACEHOLDER = "${CACHE_PASS_SHA256}"
"""In place of the SHA-256 hash of the password, in hexadecimal digits: a server refuses it until it is replaced."""

# Without these, an account of one service could do harm to the keys of the others, or learn their names:
_NEVER = (
    *("-@dangerous", "-@admin", "-@scripting", "-@blocking"),  # FLUSHALL, KEYS, CONFIG, ACL, EVAL, ...
    *("-scan", "-randomkey", "-dbsize", "-pubsub", "-select"),  # know nothing of the patterns of keys
    "-client|tracking",  # with BCAST, it reports every key that anybody changes
)
_READ_ONLY = ("-@all", "+@read", "+@connection", *_NEVER)
_READ_WRITE = ("-@all", "+@read", "+@write", "+@connection", "+@transaction", "+@pubsub", *_NEVER)
_TIMEOUT = 5.0
_EXISTS = "exists"
_OPEN_TO_ALL = (
    "The cache's account `default` needs no password: whoever reaches the server uses it as default."
)


@dataclass(frozen=True)
class CacheAccount:
    """The account `<service>-cache`: only keys and channels `<service>:*`, only reading for a service that only reads."""

    name: str
    pattern: str
    read_only: bool

    @property
    def keys(self) -> str:
        return f"%R~{self.pattern}" if self.read_only else f"~{self.pattern}"

    @property
    def channels(self) -> tuple[str, ...]:
        return () if self.read_only else (f"&{self.pattern}",)

    @property
    def commands(self) -> tuple[str, ...]:
        return _READ_ONLY if self.read_only else _READ_WRITE

    def rule(self, password_hash: str = "") -> str:
        """The rule as ACL SETUSER takes it, which replaces the account's earlier one."""
        parts = ("reset", "on", f"#{password_hash or HASH_PLACEHOLDER}", self.keys)
        return " ".join((*parts, "resetchannels", *self.channels, *self.commands))


def declared_account(service: DeclaringService) -> CacheAccount:
    """The account that the service declares."""
    return CacheAccount(f"{service.name}-cache", f"{service.name}:*", only_reads(service))


def script(service: DeclaringService, settings: Settings) -> str:
    """The command that makes the account, or replaces its rights and password."""
    account = declared_account(service)
    return f"ACL SETUSER {account.name} {account.rule(_hash(account, settings))}\n"


def acl_file(service: DeclaringService) -> str:
    """The same for the file that `aclfile` of the server's configuration names, with HASH_PLACEHOLDER."""
    account = declared_account(service)
    return f"user {account.name} {account.rule()}\n"


def verify(service: DeclaringService, settings: Settings) -> Differences:
    """The differences between what is declared and what the server holds; none without CACHE_HOST. Looks as the administrator
    in ADMIN_CACHE_USER, since the account itself may not see its rights. Raises StartupError."""
    account = declared_account(service)
    if not settings.cache_host:
        return Differences([], [])
    if not settings.admin_cache_user:
        return Differences([], [], {account.name: "ADMIN_CACHE_USER"})
    with _administrator(settings) as administrator:
        return _differences(account, settings, administrator)


def apply(service: DeclaringService, settings: Settings) -> list[str]:
    """Make the server hold what is declared, with the password of CACHE_PASS, as the administrator in ADMIN_CACHE_USER; the
    lines that say what was changed, and what cannot be. Raises StartupError."""
    account = declared_account(service)
    with _administrator(settings) as administrator:
        found = _differences(account, settings, administrator)
        if not found:
            return []
        if not (password := _hash(account, settings)):
            return [f"NOT DONE   {account.name}: set CACHE_PASS to its password"]
        administrator.execute_command("ACL", "SETUSER", account.name, *account.rule(password).split())
        lines = [
            *(f"granted    {each}" for each in found.missing),
            *(f"revoked    {each}" for each in found.surplus),
        ]
        if [each.text for each in found.missing] == [_EXISTS]:
            lines = [f"created    {account.name}"]
        try:
            administrator.execute_command("ACL", "SAVE")
        except load_driver().ERRORS as error:
            lines.append(
                f"LATER      {account.name}: the cache forgets it when it restarts ({error}): put the line that"
                " `grants --cache` prints into its configuration"
            )
        return lines


@contextmanager
def _administrator(settings: Settings) -> Iterator[Any]:
    """A client of the administrator. Raises StartupError, also for errors of the block."""
    driver = load_driver()
    client = driver.administrator(settings, _TIMEOUT)
    try:
        yield client
    except driver.ERRORS as error:
        target = f"{settings.cache_host}:{settings.cache_port}"
        raise StartupError(
            f"Cannot use the cache {target} as {settings.admin_cache_user}: {error}"
        ) from error
    finally:
        client.close()


def _differences(account: CacheAccount, settings: Settings, administrator: Any) -> Differences:
    held = administrator.execute_command("ACL", "GETUSER", account.name)
    if held is None:
        return Differences([Fact(account.name, _EXISTS, advice=_ADVICE)], [])
    names = _texts(administrator.execute_command("ACL", "CAT"))
    categories = {each: set(_texts(administrator.execute_command("ACL", "CAT", each))) for each in names}
    anybody = administrator.execute_command("ACL", "GETUSER", "default")
    wanted = declared_facts(account, categories, _hash(account, settings))
    found = compare(wanted, held_facts(account.name, _properties(held), categories, _hash(account, settings)))
    if anybody and {"on", "nopass"} <= set(_texts(_properties(anybody)["flags"])):
        return found._replace(notes=[_OPEN_TO_ALL])
    return found


def declared_facts(
    account: CacheAccount, categories: Mapping[str, set[str]], password_hash: str
) -> list[Fact]:
    """What the account may do, where the server has these categories of commands."""
    facts = [
        Fact(account.name, "is on", advice=_ADVICE),
        _password(account.name, password_hash, password_hash),
    ]
    facts += [_pattern(account.name, each) for each in (account.keys, *account.channels)]
    return facts + _runs(account.name, account.commands, categories)


def held_facts(
    name: str, user: Mapping[str, Any], categories: Mapping[str, set[str]], password_hash: str
) -> list[Fact]:
    """The same of what ACL GETUSER answers, as a mapping."""
    flags = set(_texts(user["flags"]))
    facts = [Fact(name, "is on")] if "on" in flags else []
    if "nopass" in flags:
        facts.append(Fact(name, "needs no password", advice=_ADVICE))
    facts += [_password(name, each, password_hash) for each in _texts(user["passwords"])]
    for field in ("keys", "channels"):
        facts += [_pattern(name, each) for each in _text(user[field]).split()]
    for selector in user.get("selectors") or ():
        parts = (_text(each) for each in _properties(selector).values())
        facts.append(Fact(name, f"selector ({' '.join(filter(None, parts))})", advice=_ADVICE))
    return facts + _runs(name, _text(user["commands"]).split(), categories)


def allowed_commands(rules: Iterable[str], categories: Mapping[str, set[str]]) -> set[str]:
    """The commands that `+get -@dangerous ...` allow, in the order of the rules."""
    every = set().union(*categories.values())
    allowed: set[str] = set()
    for rule in rules:
        sign, what = rule[:1], rule[1:]
        if what == "@all":
            names = every
        elif what.startswith("@"):
            names = categories.get(what[1:], set())
        else:
            names = {each for each in every if each == what or each.startswith(f"{what}|")} or {what}
        allowed = allowed | names if sign == "+" else allowed - names
    return allowed


_ADVICE = "run the command that `grants --cache` prints"


def _runs(name: str, rules: Iterable[str], categories: Mapping[str, set[str]]) -> list[Fact]:
    allowed = sorted(allowed_commands(rules, categories))
    return [Fact(name, f"runs {each.upper().replace('|', ' ')}", advice=_ADVICE) for each in allowed]


def _pattern(name: str, pattern: str) -> Fact:
    rights, _, names = pattern.rpartition("~")
    if pattern.startswith("&"):
        return Fact(name, f"uses channels {pattern[1:]}", advice=_ADVICE)
    verb = {"%R": "reads", "%W": "writes"}.get(rights, "reads and writes")
    return Fact(name, f"{verb} keys {names}", advice=_ADVICE)


def _password(name: str, held: str, known: str) -> Fact:
    if known and held != known:
        return Fact(name, "has another password than CACHE_PASS", advice=_ADVICE)
    return Fact(name, "has the password of CACHE_PASS" if known else "has a password", advice=_ADVICE)


def _hash(account: CacheAccount, settings: Settings) -> str:
    password = settings.cache_pass.get_secret_value()
    if not password or settings.cache_user not in ("", account.name):
        return ""
    return sha256(password.encode()).hexdigest()


def _properties(answer: Sequence[Any]) -> dict[str, Any]:
    """An answer of names and values by turns, as a mapping."""
    return dict(zip(map(_text, answer[::2]), answer[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else " ".join(_texts(value))


def _texts(values: Sequence[Any]) -> list[str]:
    return [_text(each) for each in values]
