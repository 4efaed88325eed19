"""A reader that follows a table by its ids: they are given out in order, and committed in another."""

import asyncio
import datetime as dt
import threading

import sqlalchemy as sa

from dbservice import DAL, Row, Statement, public_columns, query
from dbservice.settings import Settings

from ..sample_service import Users, add_users, client_of, started


class UsersRow(Users, Row):
    pass


@query(UsersRow)
def settled_users(after: int, before: dt.datetime, limit: int) -> Statement:
    """The recipe of the README."""
    newest = sa.select(Users.id).where(Users.created_at < before).order_by(Users.id.desc()).limit(1)
    rows = sa.select(*public_columns(Users)).where(Users.id > after, Users.id <= newest.scalar_subquery())
    return rows.order_by(Users.id).limit(limit)


async def test_rows_that_are_settled_are_followed_without_a_gap(server_settings: Settings) -> None:
    inserted, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(db: DAL) -> None:
        add_users(db, "slow follower")
        loop.call_soon_threadsafe(inserted.set)
        assert go.wait(60)

    async with started(server_settings) as running, client_of(running) as client:
        first = (await client.post("/v1/users", json={"email": "first follower"})).json()["id"]
        began = dt.datetime.now(dt.UTC)
        unit = asyncio.ensure_future(running.writes.run(slow))
        await inserted.wait()
        await running.writes.run(add_users, "fast follower")
        seen = (await client.get("/v1/users", params={"after": first})).json()["items"]
        unsettled = await running.reads.page(settled_users, after=first, before=began, limit=10)
        go.set()
        await unit
        late = await client.get("/v1/users", params={"after": seen[-1]["id"]})
        now = dt.datetime.now(dt.UTC)
        settled = await running.reads.page(settled_users, after=first, before=now, limit=10)
    assert [each["email"] for each in seen] == ["fast follower"]
    assert late.json()["items"] == []  # "slow follower" is missed
    assert unsettled.items == []
    assert [each.email for each in settled.items] == ["slow follower", "fast follower"]
