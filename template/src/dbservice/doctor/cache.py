"""Whether Redis or Valkey answers, and lets the account use the service's keys."""

import asyncio
import contextlib
from typing import Any

from ..accounts.cache import verify
from ..cache.connection import load_driver
from ..settings import Settings
from .patient import Patient
from .report import Finding, failed, ok, skipped, warning

TIMEOUT = 5.0
"""Seconds for connecting and for the answer."""


def check(patient: Patient) -> Finding:
    """Ask for a key of the service, which need not exist."""
    settings = patient.settings
    if not settings.cache_host:
        return skipped("CACHE_HOST is not set: the service works without a cache")
    if not patient.has_runtime:
        return skipped("DB_USER is not set here")
    if "CACHE_HOST" in patient.nameless:
        return skipped("CACHE_HOST has no address")
    driver, target = load_driver(), f"{settings.cache_host}:{settings.cache_port}"
    try:
        asyncio.run(_ask(driver, settings, f"{patient.service.name}:doctor"))
    except driver.ERRORS as error:
        if driver.is_refusal(error) or "auth" in type(error).__name__.lower():
            return failed(
                f"the cache {target} refuses {settings.cache_user or 'the default account'}: {_words(error)}",
                "Check CACHE_USER and CACHE_PASS; `grants --cache` prints the account's rule, `grants --apply` as ADMIN_CACHE_USER"
                " sets it. Meanwhile the service works without its cache.",
            )
        return failed(
            f"the cache {target} does not answer: {_words(error)}",
            "Check that it runs, CACHE_HOST, CACHE_PORT and CACHE_SSL_MODE. Meanwhile the service works without its cache.",
        )
    different = verify(patient.service, settings) if settings.admin_cache_user else None
    if different:
        return warning(
            f"{target} answers, and the account differs from what is declared ({len(different.lines())} differences)",
            "`verify-access` lists them, `grants --apply` makes them equal.",
        )
    return ok(f"{target} lets {settings.cache_user or 'the default account'} use {patient.service.name}:*")


async def _ask(driver: Any, settings: Settings, key: str) -> None:
    commands, _ = driver.clients(settings)
    try:
        async with asyncio.timeout(TIMEOUT):
            await commands.execute_command("GET", key)
    finally:
        with contextlib.suppress(OSError):
            await commands.connection_pool.disconnect()


def _words(error: BaseException) -> str:
    """One line of what the server or the driver says, in which neither puts a password."""
    if isinstance(error, TimeoutError) or not str(error):
        return "no answer in time"
    return " ".join(str(error).split()).rstrip(".")
