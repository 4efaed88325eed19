"""The log: one record a line, for people or for machines, and never a parameter of a statement."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from dbservice.logs import QUIET, UVICORN, Stderr, access_log, configure, instant
from dbservice.settings import Settings

Lines = list[dict[str, object]]
TELLTALES = [
    "databases",
    "pydal",
    "pyDAL",
    "aiosqlite",
    "aiomysql",
    "asyncpg",
    "asyncio",
    "sqlalchemy",
    "sqlalchemy.engine.Engine",
    "multipart",
]
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def settings(level: str = "info", form: str = "json") -> Settings:
    return Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "x.db", "LOG_LEVEL": level, "LOG_FORMAT": form})


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging belongs to the process: what a test changes is put back."""
    loggers = [logging.getLogger(name) for name in ("", "mine", *QUIET, *UVICORN)]
    kept = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in kept:
        each.level, each.handlers, each.propagate = level, handlers, propagate
        each.manager._clear_cache()  # type: ignore[attr-defined]
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    out, err = capsys.readouterr()
    assert not out
    return [json.loads(line, parse_constant=pytest.fail) for line in err.splitlines()]


def test_the_access_log_leaves_out_the_query_string(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings())
    words = '%s - "%s %s HTTP/%s" %d'
    logging.getLogger("uvicorn.access").info(
        words, "127.0.0.1:1", "GET", "/v1/users?token=hidden", "1.1", 200
    )
    assert lines(capsys)[0]["message"] == '127.0.0.1:1 - "GET /v1/users HTTP/1.1" 200'


def test_a_json_record_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings())
    logging.getLogger("mine").info("a %s\n\u2028é\udcff", "b", extra={"rows": 3, "kind": None})
    (line,) = lines(capsys)
    assert re.fullmatch(INSTANT, str(line.pop("time")))
    assert line == {
        "level": "info",
        "logger": "mine",
        "message": "a b\n\u2028é\udcff",
        "rows": 3,
        "kind": None,
    }


def test_the_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        record = logging.makeLogRecord({"created": 1700000000.25})
        assert instant(record) == "2023-11-14T22:13:20.250000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_extra_field_is_always_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings())
    odd = {"nan": float("nan"), "object": {1}, "secret": SecretStr("geheim"), "exception": 2}
    logging.getLogger("mine").warning("m", extra=odd | {"level": "x", "time": 1})
    (line,) = lines(capsys)
    assert (line["nan"], line["object"], line["secret"]) == ("nan", "{1}", "**********")
    assert (line["level"], line["level_"], line["time_"], line["exception"]) == ("warning", "x", 1, 2)


def test_an_exception_is_one_string(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings())
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("mine").exception("m", stack_info=True, extra={"exception": 1})
    (line,) = lines(capsys)
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: two\nlines")  # type: ignore[attr-defined]
    assert str(line["stack"]).startswith("Stack") and line["exception_"] == 1


def test_exc_info_without_an_exception(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "text"):
        configure(settings(form=form))
        logging.getLogger("mine").error("m", exc_info=True)
    first, second = capsys.readouterr().err.splitlines()
    assert "exception" not in json.loads(first) and second.endswith("mine: m")


def test_a_text_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(form="text"))
    logging.getLogger("mine").info(
        "a\n2026 error root: forged\x1b[0m\u2028é", extra={"rows": 3, "kind": "x\ny"}
    )
    (line,) = capsys.readouterr().err.splitlines()
    message = r"mine: a\n2026 error root: forged\x1b[0m\u2028é rows=3 kind='x\ny'"
    assert re.fullmatch(INSTANT + " info    " + re.escape(message), line)


def test_text_shows_an_exception_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(form="text"))
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("mine").exception("m", stack_info=True)
    shown = capsys.readouterr().err
    assert "mine: m\nTraceback" in shown and "\nValueError: why\nStack" in shown


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_decides_what_is_logged(capsys: pytest.CaptureFixture[str], level: str, said: int) -> None:
    configure(settings(level))
    for name in ("mine", "uvicorn.error"):
        for method in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger(name), method)(method)
    assert len(lines(capsys)) == 2 * said


@pytest.mark.parametrize("name", TELLTALES)
@pytest.mark.parametrize("own_level", [logging.NOTSET, logging.DEBUG])
def test_what_logs_parameters_is_quiet(capsys: pytest.CaptureFixture[str], name: str, own_level: int) -> None:
    configure(settings("debug"))
    logger = logging.getLogger(name)
    if own_level:  # somebody turned it on, as create_engine(echo=True) does
        logger.setLevel(own_level)
    logger.debug("INSERT %s", "geheim")
    logger.info("INSERT %s", "geheim")
    assert lines(capsys) == []
    logger.warning("m")
    assert len(lines(capsys)) == 1
    logger.setLevel(logging.NOTSET)
    configure(settings("error"))
    logger.warning("m")
    assert lines(capsys) == []


def test_what_the_libraries_log_is_left_out(tmp_path: Path) -> None:
    """The real loggers, by the names they have: one that is renamed by a new version shows up here."""
    code = """
import asyncio, sys, logging
from dbservice.logs import QUIET, configure
from dbservice.settings import Settings
if sys.argv[1] == "configured":
    configure(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": sys.argv[2], "LOG_LEVEL": "debug"}))
else:
    logging.basicConfig(level=logging.DEBUG)
from databases import Database
from pydal import DAL, Field
from sqlalchemy import create_engine, text

async def read():
    async with Database("sqlite:///" + sys.argv[2]) as database:
        await database.fetch_all("SELECT :x", {"x": "geheim"})

asyncio.run(read(), debug=True)
db = DAL("sqlite:memory", debug=True)
db.define_table("t", Field("a"))
db.t.insert(a="geheim")
create_engine("sqlite://").connect().execute(text("SELECT :x"), {"x": "geheim"})
logging.getLogger("mine").debug("said")
"""
    for form, shown in [("plain", True), ("configured", False)]:
        command = [sys.executable, "-c", code, form, str(tmp_path / "x.db")]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert ("geheim" in ran.stderr) is shown and "said" in ran.stderr and not ran.stdout


def test_uvicorn_logs_in_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    """As `uvicorn my_svc.service:app` leaves its loggers, before it imports the service."""
    from uvicorn import Config

    Config("x:y")
    configure(settings("error"))
    logging.getLogger("uvicorn.error").info("m")
    assert lines(capsys) == []
    configure(settings())
    arguments = ("127.0.0.1:1", "GET", "/v1/users?a=b", "1.1", 200)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *arguments)
    logging.getLogger("uvicorn.error").info("m", extra={"color_message": "\x1b[1mm"})
    first, second = lines(capsys)
    assert first["message"] == '127.0.0.1:1 - "GET /v1/users HTTP/1.1" 200'
    assert (second["logger"], "color_message" in second) == ("uvicorn.error", False)


@pytest.mark.parametrize(
    ("level", "said"), [("debug", True), ("info", True), ("warning", False), ("error", False)]
)
def test_the_access_log_follows_the_level(capsys: pytest.CaptureFixture[str], level: str, said: bool) -> None:
    from uvicorn import Config

    configure(settings(level))
    assert access_log(settings(level)) is said
    Config("x:y", log_config=None, access_log=access_log(settings(level)))
    assert logging.getLogger("uvicorn.access").hasHandlers() is said
    logging.getLogger("uvicorn.access").info("m")
    assert len(lines(capsys)) == said


def test_no_access_log_stays_off(capsys: pytest.CaptureFixture[str]) -> None:
    from uvicorn import Config

    Config("x:y", access_log=False)
    configure(settings())
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_logging_configured_twice_writes_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    configure(settings(form="text"))
    configure(settings())
    logging.getLogger("mine").info("m")
    assert len(lines(capsys)) == 1
    handlers = logging.getLogger().handlers
    assert other in handlers and sum(isinstance(each, Stderr) for each in handlers) == 1, "pytest's stay"


def test_the_log_goes_to_the_current_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(settings(form="text"))
    monkeypatch.setattr(sys, "stderr", later := io.StringIO())
    logging.getLogger("mine").info("m")
    assert "mine: m" in later.getvalue()


def test_a_warning_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure(settings())
        warnings.warn("odd", RuntimeWarning, stacklevel=1)
    (line,) = lines(capsys)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning") and "odd" in str(line["message"])
