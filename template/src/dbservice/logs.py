"""What the process says: every logger through one handler to stderr, as text or JSON, one record a line."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from .settings import Settings

# Below a warning these write parameters down, and with them secrets. PyDAL calls itself by two names.
QUIET = {"databases", "pydal", "pyDAL", "aiosqlite", "aiomysql", "asyncpg", "asyncio", "sqlalchemy"}
QUIET |= {"multipart", "python_multipart"}  # the bytes of a form
UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

RESERVED_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: Settings) -> None:
    """Send everything that is logged to stderr as the settings say; may be called again."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    handler = Stderr()
    handler.setFormatter(Json() if settings.log_format == "json" else Text())
    handler.addFilter(redact_filter)
    root = logging.getLogger()
    root.handlers = [*(each for each in root.handlers if not isinstance(each, Stderr)), handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in UVICORN:
        logger = logging.getLogger(name)
        if logger.handlers:  # uvicorn's own command put them there
            logger.handlers = []
            logger.propagate = True
        logger.setLevel(level)
    logging.captureWarnings(True)


def access_log(settings: Settings) -> bool:
    """Whether each request is worth a line; uvicorn takes it with `log_config=None`."""
    return settings.log_level in ("debug", "info")


def redact_filter(record: logging.LogRecord) -> bool:
    if record.name == "uvicorn.access" and isinstance(record.args, tuple):
        # a query may hold what only its sender should know
        record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in QUIET


class Stderr(logging.StreamHandler[Any]):
    """Looks `sys.stderr` up for every record: whoever replaces it later gets the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class Json(logging.Formatter):
    """One object a line. What a record carries beside these keys follows them, under a name of its own."""

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
    """For people. Only an exception takes more than a line: no text from outside can begin one."""

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
    """What the caller gave as `extra`, as JSON can write it."""
    return {name: plain(value) for name, value in vars(record).items() if name not in RESERVED_ATTRIBUTES}


def plain(value: object) -> object:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)
