"""What a developer reads in the log when a statement fails: what was wrong, where, in which statement; and no value."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dbservice import DAL, Reads, Writes, logs
from dbservice.http import Router
from dbservice.redaction import describe, log_fields
from dbservice.settings import Settings

from ..assertions import SECRET, problem
from ..faults import Proxy
from ..sample_service import client_of, sample_service, served, started, users

STATEMENTS = {
    "column": f"SELECT nick FROM users WHERE email = '{SECRET}'",
    "table": f"SELECT id FROM nowhere WHERE email = '{SECRET}' LIMIT 4711",
    "syntax": f"SELECT id FRM users WHERE email = '{SECRET}'",
}
REDACTED = {
    "column": "SELECT nick FROM users WHERE email = ?",
    "table": "SELECT id FROM nowhere WHERE email = ? LIMIT ?",
    "syntax": "SELECT id FRM users WHERE email = ?",
}
NAMED = {"column": "nick", "table": "nowhere", "syntax": "syntax"}


@pytest.fixture
async def client(migrated: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose routes fail."""
    router = Router("broken")

    @router.get("/read/{what}")
    async def read(what: str, reads: Reads) -> str:
        await reads.fetch_raw(STATEMENTS[what])
        return ""

    @router.post("/write/{what}")
    async def write(what: str, writes: Writes) -> str:
        await writes.run(lambda db: db.executesql(STATEMENTS[what]))
        return ""

    @router.post("/unit")
    async def unit(writes: Writes) -> str:
        def work(db: DAL) -> None:
            db[users].insert(email=SECRET)
            raise LookupError(f"no account of {SECRET} at the bank")

        await writes.run(work)
        return ""

    @router.get("/python")
    async def python() -> str:
        number: Any = 1
        return str(number + SECRET)

    service = sample_service(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as made:
        yield made


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the service says of failures; no value is anywhere in the log."""
    for form in (logs.Json(), logs.Text()):
        assert not any(SECRET in form.format(record) for record in caplog.records)
    return [record for record in caplog.records if record.name == "dbservice.http"]


@pytest.mark.parametrize("what", STATEMENTS)
@pytest.mark.parametrize("path", ["/v1/broken/read", "/v1/broken/write"])
async def test_a_failed_statement_is_logged_with_its_error(
    client: httpx.AsyncClient, all_logs: pytest.LogCaptureFixture, path: str, what: str
) -> None:
    method = "GET" if "read" in path else "POST"
    missing = what == "table"  # which is not the fault of the service's code
    problem(await client.request(method, f"{path}/{what}"), 503 if missing else 500)
    (record,) = failures(all_logs)
    line = json.loads(logs.Json().format(record))
    assert line["statement"] == REDACTED[what]
    # MySQL and MariaDB do not tell an account whether there is a table that it may not use
    kinds = {"no_table", "no_privilege"} if missing else {"other"}
    assert line["error_kind"] in kinds and line["error_code"]
    if missing:
        last = line["message"]
        assert last.startswith(f"{method} {path}/{{what}}: The database ")
    else:
        assert line["message"] == f"{method} {path}/{{what}} failed"
        assert line["exception"].startswith("Traceback") and "test_error_logs.py" in line["exception"]
        last = line["exception"].splitlines()[-1]
    assert NAMED[what] in last and line["error_code"] in last, last


async def test_an_exception_of_a_unit_of_work_keeps_the_words_of_its_code(
    client: httpx.AsyncClient, all_logs: pytest.LogCaptureFixture
) -> None:
    problem(await client.post("/v1/broken/unit"), 500)
    (record,) = failures(all_logs)
    shown = logs.Text().format(record)
    assert shown.endswith("\nLookupError: no account of … at the bank") and "in work" in shown
    assert "statement" not in vars(record)


async def test_an_exception_of_a_route_keeps_the_words_of_python(
    client: httpx.AsyncClient, all_logs: pytest.LogCaptureFixture
) -> None:
    problem(await client.get("/v1/broken/python"), 500)
    (record,) = failures(all_logs)
    shown = logs.Text().format(record)
    assert shown.endswith("\nTypeError: unsupported operand type(s) for +: 'int' and 'str'")


RAISE = {
    "postgresql": f"DO $$ BEGIN RAISE EXCEPTION 'no {SECRET}' USING DETAIL = '{SECRET}', HINT = '{SECRET}'; END $$",
    "mysql": f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no {SECRET}'",
}


async def test_what_a_trigger_or_a_procedure_says_may_hold_values(
    server_settings: Settings, all_logs: pytest.LogCaptureFixture
) -> None:
    sql = RAISE[server_settings.db_type]
    async with started(server_settings) as running:
        with pytest.raises(Exception, match=SECRET) as caught:
            await running.writes.run(lambda db: db.executesql(sql))
    assert describe(caught.value).startswith(f"{type(caught.value).__name__}: no … [")
    assert SECRET not in str(log_fields(caught.value))


# --- 503


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_503_is_logged_with_its_reason(
    server_settings: Settings, all_logs: pytest.LogCaptureFixture, method: str
) -> None:
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, pool=2, connect=2.0) as running, client_of(running) as client:
            proxy.disconnect()
            all_logs.clear()
            body = {"email": SECRET} if method == "POST" else None
            problem(await client.request(method, "/v1/users", json=body), 503)
    (record,) = failures(all_logs)
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{method} /v1/users: The database ")
    assert "refused" in record.getMessage() or "[Errno 111]" in record.getMessage()
    assert vars(record)["error_kind"] in ("starting", "lost")
