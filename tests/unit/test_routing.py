"""Routers of a service, however they are put together: the service's limits hold for each of their routes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Query, Request, WebSocket
from starlette.applications import Starlette
from starlette.routing import Mount

from dbservice import Limits, Reads, Writes
from dbservice.http import PageSize, Router
from dbservice.http.parameters import MAX_PAGE_SIZE

from ..asgi import application, client_of
from ..assertions import problem

JSON = {"content-type": "application/json"}


# --- limits


def things(**options: Any) -> APIRouter:
    """A router with one route that takes a body."""
    router = Router("things", **options)

    @router.post("/count")
    async def count(texts: list[str]) -> int:
        return len(texts)

    return router


def with_a_websocket() -> APIRouter:
    router = things()

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json(await socket.receive_json())
        await socket.close()

    return router


def with_a_sub_router() -> APIRouter:
    router, plain = things(), APIRouter()

    @plain.get("/plain")
    async def about() -> str:
        return "plain"

    router.include_router(plain)
    return router


def within(*prefixes: str, **options: Any) -> APIRouter:
    """The router inside others."""
    router = things()
    for prefix in prefixes:
        outer = APIRouter(**options)
        outer.include_router(router, prefix=prefix)
        router = outer
    return router


SHAPES: dict[str, tuple[Callable[[], APIRouter], str]] = {
    "by itself": (things, "/v1/things/count"),
    "with a websocket": (with_a_websocket, "/v1/things/count"),
    "with a plain sub-router": (with_a_sub_router, "/v1/things/count"),
    "within a router": (lambda: within("/a"), "/a/v1/things/count"),
    "within two": (lambda: within("/a", "/b"), "/b/a/v1/things/count"),
    "within our own": (lambda: within("/a", route_class=type(things().routes[0])), "/a/v1/things/count"),
}


@pytest.mark.parametrize(("make", "path"), SHAPES.values(), ids=SHAPES.keys())
async def test_the_limits_of_the_service_hold_for_every_route(
    make: Callable[[], APIRouter], path: str
) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        yield b'["'
        for _ in range(30):
            yield b"x" * 10
        yield b'"]'

    async def never_complete() -> AsyncIterator[bytes]:
        yield b'["'
        await asyncio.Event().wait()

    async with client_of(application(make(), body=300, receive=0.05)) as client:
        answer = await client.post(path, json=["x" * 290])
        assert (answer.status_code, answer.json()) == (200, 1)
        problem(await client.post(path, json=["x" * 300]), 413)
        problem(await client.post(path, content=in_pieces(), headers=JSON), 413)
        problem(await client.post(path, content=never_complete(), headers=JSON), 408)
    async with client_of(application(make(), body=3 * 2**20)) as client:  # more than the default
        answer = await client.post(path, json=["x" * 2**21])
        assert (answer.status_code, answer.json()) == (200, 1)


@pytest.mark.parametrize(("make", "path"), SHAPES.values(), ids=SHAPES.keys())
async def test_two_services_with_one_router_keep_their_limits(
    make: Callable[[], APIRouter], path: str
) -> None:
    router = make()
    apps = [application(router, body=body) for body in (100, 200, 300)]
    for app, fits in zip(apps, (100, 200, 300), strict=True):
        async with client_of(app) as client:
            assert (await client.post(path, json=["x" * (fits - 4)])).status_code == 200
            problem(await client.post(path, json=["x" * (fits - 3)]), 413)


@pytest.mark.parametrize(("make", "path"), SHAPES.values(), ids=SHAPES.keys())
async def test_a_mounted_service_keeps_its_limits(make: Callable[[], APIRouter], path: str) -> None:
    outer = Starlette(routes=[Mount("/sub", application(make(), body=100))])
    async with client_of(outer) as client:
        assert (await client.post(f"/sub{path}", json=["x" * 96])).status_code == 200
        problem(await client.post(f"/sub{path}", json=["x" * 97]), 413)


async def test_a_route_outside_of_a_service_has_the_default_limits() -> None:
    app = FastAPI()
    app.include_router(things())
    async with client_of(app) as client:
        assert (await client.post("/v1/things/count", json=["x"])).json() == 1
        answer = await client.post("/v1/things/count", json=["x" * Limits().body])
        assert answer.status_code == 413


async def test_other_routes_work_beside_ours() -> None:
    app = application(with_a_websocket())
    inbox: list[Any] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps([7])}]
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/things/live", "headers": [], "query_string": b""}
    await app({**scope, "subprotocols": []}, receive, send)
    assert [message.get("text") for message in sent] == [None, "[7]", None]
    async with client_of(application(with_a_sub_router())) as client:
        assert (await client.get("/v1/things/plain")).json() == "plain"


# --- endpoints


async def test_an_endpoint_may_take_its_pools_and_the_request() -> None:
    router = Router("things")

    class Running:
        reads, writes, tracing = "the reads", "the writes", None

        class metrics:
            @staticmethod
            def observe(*_: Any) -> None: ...

    @router.get("/{name}")
    async def read(writes: Writes, name: str, request: Request, reads: Reads, size: int = 1) -> list[Any]:
        return [writes, name, request.url.path, reads, size]

    @router.post("/in-a-thread")
    def write(request: Request, writes: Writes) -> list[Any]:
        return [request.method, writes]

    app = application(router)
    app.state.running = Running
    async with client_of(app) as client:
        expected = ["the writes", "a", "/v1/things/a", "the reads", 2]
        assert (await client.get("/v1/things/a?size=2")).json() == expected
        assert (await client.post("/v1/things/in-a-thread")).json() == ["POST", "the writes"]


async def test_a_route_may_have_pages_of_its_own_size() -> None:
    router = Router("things")

    @router.get("/usual")
    async def usual(limit: PageSize = 50) -> int:
        return limit

    @router.get("/large")
    async def large(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> int:
        return limit

    async with client_of(application(router)) as client:
        for path, most in (("usual", MAX_PAGE_SIZE), ("large", 1000)):
            assert (await client.get(f"/v1/things/{path}?limit={most}")).json() == most
            errors = problem(await client.get(f"/v1/things/{path}?limit={most + 1}"), 422)["errors"]
            assert errors == [{"field": "limit", "message": f"must be at most {most}"}]
    with pytest.raises(TypeError, match="page"):
        Limits(page=1000)  # type: ignore[call-arg]
