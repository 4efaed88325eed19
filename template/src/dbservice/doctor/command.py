"""The command: runs every check, each within a time limit and whatever the others have found."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from ..errors import StartupError
from ..settings import FILES, Settings, SettingsError
from . import checks
from .patient import Patient, ServiceToCheck
from .report import Finding, as_json, failed, has_failed, ok, page, skipped

TIME_LIMIT = 30.0
"""Seconds for one check: each connects more than once, and names of hosts may be asked of a resolver that is away."""


def run(service: ServiceToCheck, environ: Mapping[str, str] | None = None, *, json: bool = False) -> int:
    """Print the page, or the same as JSON; 1 if something failed, else 0."""
    with _silent():
        findings = diagnose(service, os.environ if environ is None else environ)
    print((as_json if json else page)(service.name, findings))
    return 1 if has_failed(findings) else 0


def diagnose(service: ServiceToCheck, environ: Mapping[str, str]) -> list[tuple[str, Finding]]:
    """What the checks have found, by name and in their order."""
    try:
        patient = Patient(service, *_settings(environ))
    except SettingsError as error:
        why = "the settings must be right first"
        advice = "Correct these variables; .env.example has all of them, with their defaults."
        findings = [("settings", failed(str(error), advice))]
        findings += [(name, skipped(why)) for name, _ in checks.OF_SETTINGS]
        return findings + [(name, _run(check)) for name, check in checks.OF_HOST]
    findings = [("settings", _described(patient.settings))]
    findings += [(name, _run(lambda check=check: check(patient))) for name, check in checks.OF_SETTINGS]  # type: ignore[misc]
    return findings + [(name, _run(check)) for name, check in checks.OF_HOST]


def _settings(environ: Mapping[str, str]) -> tuple[Settings, bool]:
    """The settings, and whether they have the run-time account: a container that only migrates does not. Raises SettingsError."""
    if environ.get("DB_USER") or not environ.get("MIGRATE_DB_USER"):
        return Settings.load(environ), True
    settings = Settings.load({**environ, "DB_USER": "-", "DB_PASS": "-", "DB_PASS_FILE": ""})
    return settings.for_migration(), False


def _described(settings: Settings) -> Finding:
    where = f"DB_TYPE={settings.db_type}, DB_NAME={settings.db_name}"
    if settings.db_type in FILES:
        return ok(where)
    return ok(f"{settings.target}, DB_POOL_SIZE={settings.db_pool_size}, REPLICAS={settings.replicas}")


def _run(check: Callable[[], Finding]) -> Finding:
    """What a check finds; an error of any kind, and no answer, is a finding too."""
    result: Future[Finding] = Future()

    def run() -> None:
        try:
            result.set_result(check())
        except StartupError as error:
            result.set_result(failed(str(error).rstrip(".")))
        except BaseException as error:  # its text may hold anything
            result.set_result(
                failed(
                    f"the check ended with {type(error).__name__}",
                    "This is a defect of the platform: report it.",
                )
            )

    threading.Thread(target=run, name="doctor", daemon=True).start()
    try:
        return result.result(TIME_LIMIT)
    except TimeoutError:
        return failed(
            f"no answer within {TIME_LIMIT:g} seconds",
            "Something on the way swallows packets: look at firewalls and routes.",
        )


@contextmanager
def _silent() -> Iterator[None]:
    """What is worth saying is on the page."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
