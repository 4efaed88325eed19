"""Queries that are functions: their parameters, defaults, pages, and what is refused."""

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, Row, Statement, query
from dbservice.service import Running

from ..sample_service import Users, users


class UserEmail(Row):
    id: int
    email: str


@query(UserEmail)
def by_id(id: int) -> Statement:
    """The user with this id."""
    return sa.select(users.c.id, users.c.email).where(users.c.id == id)


@query(UserEmail)
def after(after: int = 0, limit: int = 2) -> Statement:
    return sa.select(users.c.id, users.c.email).where(users.c.id > after).order_by(users.c.id).limit(limit)


@pytest.fixture
async def added(running: Running) -> list[int]:
    """The ids of three users."""

    def add(db: DAL) -> list[int]:
        return [db[Users].insert_row({"email": email})["id"] for email in "abc"]

    return await running.writes.run(add)


async def test_a_function_is_a_query_with_its_parameters(running: Running, added: list[int]) -> None:
    reads = running.reads
    assert by_id.__doc__ == "The user with this id."
    assert (await reads.one(by_id, id=added[1])).email == (await reads.one(by_id, added[1])).email == "b"
    with pytest.raises(BadValue, match="id must be a whole number"):
        await reads.one(by_id, id="1")  # type: ignore[arg-type]
    for wrong in ({}, {"user_id": 1}, {"id": 1, "more": 1}):
        with pytest.raises(TypeError, match=r"takes \['id'\], not"):
            await reads.one(by_id, **wrong)
    for many in ([1, 2], [1, 2, 3]):
        with pytest.raises(TypeError, match=r"takes \['id'\], not \d arguments"):
            await reads.one(by_id, *many)
    with pytest.raises(TypeError, match=r"takes \['id'\], not 1 arguments and \['id'\]"):
        await reads.one(by_id, 1, id=1)  # type: ignore[misc]


async def test_a_parameter_that_is_left_out_has_its_default(running: Running, added: list[int]) -> None:
    reads = running.reads
    assert [row.id for row in await reads.all(after)] == added[:2]
    assert [row.id for row in await reads.all(after, added[0])] == added[1:]
    assert [row.id for row in await reads.all(after, limit=1)] == added[:1]
    page = await reads.page(after)
    assert ([row.id for row in page.items], page.next) == (added[:2], added[1])
    page = await reads.page(after, added[1], limit=5)
    assert ([row.id for row in page.items], page.next) == (added[2:], None)


async def test_a_page_needs_a_limit(running: Running) -> None:
    for values in ({"id": 1}, {"id": 1, "limit": 1}):
        with pytest.raises(TypeError, match=r"^page\(\) needs a query with a parameter `limit`, "):
            await running.reads.page(by_id, **values)


async def test_one_with_several_rows_raises(running: Running, added: list[int]) -> None:
    first = await running.reads.first(after)
    assert first is not None and first.id == added[0]
    with pytest.raises(RuntimeError, match=r"^one\(\) got several rows: 2 of UserEmail; "):
        await running.reads.one(after)


def test_a_function_that_is_no_query_is_refused() -> None:
    every = sa.select(users.c.id, users.c.email)
    with pytest.raises(TypeError, match="unused: the statement does not use more"):

        @query(UserEmail)
        def unused(id: int, more: int) -> Statement:
            return every.where(users.c.id == id)

    with pytest.raises(
        TypeError, match="branching: its parameters are placeholders here and have no values; write one"
    ):

        @query(UserEmail)
        def branching(active: bool) -> Statement:
            return every if active else every.limit(1)

    with pytest.raises(TypeError, match=r"loose: write every parameter by its name, instead of \*ids"):

        @query(UserEmail)
        def loose(*ids: int) -> Statement:
            return every

    with pytest.raises(TypeError, match="UserEmail has the columns"):

        @query(UserEmail)
        def columns() -> Statement:
            return sa.select(users.c.email)


async def test_a_list_as_a_parameter_is_refused(running: Running) -> None:
    @query(UserEmail)
    def among(ids: list[int]) -> Statement:
        return sa.select(users.c.id, users.c.email).where(users.c.id.in_(ids))

    with pytest.raises(TypeError, match="IN list"):
        await running.reads.all(among, ids=[1, 2])
