"""The settings of a session on PostgreSQL."""

from collections.abc import Mapping

from ..sql import quoted


def session_settings(schema: str) -> dict[str, str]:
    """The settings of every session whose tables are in `schema`."""
    return {
        "timezone": "UTC",
        "search_path": identifier(schema),
        "standard_conforming_strings": "on",
        "default_transaction_isolation": "read committed",
        "extra_float_digits": "1",  # with less, a double is not read as it was written
        "log_parameter_max_length_on_error": "0",  # the parameters of a failed statement
    }


def set_config(settings: Mapping[str, str], *, local: bool = False) -> str:
    """SQL that changes settings of the session, or with `local` of its transaction."""
    scope = "true" if local else "false"
    calls = (f"set_config('{name}', {quoted(value)}, {scope})" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}"


def set_config_if_direct(settings: Mapping[str, str], pid: int) -> str:
    """SQL that changes settings of the session, and returns a row for each, if `pid` is the process that executes it. A pooler
    between makes the number up that it tells its client: then there is no row, and nothing is left to other clients."""
    rows = ", ".join(f"('{name}', {quoted(value)})" for name, value in settings.items())
    return f"SELECT set_config(name, value, false) FROM (VALUES {rows}) AS s (name, value) WHERE pg_backend_pid() = {pid}"


def identifier(name: str) -> str:
    """A quoted name."""
    return '"' + name.replace('"', '""') + '"'
