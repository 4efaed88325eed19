"""Bodies that are refused, on every engine: with 422, 413 or 408, each field named, no value repeated."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dbservice.settings import Settings
from dbservice.testing import make

from ..assertions import SECRET, problem
from ..boundary_values import BOUNDARY_VALUES
from ..json_bodies import ALTERED
from ..sample_service import sample_service, served, users


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
    row = await make(client, users)
    for answer in (
        await client.post("/v1/users", json=wrong),
        await client.patch(f"/v1/users/{row['id']}", json=wrong),
    ):
        body = problem(answer, 422)
        assert {each["field"] for each in body["errors"]} == wrong.keys()
        assert "4711" not in answer.text and "12.345" not in answer.text
        assert all(each["field"] in body["detail"] for each in body["errors"])


async def test_a_field_that_does_not_exist_is_refused(client: httpx.AsyncClient) -> None:
    row = await make(client, users)
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
    row = await make(client, users)
    headers = {"content-type": content_type} if content_type else {}
    for method, path in (("POST", "/v1/users"), ("PATCH", f"/v1/users/{row['id']}")):
        answer = await client.request(method, path, content=content, headers=headers)
        assert [each["field"] for each in problem(answer, 422)["errors"]] == [field]
        assert SECRET not in answer.text
    assert (await client.get("/v1/users")).json()["items"] == [row]


async def test_json_may_be_sent_under_its_other_names(client: httpx.AsyncClient) -> None:
    row = await make(client, users)
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

    async with served(sample_service(tmp_path, body=1000), migrated) as client:
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


async def test_a_body_with_a_too_large_content_length_is_not_read(migrated: Settings, tmp_path: Path) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        raise AssertionError("it was asked for")

    async with served(sample_service(tmp_path, body=1000), migrated) as client:
        headers = {"content-type": "application/json", "content-length": "99999999999999"}
        problem(await client.post("/v1/values", content=never(), headers=headers), 413)


async def test_a_body_that_is_not_received_is_408(migrated: Settings, tmp_path: Path) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        await asyncio.Event().wait()

    async with served(sample_service(tmp_path, receive=0.1), migrated) as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/values", content=half(), headers=headers)
        assert problem(answer, 408)["detail"] == "The body was not received in time."


@pytest.mark.parametrize(("body", "sentence"), ALTERED, ids=lambda value: repr(value[:30]))
async def test_a_body_that_would_be_altered_is_refused(
    client: httpx.AsyncClient, body: bytes, sentence: str
) -> None:
    row = (await client.post("/v1/values", json={"json": 1})).json()
    for content in (body, b'{"json": ' + body + b"}", b'{"json": [' + body + b', 1], "enum": "a"}'):
        if not content.strip().startswith(b"{") or len(content) > 1024 * 1024:
            continue
        for method, path in (("POST", "/v1/values"), ("PATCH", f"/v1/values/{row['id']}")):
            response = await client.request(
                method, path, content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code == 422, response.text
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["errors"][0]["field"] == "body" and problem["detail"].endswith(".")
            assert len(problem["detail"]) < 200 and "Traceback" not in response.text
    assert (await client.get("/v1/values")).json()["items"] == [row]


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"null",
            b"[]",
            b"5",
            b'"text"',
            b"true",
            b"[{}]",
            b'{"string": "a"} {}',
            b"{",
            b"\0",
            b"\xff" * 100,
        ),
        *(
            b'{"string": "\xff"}',
            rb'{"string": "\ud800"}',
            rb'{"\ud800": 1}',
            rb'{"a\u0000b": 1}',
            b'{"": 1}',
            b'{"id": 1}',
        ),
        *(
            b'{"created_at": "2024-01-31T13:45:00Z"}',
            b'{"strin": "a"}',
            b'{"String": "a"}',
            b'{"string": "a", "x": 1}',
        ),
        *(
            b'{"string": {"$ne": null}}',
            b'{"integer": {"__class__": 1}}',
            b'{"json": ' + b"[" * 66 + b"]" * 66 + b"}",
        ),
        b'{"' + b"x" * 10_000 + b'": 1}',
    ],
    ids=lambda content: repr(content[:30]),
)
async def test_no_body_is_a_500(client: httpx.AsyncClient, content: bytes) -> None:
    for content_type in (
        "application/json",
        "application/json; charset=latin-1",
        "text/plain",
        "",
        "x",
        "application/xml",
    ):
        response = await client.post("/v1/values", content=content, headers={"content-type": content_type})
        assert response.status_code == 422, response.text
        problem = response.json()
        assert problem["errors"] and problem["detail"] and all(e["message"] for e in problem["errors"])
    assert (await client.get("/v1/values")).json() == {"items": [], "next": None}


@examples(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters(codec=None), max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*BOUNDARY_VALUES, "id", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
async def test_any_body_is_stored_or_refused(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v1/values", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (201, 422), response.text
    if response.status_code == 201:
        sent = json.loads(content)
        held = response.json()
        assert (await client.get(f"/v1/values/{held['id']}")).json() == held
        for name in sent.keys() - {"decimal", "whole_decimal", "long_decimal", "longest_decimal"}:
            assert held[name] == sent[name]
