"""The id of a request: in its answer, and in its lines of the log."""

import json
import logging
import re

import pytest

from dbservice import Problem, logs
from dbservice.http import Router, refusals
from dbservice.settings import Settings

from ..asgi import application, client_of
from ..faults import until

OWN = re.compile("[0-9a-f]{16}")


@pytest.mark.parametrize("given", ["b7ad6b7169203331", "req-1.2:3/4+5=", "x" * 128])
async def test_the_id_of_a_proxy_is_kept(given: str) -> None:
    async with client_of(application()) as client:
        answers = [
            await client.get(path, headers={"x-request-id": given}) for path in ("/healthz", "/nowhere")
        ]
    assert [each.headers.get_list("x-request-id") for each in answers] == [[given], [given]]


@pytest.mark.parametrize("given", [None, "", "two words", "é", 'a"b', "x" * 129, "a\tb"])
async def test_what_is_no_id_is_replaced(given: str | None) -> None:
    headers = [] if given is None else [(b"x-request-id", given.encode())]
    async with client_of(application()) as client:
        first, second = [
            (await client.get("/healthz", headers=headers)).headers["x-request-id"] for _ in range(2)
        ]
    assert OWN.fullmatch(first) and OWN.fullmatch(second) and first != second


async def test_a_line_has_the_id_of_its_request_and_of_no_other(
    all_logs: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "x.db", "LOG_FORMAT": "json"}))
    logging.getLogger("httpx").setLevel(logging.ERROR)
    monkeypatch.setattr(refusals, "_PERIOD", 0.5)
    router = Router("things")

    @router.get("")
    async def refuse() -> None:
        raise Problem(503, "Not now.")

    async with client_of(application(router)) as client:
        for number in range(3):
            answer = await client.get("/v1/things", headers={"x-request-id": f"request-{number}"})
            assert answer.status_code == 503
        lines: list[dict[str, str]] = []

        def both() -> bool:
            lines.extend(json.loads(each) for each in capsys.readouterr().err.splitlines())
            return len(lines) == 2

        await until(both)
    assert [each.get("request_id") for each in lines] == ["request-0", None]
    assert "2 times more" in lines[1]["message"]
