"""Problems: the responses for errors of an endpoint."""

from typing import Any

import pytest
from fastapi import HTTPException

from dbservice import BadValue, Conflict, NotFound, Problem, Unavailable
from dbservice.http import Router
from dbservice.http.problems import DETAILS

from ..asgi import application, client_of
from ..assertions import problem


async def answer_to(error: Exception) -> Any:
    router = Router("x")

    @router.get("")
    async def endpoint() -> None:
        raise error

    async with client_of(application(router)) as client:
        return await client.get("/v1/x")


@pytest.mark.parametrize(
    ("error", "status", "title", "detail"),
    [
        (NotFound("There is no such row."), 404, "Not found", "There is no such row."),
        (Conflict("It is there."), 409, "Conflict", "It is there."),
        (BadValue("email", "must be a string"), 422, "Bad value", "email must be a string."),
        (Unavailable("The database does not answer."), 503, "Unavailable", "The database does not answer."),
        (Problem(418, "Short and stout.", title="Teapot"), 418, "Teapot", "Short and stout."),
        (Problem(499, "The client went away."), 499, "Error", "The client went away."),
        (HTTPException(404), 404, "Not found", DETAILS[404]),
        (HTTPException(409), 409, "Conflict", DETAILS[409]),
        (HTTPException(403), 403, "Forbidden", "Forbidden."),
        (HTTPException(403, "Not today."), 403, "Forbidden", "Not today."),
        (HTTPException(499, "The client went away."), 499, "Error", "The client went away."),
        (ValueError("a value"), 500, "Internal Server Error", "The service failed; its log says where."),
    ],
    ids=repr,
)
async def test_an_error_becomes_a_problem(error: Exception, status: int, title: str, detail: str) -> None:
    body = problem(await answer_to(error), status)
    assert (body["title"], body["detail"], body["type"]) == (title, detail, "about:blank")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_content_stays_without(status: int) -> None:
    answer = await answer_to(HTTPException(status, headers={"ETag": "x"}))
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (status, b"", "x")
    assert "content-type" not in answer.headers


async def test_one_table_says_what_a_status_means() -> None:
    router = Router("things")

    @router.patch("/{id}")
    async def change(id: int, name: str) -> None: ...

    async with client_of(application(router)) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        unknown = await client.get("/nowhere")
        method = await client.put("/v1/things/1")
    responses = paths["/v1/things/{id}"]["patch"]["responses"]
    documented = {int(status): each["description"] for status, each in responses.items() if status >= "400"}
    assert documented == {status: DETAILS[status] for status in (404, 408, 409, 413, 422, 503)}
    assert (problem(unknown, 404)["detail"], problem(method, 405)["detail"]) == (DETAILS[404], DETAILS[405])
