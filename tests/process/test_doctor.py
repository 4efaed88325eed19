"""`doctor` on a service that is well, and on broken ones: it names the cause of each, and what follows from it is not blamed."""

import datetime as dt
import json
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest

from dbservice import cli, migrations
from dbservice.backends.diagnosis import Connections
from dbservice.doctor import cache, checks, pool
from dbservice.doctor.report import Status
from dbservice.settings import VARIABLES, Settings
from dbservice.testing.servers import Server
from dbservice.testing.servers.redis import Redis

from ..cli_service import CliService, CommandLine

TABLES = 'class Users(Table, name="users"): email = Column(String(20))\n'
SECRETS = {"DB_PASS": "geheim-Pässwort/1", "MIGRATE_DB_PASS": "geheim von migrate"}
ACCOUNTS = {"DB_USER": "demo-rw", "MIGRATE_DB_USER": "demo-migrate", "DB_SINGLE_ACCOUNT": "false"}
DB_AND_HOST = ("dns", "connection", "tls", "account", "migration account", "revision", "pool", "clock")

Findings = dict[str, dict[str, str]]
Doctor = Callable[..., Findings]
Installed = tuple[CliService, dict[str, str]]


@pytest.fixture(scope="module")
def installed(_own_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A service on a server, with its accounts and its tables; and the environment of its administrator."""
    _own_server.start()
    database = _own_server.create_database()
    with pytest.MonkeyPatch.context() as patched:
        service = CliService(tmp_path_factory.mktemp("doctor") / "demo", database, patched)
        service.tables(TABLES)
        service.revision("first")
        admin = {"ADMIN_DB_USER": _own_server.user, "ADMIN_DB_PASS": _own_server.password}
        for words in (("grants", "--apply"), ("migrate",)):
            command(service, *words, **ACCOUNTS, **SECRETS, **admin)
        yield service, admin
    _own_server.drop_database(database)
    for account in ("demo-rw", "demo-migrate"):
        drop = f'DROP ROLE "{account}"' if _own_server.type == "postgresql" else f"DROP USER '{account}'@'%'"
        _own_server.query(drop)


@pytest.fixture
def doctor(
    installed: Installed,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    run = CommandLine(installed[0], monkeypatch, capsys)
    return lambda **environ: diagnosis(run, **{**ACCOUNTS, **SECRETS, **environ})


def diagnosis(run: CommandLine, **environ: str) -> Findings:
    """What `doctor` says, by name of the check, without a secret, and with what to do about each failure."""
    code, out, err = run("doctor", "--json", **environ)
    assert err == ""
    assert not [value for name, value in environ.items() if "PASS" in name and value and value in out]
    found = json.loads(out)
    failed = [each for each in found["checks"] if each["status"] == "failed"]
    assert found["ok"] == (code == 0) == (not failed)
    told = re.compile(r"\brun\b|\bRun\b|\bdeploy\b")
    assert all(each["advice"] or told.search(each["text"]) for each in failed), failed
    return {each["check"]: each for each in found["checks"]}


def statuses(found: Findings) -> dict[str, str]:
    return {name: each["status"] for name, each in found.items() if each["status"] != "ok"}


@dataclass
class Broken:
    """What is wrong, and what is to be read of it."""

    check: str
    words: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """The other checks that fail for the same reason."""


NO_CONNECTION = ("tls", "account", "revision", "pool", "clock")
UNREACHABLE = ("connection", "migration account", *NO_CONNECTION)
BROKEN = {
    "a wrong value": Broken("settings", ("DB_POOL_SIZE",), {"DB_POOL_SIZE": "many"}, DB_AND_HOST),
    "an unknown host": Broken(
        "dns",
        ("DB_HOST: no.such.host.invalid has no address",),
        {"DB_HOST": "no.such.host.invalid"},
        UNREACHABLE,
    ),
    "a closed port": Broken("connection", ("refused", "DB_PORT"), {"DB_PORT": "1"}, UNREACHABLE[1:]),
    "a wrong password": Broken(
        "connection", ("demo-rw or its password is refused", "DB_PASS"), {"DB_PASS": "falsch"}, NO_CONNECTION
    ),
    "a wrong name of the database": Broken(
        "connection",
        ("there is no database", "DB_NAME"),
        {"DB_NAME": "nowhere"},
        NO_CONNECTION,
        ("migration account",),
    ),
    "a wrong password of migrations": Broken(
        "migration account",
        ("demo-migrate or its password is refused", "MIGRATE_DB_PASS"),
        {"MIGRATE_DB_PASS": "falsch"},
    ),
    "the wrong account": Broken(
        "account",
        ("that of migrations", "demo-rw"),
        {
            "DB_USER": "demo-migrate",
            "DB_PASS": SECRETS["MIGRATE_DB_PASS"],
            "MIGRATE_DB_USER": "",
            "MIGRATE_DB_PASS": "",
        },
    ),
    "too large a pool": Broken(
        "pool",
        ("1 x (DB_POOL_SIZE=900 + 2) = 902", "the server takes", "Lower DB_POOL_SIZE"),
        {"DB_POOL_SIZE": "900"},
        also=("account",),
    ),
    "a pool that its account may not fill": Broken(
        "pool",
        ("4 x (DB_POOL_SIZE=2 + 2) = 16", "the account may have 8", "grants --apply"),
        {"REPLICAS": "4"},
        also=("account",),
    ),
    "a cache that is away": Broken(
        "cache", ("127.0.0.1:1 does not answer", "CACHE_PORT"), {"CACHE_HOST": "127.0.0.1", "CACHE_PORT": "1"}
    ),
}


def test_a_service_that_is_well(doctor: Doctor, installed: Installed) -> None:
    found = doctor()
    assert statuses(found) == {"cache": "skipped", "database disk": "skipped"}
    assert found["revision"]["text"] == "0001_first, which this code was written for"
    found = doctor(**installed[1])  # as the administrator it sees all accounts
    assert "ADMIN_DB_USER" not in found["account"]["text"] and " services " in found["pool"]["text"]
    assert statuses(found) == {"cache": "skipped", "database disk": "skipped"}
    found = doctor(DB_USER="", DB_PASS="")  # in the container that migrates
    assert found["connection"]["status"] == found["migration account"]["status"] == "ok"
    assert found["account"]["text"] == "DB_USER is not set here"


@pytest.mark.parametrize("_own_server", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("name", BROKEN)
def test_it_names_the_cause(doctor: Doctor, name: str) -> None:
    broken = BROKEN[name]
    found = doctor(**broken.environ)
    said = f"{found[broken.check]['text']} {found[broken.check]['advice']}"
    assert found[broken.check]["status"] in ("failed", "warning"), found
    assert all(word in said for word in broken.words), said
    assert all(found[each]["status"] == "skipped" for each in broken.skipped), found
    others = {name for name, each in found.items() if each["status"] == "failed" and name != broken.check}
    assert others == set(broken.also)


def test_a_missing_grant(
    doctor: Doctor, installed: Installed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = installed[0]
    on = "users" if service.database.type == "postgresql" else f"`{service.database.name}`.users"
    to = '"demo-rw"' if service.database.type == "postgresql" else "'demo-rw'@'%'"
    change(installed, f"REVOKE INSERT ON {on} FROM {to}")
    found = doctor()["account"]
    assert (
        found["status"] == "failed" and "lacks INSERT on table users: run `grants --apply`" in found["text"]
    )
    code, out, err = CommandLine(service, monkeypatch, capsys)("doctor", **ACCOUNTS, **SECRETS)
    assert (code, err) == (1, "") and re.search(r"(?m)^FAILED +account .* lacks INSERT", out), out
    assert re.search(r"(?m)^ok +connection ", out) and out.endswith("demo: 1 failed.\n")
    change(installed, f"GRANT INSERT ON {on} TO {to}")
    assert doctor()["account"]["status"] == "ok"


@pytest.mark.parametrize("_own_server", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("0009", "is at revision 0009, which this code does not know: deploy the code"),
        ("0000_older", "is at revision 0000_older, this code needs 0001_first: run `make migrate` first"),
    ],
)
def test_another_revision(doctor: Doctor, installed: Installed, number: str, sentence: str) -> None:
    service = installed[0]
    first, older = service.versions / "0001_first.py", service.versions / "0000_older.py"
    text = first.read_text()
    if "older" in number:
        older.write_text("revision, down_revision = '0000_older', None\n")
        first.write_text(text.replace("down_revision = None", "down_revision = '0000_older'"))
    change(installed, f"UPDATE alembic_version_demo SET version_num = '{number}'")
    try:
        found = doctor()
        assert sentence in found["revision"]["text"]
        assert [name for name, each in found.items() if each["status"] == "failed"] == ["revision"]
    finally:
        change(installed, "UPDATE alembic_version_demo SET version_num = '0001_first'")
        older.unlink(missing_ok=True)
        first.write_text(text)


def test_a_clock_that_goes_wrong(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    late = dt.timedelta(seconds=90)
    monkeypatch.setattr(checks, "_now", lambda: dt.datetime.now(dt.UTC) - late)
    found = doctor()["clock"]
    assert found["status"] == "failed" and "the database's clock is 90." in found["text"]
    assert "ahead of that of this host" in found["text"] and "NTP" in found["advice"]


@pytest.mark.parametrize("_own_server", ["postgresql"], indirect=True)
def test_one_of_several_servers_is_away(doctor: Doctor, installed: Installed) -> None:
    port = installed[0].environ["DB_PORT"]
    for more in ({"DB_HOST": "127.0.0.1,127.0.0.1", "DB_PORT": f"1,{port}"}, {"DB_READ_PORT": "1"}):
        found = doctor(**more)
        assert statuses(found) == {"connection": "warning", "cache": "skipped", "database disk": "skipped"}
        assert "127.0.0.1" in found["connection"]["text"] and "refused" in found["connection"]["text"]
    found = doctor(DB_HOST="no.such.host.invalid,127.0.0.1")
    assert (found["dns"]["status"], found["connection"]["status"]) == ("failed", "warning")


@pytest.mark.parametrize("_own_server", ["postgresql", "mariadb"], indirect=True)
def test_a_server_without_tls(doctor: Doctor) -> None:
    found = doctor(DB_SSL_MODE="require")["tls"]
    assert found["status"] == "failed" and "DB_SSL_MODE=require, and" in found["text"]
    assert "Turn TLS on in the server" in found["advice"]


@pytest.mark.parametrize("_own_server", ["mysql"], indirect=True)
def test_an_account_that_needs_tls(doctor: Doctor, _own_server: Server) -> None:
    assert doctor(DB_SSL_MODE="require")["tls"]["text"].startswith("TLSv1")
    _own_server.query("ALTER USER 'demo-rw'@'%' REQUIRE SSL")
    found = doctor()["tls"]
    assert found["text"] == "the server takes this account with TLS only" and "DB_SSL_MODE" in found["advice"]
    _own_server.query("ALTER USER 'demo-rw'@'%' REQUIRE NONE")


@pytest.mark.engines("sqlite")
def test_a_file(cli_service: CliService, run: CommandLine) -> None:
    cli_service.tables(TABLES)
    cli_service.revision("first")
    assert "has no tables of demo yet" in diagnosis(run)["revision"]["text"]
    cli_service.upgrade()
    found = diagnosis(run)
    assert {each["status"] for each in found.values()} == {"ok", "skipped"}
    assert cli_service.database.name in found["database disk"]["text"]
    code, out, _ = run("doctor", DB_NAME="/proc/orders.db")
    assert code == 1 and "cannot write to the folder /proc" in out and "check DB_NAME" in out


@pytest.mark.engines("sqlite")
def test_the_cache_of_a_service(
    cli_service: CliService, run: CommandLine, cache_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_service.tables("")
    there = {"CACHE_HOST": "127.0.0.1", "CACHE_PORT": str(cache_server.port)}
    own = {"CACHE_USER": "demo-cache", "CACHE_PASS": "geheimes Wort"}
    admin = {"ADMIN_CACHE_USER": cache_server.user, "ADMIN_CACHE_PASS": cache_server.password}
    assert run("grants", "--apply", **there, **own, **admin)[0] == 0
    assert cache_check(run, **there, **own)["status"] == "ok"
    assert cache_check(run, **there, **own, **admin)["status"] == "ok"
    refused = cache_check(run, **there, **own | {"CACHE_PASS": "falsch"})
    assert "refuses demo-cache" in refused["text"] and "CACHE_PASS" in refused["advice"]
    monkeypatch.setattr(cache, "TIMEOUT", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        port = str(mute.getsockname()[1])
        found = cache_check(run, CACHE_HOST="127.0.0.1", CACHE_PORT=port, CACHE_SSL_MODE="disable")
    assert "does not answer: no answer in time" in found["text"]


def cache_check(run: CommandLine, **environ: str) -> dict[str, str]:
    return diagnosis(run, **environ)["cache"]


@pytest.mark.parametrize(
    ("found", "limit", "replicas", "status", "words"),
    [
        (Connections(97, 5), None, 1, Status.OK, "1 x (DB_POOL_SIZE=10 + 2) = 12"),
        (
            Connections(97, 5, 1200, 50),
            24,
            1,
            Status.WARNING,
            "50 services may open 1200 connections together, half of them outside of roll-outs; the server takes 97",
        ),
        (Connections(97, 5), None, 5, Status.WARNING, "5 x (DB_POOL_SIZE=10 + 2) = 60, twice in a roll-out"),
        (Connections(97, 5), None, 9, Status.FAILED, "= 108, twice in a roll-out; the server takes 97"),
        (Connections(97, 5), 11, 1, Status.FAILED, "the account may have 11"),
        (Connections(97, 90), 24, 1, Status.WARNING, "90 of the server's 97 connections are in use"),
    ],
)
def test_the_sum(found: Connections, limit: int | None, replicas: int, status: Status, words: str) -> None:
    finding = pool.compare(found, limit, 10, replicas, is_set=True)
    assert finding.status is status and words in finding.text
    assert bool(finding.advice) == (status is not Status.OK)


def change(installed: Installed, statement: str) -> None:
    """The administrator executes a statement in the database of the service."""
    service, admin = installed
    settings = Settings.load({**service.environ, **admin}).for_administration()
    with closing(service.service.backend(settings).connect()) as connection:
        connection.cursor().execute(statement)


def command(service: CliService, *words: str, **environ: str) -> None:
    """Run a command of it in this process, before there is a `CommandLine`."""
    handlers, terminate = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM)
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    try:
        with mock.patch.dict(os.environ, {**kept, **service.environ, **environ}, clear=True):
            assert cli.main(service.service, words) == 0
    finally:
        logging.getLogger().handlers = handlers
        signal.signal(signal.SIGTERM, terminate)


@pytest.mark.parametrize("_own_server", ["postgresql"], indirect=True)
def test_a_check_that_fails_for_an_unknown_reason_is_no_traceback(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("geheim")

    monkeypatch.setattr(migrations, "head", broken)
    found = doctor()["revision"]
    assert found["status"] == "failed" and found["text"] == "the check ended with RuntimeError"
