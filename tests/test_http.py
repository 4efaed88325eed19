"""What a client of the API sees, on every engine: pages, statuses, problems; and what neither it nor a log ever sees."""

import asyncio
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import HTTPException, Response
from starlette.responses import StreamingResponse

from dbservice import Row, Service, logs
from dbservice.errors import StartupError
from dbservice.http import Router
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import make, servers

from .specimen import items, order, specimen, users, values
from .tiny import Tiny, engines_of, only

SECRET = "geheim-4711"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "private_database" in metafunc.fixturenames:
        metafunc.parametrize("private_database", engines_of(metafunc), indirect=True)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that `answer` is, which must be this one and complete."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (
        {"type", "title", "status", "detail"}
        <= body.keys()
        <= {"type", "title", "status", "detail", "errors"}
    )
    assert body["status"] == status and body["detail"].endswith(".")
    assert ("retry-after" in answer.headers) == (status == 503)
    return body


async def user(client: httpx.AsyncClient, **given: Any) -> dict[str, Any]:
    return await make(client, users, **given)


# --- rows


async def test_create_answers_the_row_and_where_it_is(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/users", json={"email": "a@b"})
    row = answer.json()
    assert answer.status_code == 201 and answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/v1/users/{row['id']}"
    assert (await client.get(answer.headers["location"])).json() == row
    assert row["active"] is True and row["balance"] == "0.00" and row["kind"] == "plain"
    assert row["created_at"] == row["updated_at"] and RFC3339.fullmatch(row["created_at"])
    assert list(row) == [column.name for column in users.columns if column.name != "password"]


async def test_times_are_answered_in_utc(client: httpx.AsyncClient) -> None:
    made = await make(client, values, timestamp="2024-03-31T01:59:59.5+05:30")
    assert made["timestamp"] == "2024-03-30T20:29:59.500000Z"
    assert (await client.get(f"/v1/values/{made['id']}")).json() == made


async def test_a_list_goes_page_by_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/users")).json() == {"items": [], "next": None}
    rows = [await user(client) for _ in range(5)]
    ids = [row["id"] for row in rows]
    assert (await client.get("/v1/users")).json() == {"items": rows, "next": None}
    first = (await client.get("/v1/users", params={"limit": 2})).json()
    assert first == {"items": rows[:2], "next": ids[1]}
    second = (await client.get("/v1/users", params={"limit": 2, "after": first["next"]})).json()
    assert second == {"items": rows[2:4], "next": ids[3]}
    third = (await client.get("/v1/users", params={"limit": 2, "after": second["next"]})).json()
    assert third == {"items": rows[4:], "next": None}
    for limit in (5, 6, 200):
        assert (await client.get("/v1/users", params={"limit": limit})).json()["next"] is None
    # a row that goes while somebody turns the pages makes none of the others appear twice or never
    await client.delete(f"/v1/users/{ids[1]}")
    rest = (await client.get("/v1/users", params={"limit": 200, "after": ids[1]})).json()
    assert rest == {"items": rows[2:], "next": None}
    beyond = await client.get("/v1/users", params={"after": 2**63 - 1})
    assert beyond.json() == {"items": [], "next": None}


async def test_fifty_rows_are_a_page_unless_said_otherwise(client: httpx.AsyncClient) -> None:
    for _ in range(51):
        await client.post("/v1/order", json={})
    page = (await client.get("/v1/order")).json()
    assert len(page["items"]) == 50 and page["next"] == page["items"][-1]["id"]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=-1",
            "limit=201",
            "limit=x",
            "limit=",
            "limit=1.0",
            "limit=%201",
            "limit=1_0",
            "limit=9e9",
        ),
        *("after=-1", "after=x", "after=1.0", f"after={2**63}", f"after={10**30}", "after=٣"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(client: httpx.AsyncClient, query: str) -> None:
    body = problem(await client.get(f"/v1/users?{query}"), 422)
    assert [each["field"] for each in body["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_id_is_a_positive_whole_number_of_64_bits(client: httpx.AsyncClient, method: str) -> None:
    body: Any = {"json": {}} if method == "PATCH" else {}
    for wrong in ("0", "-1", str(2**63), "9" * 40, "x", "1.0", "1e0", " 1", "+1", "1_0", "٣", "null"):
        found = problem(await client.request(method, f"/v1/users/{wrong}", **body), 422)
        assert found["errors"][0]["field"] == "id" and wrong not in found["detail"].replace("64", "")
    for missing in ("1", str(2**63 - 1)):
        problem(await client.request(method, f"/v1/users/{missing}", **body), 404)


async def test_a_patch_changes_what_it_names_and_the_time(client: httpx.AsyncClient) -> None:
    row = await user(client)
    path = f"/v1/users/{row['id']}"
    answer = await client.patch(path, json={"note": "new", "active": not row["active"]})
    changed = answer.json()
    assert answer.status_code == 200
    assert changed == {
        **row, "note": "new", "active": not row["active"], "updated_at": changed["updated_at"]
    }  # fmt: skip
    assert changed["updated_at"] > row["updated_at"]
    again = (await client.patch(path, json={})).json()
    assert again == {**changed, "updated_at": again["updated_at"]}
    assert again["updated_at"] > changed["updated_at"]
    assert (await client.get(path)).json() == again


async def test_a_patch_empties_only_what_may_be_empty(client: httpx.AsyncClient) -> None:
    row = await make(client, values)
    path = f"/v1/values/{row['id']}"
    for column in values.columns:
        if column.name in row and column.nullable:
            assert (await client.patch(path, json={column.name: None})).json()[column.name] is None
    row = await user(client)
    for name in ("email", "active", "balance", "kind", "settings", "note", "since", "rate"):
        for answer in (
            await client.patch(f"/v1/users/{row['id']}", json={name: None}),
            await client.post("/v1/users", json={"email": "other", name: None}),
        ):
            errors = problem(answer, 422)["errors"]
            assert errors == [{"field": name, "message": "must not be null"}]
    assert (await client.get(f"/v1/users/{row['id']}")).json() == row


async def test_delete_answers_nothing(client: httpx.AsyncClient) -> None:
    row = await user(client)
    answer = await client.delete(f"/v1/users/{row['id']}")
    assert answer.status_code == 204 and answer.content == b"" and "content-type" not in answer.headers
    problem(await client.delete(f"/v1/users/{row['id']}"), 404)


# --- what stands against it


async def test_a_unique_key_is_409(client: httpx.AsyncClient) -> None:
    one, two = await user(client), await user(client)
    for answer in (
        await client.post("/v1/users", json={"email": one["email"], "password": SECRET}),
        await client.patch(f"/v1/users/{two['id']}", json={"email": one["email"], "password": SECRET}),
    ):
        body = problem(answer, 409)
        assert "email" in body["detail"] and one["email"] not in answer.text and SECRET not in answer.text
    assert (await client.get(f"/v1/users/{two['id']}")).json() == two


async def test_a_foreign_key_is_409(client: httpx.AsyncClient) -> None:
    row = await make(client, items)
    problem(await client.post("/v1/items", json={"user_id": row["user_id"] + 1000}), 409)
    problem(await client.patch(f"/v1/items/{row['id']}", json={"user_id": row["user_id"] + 1000}), 409)
    problem(await client.patch(f"/v1/items/{row['id']}", json={"parent_id": row["id"] + 1000}), 409)
    problem(await client.delete(f"/v1/users/{row['user_id']}"), 409)
    assert (await client.get(f"/v1/users/{row['user_id']}")).status_code == 200
    child = await make(client, items, user_id=row["user_id"], parent_id=row["id"])
    problem(await client.delete(f"/v1/items/{row['id']}"), 409)
    for each in (child, row):
        assert (await client.delete(f"/v1/items/{each['id']}")).status_code == 204
    assert (await client.delete(f"/v1/users/{row['user_id']}")).status_code == 204


# --- bodies


async def test_bad_values_are_named_and_never_echoed(client: httpx.AsyncClient) -> None:
    wrong = {
        "email": 4711,
        "password": SECRET * 50,
        "active": "wahr-4711",
        "balance": "12.345",
        "kind": "king-4711",
        "since": "2024-01-31 4711",
        "rate": "4711",
    }
    row = await user(client)
    for answer in (
        await client.post("/v1/users", json=wrong),
        await client.patch(f"/v1/users/{row['id']}", json=wrong),
    ):
        body = problem(answer, 422)
        assert {each["field"] for each in body["errors"]} == wrong.keys()
        assert "4711" not in answer.text and "12.345" not in answer.text
        assert all(each["field"] in body["detail"] for each in body["errors"])


async def test_a_field_that_does_not_exist_is_refused(client: httpx.AsyncClient) -> None:
    row = await user(client)
    for body in (
        {"passwort": SECRET},
        {"id": 7},
        {"created_at": "2024-01-01T00:00:00Z"},
        {"Email": "x"},
        {"": 1},
    ):
        for answer in (
            await client.post("/v1/users", json={"email": "x", **body}),
            await client.patch(f"/v1/users/{row['id']}", json=body),
        ):
            found = problem(answer, 422)
            assert found["errors"] == [{"field": next(iter(body)) or "body", "message": "is not a field"}]
            assert SECRET not in answer.text
    assert len((await client.get("/v1/users")).json()["items"]) == 1


async def test_thousands_of_errors_are_not_all_answered(client: httpx.AsyncClient) -> None:
    body = {f"{number}{'x' * 500}": number for number in range(1000)}
    answer = await client.post("/v1/users", json=body)
    problem(answer, 422)
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    ("content", "content_type", "field"),
    [
        (b"", "application/json", "body"),
        (b"", "", "body"),
        (b"null", "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b'"' + SECRET.encode() + b'"', "application/json", "body"),
        (b"7", "application/json", "body"),
        (b"{", "application/json", "body"),
        (b'{"email": "' + SECRET.encode(), "application/json", "body"),
        (b'{"email": "a", "email": "b"}', "application/json", "body"),
        (b'{"email": NaN}', "application/json", "body"),
        (b'{"email": "\xff"}', "application/json", "body"),
        (b'{"email": "\\ud800"}', "application/json", "email"),
        (b'{"\\ud800": 1}', "application/json", "body"),
        (b'{"email": "\\u0000"}', "application/json", "email"),
        (b'{"email": ' + b"[" * 100_000, "application/json", "body"),
        (b'{"email": "x"}', "text/plain", "body"),
        (b'{"email": "x"}', "", "body"),
        (b"email=x", "application/x-www-form-urlencoded", "body"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", "body"),
    ],
)
async def test_a_body_that_is_no_object_of_json_is_refused(
    client: httpx.AsyncClient, content: bytes, content_type: str, field: str
) -> None:
    row = await user(client)
    headers = {"content-type": content_type} if content_type else {}
    for method, path in (("POST", "/v1/users"), ("PATCH", f"/v1/users/{row['id']}")):
        answer = await client.request(method, path, content=content, headers=headers)
        assert [each["field"] for each in problem(answer, 422)["errors"]] == [field]
        assert SECRET not in answer.text
    assert (await client.get("/v1/users")).json()["items"] == [row]


async def test_json_may_be_sent_under_its_other_names(client: httpx.AsyncClient) -> None:
    row = await user(client)
    for content_type in (
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "APPLICATION/JSON",
    ):
        answer = await client.patch(
            f"/v1/users/{row['id']}", content='{"note": "é"}', headers={"content-type": content_type}
        )
        assert answer.status_code == 200 and answer.json()["note"] == "é"


async def test_a_body_that_is_too_large_is_413(migrated: Settings, tmp_path: Path) -> None:
    async def piecemeal() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(10):
            yield b"x" * 200
        yield b'"}'

    async with served(specimen(tmp_path, body=1000), migrated) as client:
        row = (await client.post("/v1/values", json={"text": "x" * 900})).json()
        for method, path in (("POST", "/v1/values"), ("PATCH", f"/v1/values/{row['id']}")):
            known = await client.request(method, path, json={"text": "x" * 1000})
            unknown = await client.request(
                method, path, content=piecemeal(), headers={"content-type": "application/json"}
            )
            for answer in (known, unknown):
                body = problem(answer, 413)
                assert (body["title"], body["detail"]) == ("Content Too Large", "The body is too large.")
        metrics = (await client.get("/metrics")).text
        assert sum(map(float, re.findall(r'http_requests_total{.*status="413"} (.*)', metrics))) == 4
        await client.delete(f"/v1/values/{row['id']}")


async def test_a_body_that_says_it_is_too_large_is_not_even_awaited(
    migrated: Settings, tmp_path: Path
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        raise AssertionError("it was asked for")

    async with served(specimen(tmp_path, body=1000), migrated) as client:
        headers = {"content-type": "application/json", "content-length": "99999999999999"}
        problem(await client.post("/v1/values", content=never(), headers=headers), 413)


async def test_a_body_that_does_not_come_is_408(migrated: Settings, tmp_path: Path) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        await asyncio.Event().wait()

    async with served(specimen(tmp_path, receive=0.1), migrated) as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/values", content=half(), headers=headers)
        assert problem(answer, 408)["detail"] == "The body did not come in time."


# --- paths and methods


async def test_what_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    for path in (
        "/",
        "/nope",
        "/v1",
        "/v1/",
        "/v1/users/",
        "/v1/users/1/",
        "/v1/users/1/x",
        "/V1/users",
        "/redoc",
    ):
        body = problem(await client.get(path, follow_redirects=False), 404)
        assert body["detail"] == "There is nothing at this path."


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/users", "GET, HEAD, POST"),
        ("/v1/users/1", "DELETE, GET, HEAD, PATCH"),
        ("/healthz", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_taken_is_405(client: httpx.AsyncClient, path: str, allowed: str) -> None:
    for method in {"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "MADE-UP"} - {*allowed.split(", ")}:
        answer = await client.request(method, path)
        assert problem(answer, 405)["detail"] == "This path does not take that method."
        assert answer.headers["allow"] == allowed


async def test_head_is_get_without_the_body(client: httpx.AsyncClient, running: Running) -> None:
    row = await user(client)
    for path in (
        "/v1/users",
        f"/v1/users/{row['id']}",
        "/v1/users/999999999",
        "/healthz",
        "/v1/users?limit=0",
        "/nope",
    ):
        get, head = await client.get(path), await client.head(path)
        assert head.status_code == get.status_code and head.content == b""
        assert head.headers == get.headers
    metrics = (await client.get("/metrics")).text
    # what a server is given; httpx drops a body by itself
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/v1/users", "raw_path": b"/v1/users", "headers": []}
    await running.service.app({**scope, "query_string": b"", "root_path": ""}, receive, send)
    assert [message.get("body", b"") for message in sent] == [b"", b""] and sent[0]["status"] == 200
    assert scope["method"] == "HEAD"
    assert 'http_requests_total{method="HEAD",route="/v1/users/{id}",status="200"} 1.0' in metrics


# --- secrets


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What every logger says, as talkative as the settings can make them."""
    before = {name: logging.getLogger(name).level for name in {*logs.QUIET, *logs.UVICORN, ""}}
    handlers = logging.getLogger().handlers[:]
    logs.configure(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "/tmp/x", "LOG_LEVEL": "debug"}))
    caplog.handler.setLevel(0)
    yield caplog
    logging.getLogger().handlers = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


async def test_a_secret_is_taken_and_never_given(
    client: httpx.AsyncClient,
    running: Running,
    said: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    created = await client.post("/v1/users", json={"email": "a", "password": SECRET})
    row = created.json()
    answers = [
        created,
        await client.get(f"/v1/users/{row['id']}"),
        await client.get("/v1/users"),
        await client.patch(f"/v1/users/{row['id']}", json={"password": f"{SECRET}-2"}),
        await client.post("/v1/users", json={"email": "a", "password": SECRET}),
        await client.post("/v1/users", json={"email": "b", "password": SECRET, "kind": SECRET}),
        await client.post("/v1/users", json={"email": "b", "password": [SECRET]}),
        await client.post("/v1/users", json={"email": "b", "password": {SECRET: SECRET}}),
        await client.post("/v1/users", json={"email": "b", "password": SECRET + "\0"}),
        await client.post("/v1/users", json={"email": "b", "password": SECRET * 100}),
        await client.post("/v1/users", content=f'{{"email": "b", "password": "{SECRET}'),
        await client.get("/metrics"),
        await client.get("/openapi.json"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 409, *[422] * 6, 200, 200]
    for answer in answers:
        assert SECRET not in answer.text + str(answer.headers)
    with closing(running.engine.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT password FROM users")
        assert [row[0] for row in cursor.fetchall()] == [f"{SECRET}-2"]
    assert SECRET not in said.text and SECRET not in str([vars(record) for record in said.records])
    assert SECRET not in "".join(capfd.readouterr())


TABLES = """
class Users(Table, name="users"): email = Column(String(20)); password = Column(String(40), nullable=True, secret=True)
"""


async def test_a_failure_of_the_database_tells_no_value(
    tiny: Tiny, said: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Drivers put the statement into their errors, and PyDAL the values into the statement."""
    async with of_tiny(tiny, TABLES) as (client, running):
        assert (await client.post("/v1/users", json={"email": "a", "password": SECRET})).status_code == 201
        with closing(running.engine.connect()) as connection:
            connection.cursor().execute("DROP TABLE users")
        for answer in (
            await client.post("/v1/users", json={"email": "b", "password": SECRET}),
            await client.patch("/v1/users/1", json={"password": SECRET}),
            await client.get("/v1/users/1"),
        ):
            body = problem(answer, 500)
            assert body["detail"] == "The service failed; its log says where."
            assert not {"users", "table", "relation"} & {*re.findall(r"\w+", answer.text.lower())}
    logged = said.text + "".join(capfd.readouterr())
    assert SECRET not in logged and "INSERT" not in logged
    for words in ("POST /v1/users failed", "PATCH /v1/users/{id} failed", "Traceback", "writes.py", "Error"):
        assert words in logged


# --- what nobody foresaw


@asynccontextmanager
async def served(service: Service, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        service.running(settings),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


class Nothing(Row):
    id: int


async def test_a_route_is_plain_fastapi(migrated: Settings, tmp_path: Path) -> None:
    router = Router("plain")

    @router.get("/in/a/thread")
    def in_a_thread(response: Response) -> list[Nothing]:
        response.headers["x-said"] = "by the endpoint"
        return [Nothing(1)]

    @router.get("/perhaps/{there}")
    async def perhaps(there: bool, response: Response) -> Nothing | None:
        response.status_code = 203
        return Nothing(2) if there else None

    service = specimen(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as client:
        answer = await client.get("/v1/plain/in/a/thread")
        assert (answer.json(), answer.headers["x-said"]) == ([{"id": 1}], "by the endpoint")
        assert (await client.get("/v1/plain/perhaps/true")).json() == {"id": 2}
        answer = await client.get("/v1/plain/perhaps/false")
        assert (answer.json(), answer.status_code) == (None, 203)
        paths = (await client.get("/openapi.json")).json()["paths"]
        shape = paths["/v1/plain/perhaps/{there}"]["get"]["responses"]["200"]["content"]["application/json"]
        assert {"type": "null"} in shape["schema"]["anyOf"]


async def test_a_conflict_repeats_nothing_that_was_sent(client: httpx.AsyncClient) -> None:
    body = {"email": f"x for key '{SECRET}' y"}
    assert (await client.post("/v1/users", json=body)).status_code == 201
    answer = await client.post("/v1/users", json=body)
    problem(answer, 409)
    assert SECRET not in answer.text


async def test_an_exception_is_500_without_its_words(
    migrated: Settings, tmp_path: Path, said: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    router = Router("broken")

    @router.get("/{how}")
    async def broken(how: str) -> Nothing:
        if how == "http":
            raise HTTPException(418, "I am a teapot.", headers={"x-pot": "tea"})
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"it was {SECRET}") from error

    @router.get("/half/way")
    async def half() -> Any:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError(f"it was {SECRET}")

        return StreamingResponse(body())

    service = specimen(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as client:
        answer = await client.get("/v1/broken/x")
        assert problem(answer, 500)["title"] == "Internal Server Error"
        assert SECRET not in answer.text and "ValueError" not in answer.text
        teapot = await client.get("/v1/broken/http")
        assert problem(teapot, 418)["detail"] == "I am a teapot." and teapot.headers["x-pot"] == "tea"
        assert (await client.get("/v1/broken/half/way")).text == "half"
        with pytest.raises(Exception, match=r"^$") as caught:
            transport = httpx.ASGITransport(service.app)
            await httpx.AsyncClient(transport=transport, base_url="http://service").get("/v1/broken/half/way")
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        metrics = (await client.get("/metrics")).text
        assert 'http_requests_total{method="GET",route="/v1/broken/{how}",status="500"} 1.0' in metrics
    logged = said.text + "".join(capfd.readouterr())
    assert SECRET not in logged
    for words in (
        "GET /v1/broken/{how} failed",
        "test_http.py",
        "in broken",
        "KeyError",
        "ValueError",
        "direct cause",
    ):
        assert words in logged


# --- health


async def test_healthz_asks_nobody(migrated: Settings, tmp_path: Path) -> None:
    app = specimen(tmp_path).app
    async with served(specimen(tmp_path), migrated) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    transport = httpx.ASGITransport(app)
    app.state.running = None
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_readyz_says_so_while_it_stops(client: httpx.AsyncClient, running: Running) -> None:
    ready = await client.get("/readyz")
    assert ready.status_code == 200 and ready.json() == {"status": "ready", "revision": None}
    running.draining = True
    assert problem(await client.get("/readyz"), 503)["detail"] == "The service is stopping."
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/v1/users")).status_code == 200  # what is in flight is still answered


class Cable:
    """Between the service and its database, until somebody pulls it."""

    def __init__(self, port: int) -> None:
        self._to, self._writers = port, set[asyncio.StreamWriter]()
        self.port = 0

    async def plug(self) -> None:
        self._held = False
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Let nothing through any more, and say nothing of it."""
        self._held = True

    async def pull(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer), return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._held:
                writer.write(data)
        writer.close()


@only("postgresql", "mariadb", "mysql")  # a file does not go away
async def test_without_its_database_it_lives_and_is_not_ready(
    private_database: servers.Database, tmp_path: Path
) -> None:
    database = private_database
    cable = Cable(database.port)
    await cable.plug()
    settings = Settings.load(
        {**database.environ(), "DB_PORT": str(cable.port), "DB_POOL_SIZE": "4", "DB_MAX_RETRIES": "0"}
    )
    service = specimen(tmp_path, connect=1.0)
    await asyncio.to_thread(
        service.tables.create_all, service.engine(Settings.load(database.environ())).sqlalchemy()
    )
    async with served(service, settings) as client:
        row = (await client.post("/v1/order", json={})).json()
        assert (await client.get("/readyz")).status_code == 200
        await cable.pull()
        for _ in range(3):
            assert problem(await client.get("/readyz"), 503)["detail"] == "The database does not answer."
            problem(await client.get(f"/v1/order/{row['id']}"), 503)
            problem(await client.get("/v1/order"), 503)
            problem(await client.post("/v1/order", json={}), 503)
            problem(await client.patch(f"/v1/order/{row['id']}", json={}), 503)
            problem(await client.delete(f"/v1/order/{row['id']}"), 503)
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
        await cable.plug()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get(f"/v1/order/{row['id']}")).json() == row
        assert (await client.delete(f"/v1/order/{row['id']}")).status_code == 204
        await cable.pull()


@only("postgresql", "mariadb", "mysql")
async def test_readyz_waits_no_longer_than_its_limit(
    private_database: servers.Database, tmp_path: Path
) -> None:
    cable = Cable(private_database.port)
    await cable.plug()
    settings = Settings.load(
        {**private_database.environ(), "DB_PORT": str(cable.port), "DB_POOL_SIZE": "4", "DB_MAX_RETRIES": "0"}
    )
    async with served(specimen(tmp_path, connect=1.0, statement=2.0), settings) as client:
        assert (await client.get("/readyz")).status_code == 200
        cable.hold()
        started = time.monotonic()
        assert problem(await client.get("/readyz"), 503)["detail"] == "The database does not answer."
        assert time.monotonic() - started < 1.8
        await cable.pull()


@pytest.fixture
def tiny(private_database: servers.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    return Tiny(tmp_path / "tiny", private_database, monkeypatch)


@asynccontextmanager
async def of_tiny(tiny: Tiny, tables: str) -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    """The tiny service, migrated and running."""
    from .specimen import routes

    service = tiny.tables(tables)
    tiny.revise("first")
    tiny.upgrade()
    service.routers = [routes(table) for table in service.tables.sorted_tables]
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        service.running(Settings.load(tiny.environ)) as running,
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client, running


def version(tiny: Tiny, revision: str) -> None:
    with closing(tiny.database.connect()) as connection:
        connection.cursor().execute(f"UPDATE alembic_version_tiny SET version_num = '{revision}'")
        connection.commit()


async def test_readyz_knows_the_revision(tiny: Tiny) -> None:
    async with of_tiny(tiny, TABLES) as (client, _):
        ready = {"status": "ready", "revision": "0001_first"}
        assert (await client.get("/readyz")).json() == ready
        version(
            tiny, "0002_newer"
        )  # a newer deployment has migrated, and this one serves until it is replaced
        assert (await client.get("/readyz")).json() == ready
        assert (await client.get("/v1/users")).status_code == 200
        version(tiny, "0001_first")
        tiny.move("base")
        body = problem(await client.get("/readyz"), 503)
        assert body["detail"] == "The database has no tables of tiny yet: run `make migrate` first."
        tiny.upgrade()
        assert (await client.get("/readyz")).status_code == 200


async def test_readyz_refuses_an_older_revision(tiny: Tiny) -> None:
    tiny.tables(TABLES)
    tiny.revise("first")
    async with of_tiny(tiny, TABLES.replace("20", "30")) as (client, _):
        pass
    tables = TABLES.replace("20", "40")
    async with of_tiny(tiny, tables) as (client, running):
        assert running.revision == "0003_first"
        version(tiny, "0002_first")
        body = problem(await client.get("/readyz"), 503)
        assert body["detail"] == (
            "The database is at revision 0002_first, this code needs 0003_first: run `make migrate` first."
        )


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("", "The database has no tables of tiny yet: run `make migrate` first."),
        (
            "0001_first",
            "The database is at revision 0001_first, this code needs 0002_second: run `make migrate` first.",
        ),
        (
            "0009",
            "The database is at revision 0009, which this code does not know: deploy the code that it belongs to.",
        ),
    ],
)
async def test_it_starts_only_on_its_own_revision(tiny: Tiny, revision: str, sentence: str) -> None:
    tiny.tables(TABLES)
    tiny.revise("first")
    tiny.tables(TABLES.replace("20", "30"))
    tiny.revise("second")
    if revision:
        tiny.upgrade()
        version(tiny, revision)
    with pytest.raises(StartupError) as caught:
        async with tiny.service.running(Settings.load(tiny.environ)):
            pass
    assert str(caught.value) == sentence


# --- metrics and docs


async def test_metrics_count_by_route_and_not_by_row(client: httpx.AsyncClient) -> None:
    rows = [await user(client) for _ in range(3)]
    for row in rows:
        await client.get(f"/v1/users/{row['id']}")
    await client.get("/v1/users/999999999")
    await client.get("/v1/users/x")
    for number in range(3):
        await client.get(f"/nowhere/{number}")
        await client.request(f"MADE-UP-{number}", "/v1/users")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    counts = dict(re.findall(r"^http_requests_total\{(.*)\} (.*)$", answer.text, re.M))
    assert counts == {
        'method="POST",route="/v1/users",status="201"': "3.0",
        'method="GET",route="/v1/users/{id}",status="200"': "3.0",
        'method="GET",route="/v1/users/{id}",status="404"': "1.0",
        'method="GET",route="/v1/users/{id}",status="422"': "1.0",
        'method="GET",route="none",status="404"': "3.0",
        'method="other",route="/v1/users",status="405"': "3.0",
    }
    for gauge in ("db_read_pool_size", "db_read_pool_in_use", "db_write_pool_size", "db_writes_in_flight"):
        assert re.search(rf"^{gauge} \d+\.0$", answer.text, re.M)
    assert "http_request_duration_seconds_bucket" in answer.text


async def test_docs_are_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in answer.text


@pytest.mark.parametrize("table", [users, items, order, values], ids=str)
async def test_every_list_has_items_and_next(client: httpx.AsyncClient, table: Any) -> None:
    await make(client, table)
    answer = await client.get(f"/v1/{table.name}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"items", "next"} and len(answer.json()["items"]) == 1
