"""Responses and logs contain no secrets, values or passwords."""

import logging
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import HTTPException
from pydal._globals import THREAD_LOCAL
from starlette.responses import StreamingResponse

from dbservice import DAL, query
from dbservice.http import Router
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Database

from ..assertions import SECRET, problem
from ..cli_service import USERS_WITH_PASSWORD, CliService, served_cli_service
from ..sample_service import client_of, order, sample_service, served, started, users
from .reading import Group, IdRow


async def test_a_secret_is_accepted_and_never_returned(
    client: httpx.AsyncClient,
    running: Running,
    all_logs: pytest.LogCaptureFixture,
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
    with closing(running.backend.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT password FROM users")
        assert [row[0] for row in cursor.fetchall()] == [f"{SECRET}-2"]
    assert SECRET not in all_logs.text and SECRET not in str([vars(record) for record in all_logs.records])
    assert SECRET not in "".join(capfd.readouterr())


async def test_an_error_of_the_database_shows_no_value(
    cli_service: CliService, all_logs: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Drivers put the statement into their errors, and PyDAL the values into the statement."""
    async with served_cli_service(cli_service, USERS_WITH_PASSWORD) as (client, running):
        assert (await client.post("/v1/users", json={"email": "a", "password": SECRET})).status_code == 201
        with closing(running.backend.connect()) as connection:
            connection.cursor().execute("ALTER TABLE users DROP COLUMN updated_at")
        for answer in (
            await client.post("/v1/users", json={"email": "b", "password": SECRET}),
            await client.patch("/v1/users/1", json={"password": SECRET}),
            await client.get("/v1/users/1"),
        ):
            body = problem(answer, 500)
            assert body["detail"] == "The service failed; its log says where."
            assert not {"users", "column", "updated_at"} & {*re.findall(r"\w+", answer.text.lower())}
    logged = all_logs.text + "".join(capfd.readouterr())
    assert SECRET not in logged
    statements = ("INSERT INTO", "VALUES (?,?", "SELECT ")
    places = ("POST /v1/users failed", "PATCH /v1/users/{id} failed", "Traceback", "unit.py", "Error")
    for words in (*places, *statements):
        assert words in logged


async def test_an_exception_is_500_without_its_values(
    migrated: Settings, tmp_path: Path, all_logs: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    router = Router("broken")

    @router.get("/{how}")
    async def broken(how: str) -> IdRow:
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

    service = sample_service(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as client:
        answer = await client.get("/v1/broken/x")
        assert problem(answer, 500)["title"] == "Internal Server Error"
        assert SECRET not in answer.text and "ValueError" not in answer.text
        teapot = await client.get("/v1/broken/http")
        assert problem(teapot, 418)["detail"] == "I am a teapot." and teapot.headers["x-pot"] == "tea"
        assert (await client.get("/v1/broken/half/way")).text == "half"
        with pytest.raises(Exception, match=r"^it was …$") as caught:
            transport = httpx.ASGITransport(service.app)
            await httpx.AsyncClient(transport=transport, base_url="http://service").get("/v1/broken/half/way")
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        metrics = (await client.get("/metrics")).text
        assert 'http_requests_total{method="GET",route="/v1/broken/{how}",status="500"} 1.0' in metrics
    logged = all_logs.text + "".join(capfd.readouterr())
    assert SECRET not in logged
    for words in (
        "GET /v1/broken/{how} failed",
        "test_secrets.py",
        "in broken",
        "KeyError",
        "ValueError",
        "direct cause",
    ):
        assert words in logged


async def test_no_statement_is_kept_with_its_values(running: Running) -> None:
    def write(db: DAL) -> str:
        db[users].insert(email="a", password="hush-hush")
        db(db[users].password == "hush-hush").select()
        return repr((vars(THREAD_LOCAL), db._timings, db._lastsql, vars(db), vars(db._adapter)))

    assert "hush-hush" not in await running.writes.run(write)


async def test_no_object_holds_the_password_in_the_clear(server_settings: Settings) -> None:
    password = server_settings.db_pass.get_secret_value()
    async with started(server_settings) as running:

        def look(db: DAL) -> str:
            db(db[order].id > 0).count()
            places = (
                vars(db),
                vars(db._adapter),
                vars(THREAD_LOCAL),
                db._adapter.driver_args,
                db._driver_args,
            )
            return repr((places, db, str(db), db._uri, db.as_dict() if hasattr(db, "as_dict") else ""))

        assert password not in await running.writes.run(look)
        assert password not in repr(
            (vars(running), vars(running.reads), vars(running.writes), vars(running.backend))
        )


async def test_debug_logs_hold_no_value(
    database: Database,
    migrated: Settings,
    all_logs: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_email = query(
        Group, sa.select(order.c.id, order.c.group).where(order.c.group == sa.bindparam("group"))
    )
    async with started(migrated) as running, client_of(running) as client:
        logging.getLogger("dbservice").debug("heard")
        body = {"email": "hush@example.com", "password": "hush-hush"}
        assert (await client.post("/v1/users", json=body)).status_code == 201
        assert (await client.post("/v1/users", json=body)).status_code == 409
        assert (await client.post("/v1/users", json={**body, "email": "hush" * 99})).status_code == 422
        assert await running.reads.all(by_email, group="hush-hush") == []
        with pytest.raises(Exception, match="hush"):
            await running.writes.run(lambda db: db.executesql("SELECT nowhere_hush"))
        await running.writes.run(lambda db: db(db[users].email == "hush@example.com").delete())
    logged = all_logs.text + capsys.readouterr().err
    assert "heard" in logged and "hush" not in logged
    if database.password:
        assert database.password not in logged
