"""Paths, methods, and routes that are plain FastAPI."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Response

from dbservice.http import Router
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import make

from ..assertions import problem
from ..sample_service import sample_service, served, users
from .reading import IdRow


async def test_an_unknown_path_is_404(client: httpx.AsyncClient) -> None:
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
    row = await make(client, users)
    client.headers["x-request-id"] = "the-same"
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


async def test_a_route_is_plain_fastapi(migrated: Settings, tmp_path: Path) -> None:
    router = Router("plain")

    @router.get("/in/a/thread")
    def in_a_thread(response: Response) -> list[IdRow]:
        response.headers["x-said"] = "by the endpoint"
        return [IdRow(1)]

    @router.get("/perhaps/{there}")
    async def perhaps(there: bool, response: Response) -> IdRow | None:
        response.status_code = 203
        return IdRow(2) if there else None

    service = sample_service(tmp_path)
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


async def test_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    found = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(found) == 4
    for path in found:
        assert "//" not in path
        answer = await client.get(str(page.url.join(path)))
        assert answer.status_code == 200 and answer.content
        assert answer.headers["content-type"].split("/")[0] in ("text", "image")
    script = (await client.get("/docs/start.js")).text
    assert (await client.get(str(page.url.join(script.split('"')[1])))).json()["openapi"].startswith("3.1")
    assert (await client.get("/docs/..%2Fmain.py")).status_code == 404
    assert (await client.get("/docs/__init__.py")).status_code == 404
