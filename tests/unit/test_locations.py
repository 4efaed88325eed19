"""`Location`: only where the path of the created row exists, as the client must ask for it."""

import asyncio
import datetime as dt
import uuid
from decimal import Decimal
from typing import Annotated, Any

import httpx
import msgspec
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Path, Response
from starlette.applications import Starlette
from starlette.routing import Mount

from dbservice import Page, Row
from dbservice.http import Router

from ..asgi import application, client_of


class Thing(Row):
    id: int
    name: str


class Key(Row):
    """A row with a key of each type that a path may hold, and without an `id`."""

    text: str = "a"
    number: int = 5
    day: dt.date = dt.date(2024, 1, 31)
    moment: dt.datetime = dt.datetime(2024, 1, 31, 13, 45, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    unique: uuid.UUID = uuid.UUID(int=7)
    truth: bool = True
    amount: Decimal = Decimal("1.50")
    data: bytes = b"\xff\xfe"
    nothing: str | None = None
    class_: str = msgspec.field(name="class", default="x y")


def things(name: str = "things", *, read: str = "/{id}", key: Any = int, row: Row | None = None) -> APIRouter:
    """A router that creates `row` and answers one at `read`."""
    router, made = Router(name), row or Thing(7, "a")
    kind: Any = type(made)

    @router.post("", status_code=201)
    async def create() -> kind:
        return made

    async def read_one(**keys: Any) -> kind:
        return made

    names = [part[1:-1].partition(":")[0] for part in read.split("/") if part.startswith("{")]
    read_one.__signature__ = _signature(names, key, kind)  # type: ignore[attr-defined]
    read_one.__annotations__ = dict.fromkeys(names, key) | {"return": kind}
    router.get(read)(read_one)
    return router


def _signature(names: list[str], key: Any, answer: Any) -> Any:
    import inspect

    kept = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=key) for name in names]
    return inspect.Signature(kept, return_annotation=answer)


async def location(app: Any, path: str = "/v1/things", **options: Any) -> str | None:
    """The `location` of a row created at `path`; where there is one, it must lead to that row."""
    async with client_of(app, **options) as client:
        answer = await client.post(path)
        assert answer.status_code == 201, answer.text
        where: str | None = answer.headers.get("location")
        if where is not None:
            found = await client.get(where)
            assert (found.status_code, found.json()) == (200, answer.json()), where
            assert answer.headers.get_list("location") == [where]
    return where


async def documented(app: FastAPI) -> list[str]:
    """The paths whose POST answers a `Location`, as OpenAPI has it."""
    async with client_of(app) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    return [
        path
        for path, operations in paths.items()
        if "Location"
        in operations.get("post", {"responses": {}})["responses"].get("201", {}).get("headers", {})
    ]


# --- where the row is


async def test_a_created_row_is_found_where_location_says() -> None:
    app = application(things())
    assert await location(app) == "/v1/things/7"
    assert await documented(app) == ["/v1/things"]


async def test_a_row_has_no_location_where_its_path_does_not_exist() -> None:
    for read in ("/by-name/{name}", "/{id}/parts", "/{id}/{other}", "/all"):
        app = application(things(read=read))
        assert await location(app) is None and await documented(app) == [], read


async def test_an_action_that_answers_201_has_no_location() -> None:
    router = things()

    @router.post("/search", status_code=201)
    async def search() -> Thing:
        return Thing(7, "a")

    @router.post("/{id}/copies", status_code=201)
    async def copied(id: int) -> Thing:
        return Thing(8, "a")

    app = application(router)
    assert await documented(app) == ["/v1/things"]
    async with client_of(app) as client:
        for path in ("/v1/things/search", "/v1/things/7/copies"):
            answer = await client.post(path)
            assert answer.status_code == 201 and "location" not in answer.headers
        assert (await client.post("/v1/things")).headers["location"] == "/v1/things/7"


async def test_neither_a_list_nor_a_page_is_where_a_row_is() -> None:
    for answer in (list[Thing], Page[Thing]):
        router = Router("things")

        @router.post("", status_code=201)
        async def create() -> Thing:
            return Thing(7, "a")

        @router.get("/{name}")
        async def by_name(name: str) -> answer:  # type: ignore[valid-type]
            raise AssertionError

        app = application(router)
        assert await location(app) is None and await documented(app) == []


async def test_a_row_without_the_key_has_no_location() -> None:
    assert await location(application(things(row=Key()))) is None
    assert await location(application(things(row=Key(), read="/{nothing}", key=str))) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("number", "5"),
        ("day", "2024-01-31"),
        ("moment", "2024-01-31T12%3A45%3A00Z"),
        ("unique", "00000000-0000-0000-0000-000000000007"),
        ("truth", "true"),
        ("amount", "1.50"),
        ("data", "%2F%2F4%3D"),
    ],
)
async def test_a_natural_key_is_the_parameter_of_the_path(name: str, expected: str) -> None:
    app = application(things(row=Key(), read=f"/{{{name}}}", key=str))
    if "%2F" in expected:  # no path that the router finds holds a slash
        assert await location(app) is None
    else:
        assert await location(app) == f"/v1/things/{expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain-A_1.~", "plain-A_1.~"),
        ("a b+c", "a%20b%2Bc"),
        ("é?#%&;=", "%C3%A9%3F%23%25%26%3B%3D"),
        ("100%2F", "100%252F"),
        ("..a", "..a"),
    ],
)
async def test_a_key_is_percent_encoded(text: str, expected: str) -> None:
    app = application(things(row=Key(text=text), read="/{text}", key=str))
    assert await location(app) == f"/v1/things/{expected}"


@pytest.mark.parametrize("text", ["", "a/b", "/", ".", ".."])
async def test_a_key_that_no_path_can_hold_has_no_location(text: str) -> None:
    assert await location(application(things(row=Key(text=text), read="/{text}", key=str))) is None


async def test_a_key_of_several_columns_is_several_parameters() -> None:
    app = application(things(row=Key(text="é"), read="/{text}/{number}", key=str))
    assert await location(app) == "/v1/things/%C3%A9/5"


async def test_a_key_may_have_a_name_that_python_keeps() -> None:
    router = Router("things")

    @router.post("", status_code=201)
    async def create() -> Key:
        return Key()

    @router.get("/{class}")
    async def read(class_: Annotated[str, Path(alias="class")]) -> Key:
        return Key()

    assert await location(application(router)) == "/v1/things/x%20y"


async def test_the_parameter_may_be_named_after_the_thing() -> None:
    for read in ("/{thing_id}", "/{row_id:int}"):
        assert await location(application(things(read=read))) == "/v1/things/7"
    assert await location(application(things(read="/{token}", key=str))) is None


async def test_a_router_within_another_has_locations() -> None:
    outer, outermost = APIRouter(), APIRouter(prefix="/deep")
    outer.include_router(things(), prefix="/teams/{team}")
    outermost.include_router(outer)
    app = application(outermost)
    assert await documented(app) == ["/deep/teams/{team}/v1/things"]
    assert await location(app, "/deep/teams/5/v1/things") == "/deep/teams/5/v1/things/7"
    where = await location(app, "/deep/teams/a%20b%3F/v1/things")
    assert where == "/deep/teams/a%20b%3F/v1/things/7"


async def test_a_location_that_the_endpoint_sets_is_kept() -> None:
    router = things("others")

    @router.post("/elsewhere", status_code=201)
    async def elsewhere(response: Response) -> Thing:
        response.headers["Location"] = "/else/where"
        return Thing(7, "a")

    @router.get("/elsewhere/{id}")
    async def read(id: int) -> Thing:
        return Thing(7, "a")

    async with client_of(application(router)) as client:
        answer = await client.post("/v1/others/elsewhere")
        assert answer.headers.get_list("location") == ["/else/where"]


async def test_a_row_that_was_there_already_has_no_location() -> None:
    router = things("others")

    @router.post("/elsewhere", status_code=201)
    async def elsewhere(response: Response) -> Thing:
        response.status_code = 200
        return Thing(7, "a")

    @router.get("/elsewhere/{id}")
    async def read(id: int) -> Thing:
        return Thing(7, "a")

    async with client_of(application(router)) as client:
        answer = await client.post("/v1/others/elsewhere")
        assert answer.status_code == 200 and "location" not in answer.headers


async def test_other_statuses_than_201_have_no_location() -> None:
    router = Router("things")

    @router.post("")
    async def create() -> Thing:
        return Thing(7, "a")

    @router.get("/{id}")
    async def read(id: int) -> Thing:
        return Thing(7, "a")

    async with client_of(application(router)) as client:
        assert "location" not in (await client.post("/v1/things")).headers


# --- where the service is


async def test_a_mounted_service_names_its_mount() -> None:
    inner = application(things())
    outer = Starlette(routes=[Mount("/sub/é d", Starlette(routes=[Mount("/deeper", inner)]))])
    path = "/sub/%C3%A9%20d/deeper/v1/things"
    assert await location(outer, path, root_path="") == f"{path}/7"


async def test_a_root_path_is_named_once() -> None:
    # a proxy that strips its prefix: servers put it back (uvicorn) or do not (the application's own root_path)
    app = application(things())
    assert await location(app, "/api/v1/things", root_path="/api") == "/api/v1/things/7"
    async with client_of(app, root_path="/api") as client:
        assert (await client.post("/v1/things")).headers["location"] == "/api/v1/things/7"
    app.root_path = "/api"
    async with client_of(app) as client:
        assert (await client.post("/v1/things")).headers["location"] == "/api/v1/things/7"


async def test_uvicorns_root_path_is_named() -> None:
    config = uvicorn.Config(
        application(things()), port=0, lifespan="off", log_config=None, access_log=False, root_path="/api"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110, it tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}"
    ) as client:  # as a proxy that strips /api
        answer = await client.post("/v1/things")
        assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/things/7")
    server.should_exit = True
    await serving
