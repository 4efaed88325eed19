"""The checks, each a function with a finding as its answer. In the order of the page, which is that of the causes."""

import datetime as dt
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from .. import migrations, startup
from ..accounts import commands as accounts
from ..addresses import Address
from ..backends import Backend, ErrorKind
from ..settings import Settings
from . import cache, disk, pool
from .patient import Patient
from .report import Finding, failed, ok, skipped, warning

MAX_SKEW = 2.0
"""Seconds that the clocks of this host and the database may differ."""

_TLS_WORDS = ("ssl", "tls", "certificate", "encryption")

_FILE = "SQLite is a file: there is no server"


def dns(patient: Patient) -> Finding:
    """Whether each host has an address."""
    found, wrong, slow, named = [], [], [], set()
    for variable, host, port in _hosts(patient.settings):
        begun = time.monotonic()
        try:
            addresses = {str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a name"
            patient.nameless.add(variable)
            wrong.append(f"{variable}: {host} has no address ({str(reason or error).lower()})")
            continue
        named.add(variable)
        if time.monotonic() - begun > 1:
            slow.append(f"{variable}: {host} took {time.monotonic() - begun:.1f} s")
        found.append(host if addresses == {host} else f"{host} is {', '.join(sorted(addresses))}")
    patient.nameless -= named
    if wrong:
        return failed(
            "; ".join(wrong),
            "Check the spelling, and that this machine's resolver knows the name (getent hosts <name>). In compose and"
            " Kubernetes it is the name of a service.",
        )
    if slow:
        return warning("; ".join(slow), "The first servers in /etc/resolv.conf do not answer.")
    return ok("; ".join(dict.fromkeys(found))) if found else skipped(_FILE)


def connection(patient: Patient) -> Finding:
    """Whether the account can connect, to each server."""
    backend = patient.backend
    if "DB_HOST" in patient.nameless:
        patient.unreachable = "DB_HOST has no address"
        return skipped(patient.unreachable)
    begun = time.monotonic()
    try:
        patient.ask(lambda cursor: _check_health(backend, cursor))
    except Exception as error:
        patient.refusal = error
        if _is_unreachable(backend, error):
            patient.unreachable = "no connection to the server"
        return _refused(backend, error)
    milliseconds = (time.monotonic() - begun) * 1000
    patient.connected = True
    settings = patient.settings
    version = "the file" if backend.diagnosis is None else patient.ask(backend.diagnosis.version)
    away = list(_away(patient, "DB_HOST", settings.addresses)) if len(settings.addresses) > 1 else []
    if patient.has_runtime and settings.has_replica:
        away += _away(patient, "DB_READ_HOST", settings.read_addresses)
    if away:
        return warning(
            f"{version}; {'; '.join(away)}",
            "The service works without it, with less to fall back on: start it again, or correct the variable. Nothing, if it is"
            " a standby in DB_HOST.",
        )
    return ok(f"{version}, connected in {milliseconds:.0f} ms")


def tls(patient: Patient) -> Finding:
    """Whether the connection is encrypted as DB_SSL_MODE says, and needs to be."""
    settings, diagnosis = patient.settings, patient.backend.diagnosis
    if diagnosis is None:
        return skipped(_FILE)
    mode = settings.db_ssl_mode
    if patient.refusal is not None:
        said = str(patient.refusal).lower()
        if mode == "disable" and diagnosis.wants_encryption(patient.refusal) and _connects_encrypted(patient):
            return failed(
                "the server takes this account with TLS only", "Set DB_SSL_MODE=require or verify-full."
            )
        if mode != "disable" and any(word in said for word in _TLS_WORDS):
            return failed(
                f"DB_SSL_MODE={mode}, and the TLS connection failed (see connection)",
                "Turn TLS on in the server (ssl, ssl_cert and ssl_key). With verify-full, DB_SSL_CA names the authority that"
                " signed its certificate, which has the name in DB_HOST and is not expired.",
            )
    if not patient.connected:
        return skipped("no connection")
    version = patient.ask(diagnosis.encryption)
    if version and mode == "require":
        return ok(f"{version}; whose server it is, only DB_SSL_MODE=verify-full verifies")
    if version:
        return ok(f"{version}, DB_SSL_MODE={mode}")
    if all(_is_local(each.host) for each in settings.addresses):
        return ok("not encrypted, to this machine")
    return warning(
        f"not encrypted: whoever is on the way to {settings.db_host} reads along",
        "Set DB_SSL_MODE=verify-full, and DB_SSL_CA.",
    )


def account(patient: Patient) -> Finding:
    """Whether the run-time account may do what is declared, and no more."""
    backend, settings = patient.backend, patient.settings
    if backend.accounts is None:
        return skipped("SQLite has no accounts")
    if not patient.has_runtime:
        return skipped("DB_USER is not set here")
    if settings.db_single_account:
        return skipped(f"DB_SINGLE_ACCOUNT=true: {settings.db_user} may do everything")
    if not patient.connected:
        return skipped("no connection")
    accounts.check_runtime(patient.service, backend)
    found = accounts.verify(patient.service, backend, patient.service.backend)
    advice = "Run `grants --apply` as the administrator, or deploy/sql/accounts.sql; `verify-access` lists all differences."
    if found.missing:
        return failed(f"missing: {_some(map(str, found.missing))}", advice)
    if found.surplus:
        return warning(f"not declared: {_some(map(str, found.surplus))}", advice)
    unseen = f"; {', '.join(found.unseen)} only ADMIN_DB_USER sees" if found.unseen else ""
    return ok(f"{settings.db_user} has what is declared{unseen}")


def migration_account(patient: Patient) -> Finding:
    """Whether the account of `migrate` can connect, if it is known here."""
    settings = patient.settings
    if patient.backend.accounts is None:
        return skipped("SQLite has no accounts")
    if not settings.migrate_db_user:
        return skipped("MIGRATE_DB_USER is not set here")
    backend = patient.service.backend(settings.for_migration() if patient.has_runtime else settings)
    accounts.check_migration(patient.service, backend)
    if patient.unreachable:
        return skipped(patient.unreachable)
    try:
        startup.with_connection(backend, lambda raw: _check_health(backend, raw.cursor()))
    except Exception as error:
        return _refused(backend, error)
    accounts.check_tables(patient.service, backend)
    return ok(f"{backend.settings.db_user} can connect")


def revision(patient: Patient) -> Finding:
    """Whether this code can run on the tables."""
    service = patient.service
    if (head := migrations.head(service)) is None:
        return skipped(f"{service.name} owns no tables")
    if not patient.connected:
        return skipped("no connection")
    found = startup.checked_revision(service, patient.backend)
    return ok(
        f"{found}, which this code was written for"
        if found == head
        else f"{found}, newer than this code of {head}, which can run on it"
    )


def clock(patient: Patient) -> Finding:
    """Whether the clocks of this host and of the database agree."""
    diagnosis = patient.backend.diagnosis
    if diagnosis is None:
        return skipped("SQLite has the clock of this host")
    if not patient.connected:
        return skipped("no connection")

    def measure(cursor: object) -> tuple[dt.datetime, dt.datetime, dt.datetime]:
        return _now(), diagnosis.clock(cursor), _now()

    before, server, after = patient.ask(measure)
    middle, precision = before + (after - before) / 2, (after - before).total_seconds() / 2
    skew = (server - middle).total_seconds()
    if abs(skew) <= MAX_SKEW + precision:
        return ok(f"{skew:+.3f} s to the database's (+/- {precision:.3f})")
    return failed(
        f"the database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} that of this host",
        "Let both hosts keep time by NTP (chronyc tracking, timedatectl): created_at, updated_at and certificates depend on it.",
    )


OF_SETTINGS: tuple[tuple[str, Callable[[Patient], Finding]], ...] = (
    ("dns", dns),
    ("connection", connection),
    ("tls", tls),
    ("account", account),
    ("migration account", migration_account),
    ("revision", revision),
    ("pool", pool.check),
    ("clock", clock),
    ("cache", cache.check),
    ("database disk", disk.database_file),
)
"""Those that need the settings."""

OF_HOST: tuple[tuple[str, Callable[[], Finding]], ...] = (("temporary files", disk.temporary_folder),)
"""Those that need none."""


def _hosts(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """Variable, host and port of each server."""
    for host, port in settings.addresses:
        yield "DB_HOST", host, port
    for host, port in settings.read_addresses if settings.db_read_host != settings.db_host else ():
        yield "DB_READ_HOST", host, port
    if settings.cache_host:
        yield "CACHE_HOST", settings.cache_host, settings.cache_port


def _away(patient: Patient, variable: str, addresses: Sequence[Address]) -> Iterator[str]:
    """The servers of a variable that the account cannot use, each asked alone, with the reasons."""
    for host, port in addresses:
        alone = patient.service.backend(
            patient.settings.model_copy(update={"db_host": host, "db_port": str(port)})
        )
        try:
            startup.with_connection(alone, partial(_check_health_over, alone))
        except Exception as error:
            yield f"{variable}: {_refused(alone, error).text}"


def _check_health_over(backend: Backend, connection: Any) -> None:
    _check_health(backend, connection.cursor())


def _check_health(backend: Backend, cursor: object) -> None:
    cursor.execute(backend.health_statement)  # type: ignore[attr-defined]
    backend.check_health(cursor.fetchall())  # type: ignore[attr-defined]


def _refused(backend: Backend, error: Exception) -> Finding:
    """Why a connection failed, and what to do where `explain` does not say."""
    if not error.args:
        error = TimeoutError("no answer in time")
    kind, settings = backend.classify_error(error), backend.settings
    sentence = f"Cannot use {settings.target}: {backend.explain(error).rstrip('.')}"
    if _is_unreachable(backend, error):
        return failed(
            sentence,
            "Check that the server runs, that DB_HOST and DB_PORT are where it listens, and that no firewall or NetworkPolicy is"
            " between: nc -vz $DB_HOST $DB_PORT.",
        )
    advice = {
        ErrorKind.DENIED: "If both are right, the account does not exist yet, or has another password on the server: run `grants --apply`.",
        ErrorKind.MISSING: "If it is right, create the database, or let `grants --apply` give the account access to it.",
        ErrorKind.NO_SLOTS: "See pool.",
    }
    about_tls = any(word in sentence.lower() for word in _TLS_WORDS)
    return failed(
        sentence, "See tls." if about_tls else advice.get(kind, "The log of the server may say more.")
    )


def _is_unreachable(backend: Backend, error: Exception) -> bool:
    return isinstance(error, TimeoutError) or backend.classify_error(error) in (
        ErrorKind.STARTING,
        ErrorKind.LOST,
    )


def _connects_encrypted(patient: Patient) -> bool:
    backend = patient.service.backend(patient.settings.model_copy(update={"db_ssl_mode": "require"}))
    try:
        startup.with_connection(backend, lambda connection: None)
    except Exception:
        return False
    return True


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _some(texts: Iterator[str], most: int = 5) -> str:
    found = list(texts)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
