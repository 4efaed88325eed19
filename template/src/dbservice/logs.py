"""Logging: one handler for all loggers, to stderr, as text or JSON, one record per line, with the id of its request."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from .correlation import identify
from .settings import Settings

# Below WARNING these log statement parameters, which may be secrets. PyDAL uses two logger names.
QUIET = {"databases", "pydal", "pyDAL", "aiosqlite", "aiomysql", "asyncpg", "asyncio", "sqlalchemy", "redis"}
QUIET |= {"multipart", "python_multipart"}  # the bytes of a form
UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

RESERVED_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: Settings) -> None:
    """Configure logging as `settings` specify; may be called more than once."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    handler = Stderr()
    handler.setFormatter(Json() if settings.log_format == "json" else Text())
    handler.addFilter(redact_filter)
    handler.addFilter(identify)
    root = logging.getLogger()
    root.handlers = [*(each for each in root.handlers if not isinstance(each, Stderr)), handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in UVICORN:
        logger = logging.getLogger(name)
        if logger.handlers:  # set by uvicorn's own command
            logger.handlers = []
            logger.propagate = True
        logger.setLevel(level)
    logging.captureWarnings(True)


def access_log(settings: Settings) -> bool:
    """Whether requests are logged; uvicorn needs it as an option when it has `log_config=None`."""
    return settings.log_level in ("debug", "info")


def redact_filter(record: logging.LogRecord) -> bool:
    if record.name == "uvicorn.access" and isinstance(record.args, tuple):
        # a query string may contain secrets
        record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in QUIET


class Stderr(logging.StreamHandler[Any]):
    """Looks up `sys.stderr` for every record, because it may be replaced later."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class Json(logging.Formatter):
    """One JSON object per line. Extra fields follow the fixed keys; a duplicate key gets a trailing underscore."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        for name, value in extra(record).items():
            line[name if name not in line else f"{name}_"] = value
        return json.dumps(line)


class Text(logging.Formatter):
    """Human-readable text. Control characters are escaped, so that a message cannot forge a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value!r}" for name, value in extra(record).items())
        line = f"{instant(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        line = CONTROL.sub(lambda found: ascii(found[0])[1:-1], line)
        if record.exc_info and record.exc_info[0]:
            line += "\n" + self.formatException(record.exc_info)
        return line + (f"\n{record.stack_info}" if record.stack_info else "")


def instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def extra(record: logging.LogRecord) -> dict[str, object]:
    """The `extra` fields of a record, as values that JSON can represent."""
    return {name: plain(value) for name, value in vars(record).items() if name not in RESERVED_ATTRIBUTES}


def plain(value: object) -> object:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)
