"""Queries: their parameters, their rows, and what is refused."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from dbservice import BadValue, NotFound, Reads, Row, Unavailable, query
from dbservice.backends import Backend
from dbservice.http import Router
from dbservice.http.encoding import encode
from dbservice.service import Running
from dbservice.settings import Settings

from ..sample_service import sample_service, served, users, values


class Total(Row):
    """How many there are."""

    count: int
    latest: dt.datetime | None = None


class Renamed(Row):
    class_: str = msgspec.field(name="class")
    sum: Decimal


def test_a_row_without_a_table_has_the_fields_it_declares() -> None:
    assert Total.columns() == ("count", "latest") and Renamed.columns() == ("class", "sum")
    assert Total.from_mapping({"count": 1, "latest": None}) == Total(1, None) == Total(count=1)
    assert (
        encode(Renamed.from_mapping({"class": "x", "sum": Decimal("1.50")})) == b'{"class":"x","sum":"1.50"}'
    )
    with pytest.raises(TypeError, match="Total has the columns"):
        query(Total, sa.select(users.c.id))


TOTAL = query(
    Total, sa.select(sa.func.count().label("count"), sa.func.max(users.c.created_at).label("latest"))
)


KINDS = query(
    Renamed,
    sa.select(users.c.kind.label("class"), sa.func.sum(users.c.balance).label("sum"))
    .group_by(users.c.kind)
    .order_by(users.c.kind),
)


@pytest.mark.usefixtures("running")  # which empties the tables
async def test_a_hand_written_query_answers_and_is_documented(migrated: Settings, tmp_path: Path) -> None:
    router = Router("totals")

    @router.get("")
    async def total(reads: Reads) -> Total:
        """All of them."""
        return await reads.one(TOTAL)

    @router.get("/kinds")
    async def kinds(reads: Reads) -> list[Renamed]:
        return await reads.all(KINDS)

    @router.get("/plain")
    async def plain() -> dict[str, int]:
        return {"plain": 1}

    service = sample_service(tmp_path)
    service.routers.append(router)
    async with served(service, migrated) as client:
        for number in range(2):
            made = (await client.post("/v1/users", json={"email": str(number), "balance": "1.25"})).json()
        assert (await client.get("/v1/totals")).json() == {"count": 2, "latest": made["created_at"]}
        assert (await client.get("/v1/totals/kinds")).json() == [{"class": "plain", "sum": "2.50"}]
        assert (await client.get("/v1/totals/plain")).json() == {"plain": 1}
        for row in (await client.get("/v1/users")).json()["items"]:
            await client.delete(f"/v1/users/{row['id']}")
        documented = await client.get("/openapi.json")
    schemas = documented.json()["components"]["schemas"]
    assert schemas["Total"]["properties"].keys() == {"count", "latest"}
    assert schemas["Total"]["properties"]["count"]["type"] == "integer"
    assert schemas["Renamed"]["properties"].keys() == {"class", "sum"}
    answer = documented.json()["paths"]["/v1/totals/kinds"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["items"] == {
        "$ref": "#/components/schemas/Renamed"
    }


class UserEmail(Row):
    id: int
    email: str


BY_EMAIL = query(
    UserEmail, sa.select(users.c.id, users.c.email).where(users.c.email == sa.bindparam("email"))
)


def test_a_query_must_select_the_columns_of_its_row() -> None:
    with pytest.raises(TypeError, match=r"UserEmail has the columns \['id', 'email'\].*\['email', 'id'\]"):
        query(UserEmail, sa.select(users.c.email, users.c.id))


async def test_a_query_takes_its_parameters_and_no_others(running: Running) -> None:
    for wrong in ({}, {"mail": "a"}, {"email": "a", "id": 1}):
        with pytest.raises(TypeError, match=r"takes \['email'\], not"):
            await running.reads.all(BY_EMAIL, **wrong)
    assert running.reads.in_use == 0


async def test_a_query_refuses_what_its_column_cannot_hold(running: Running) -> None:
    for wrong in ("a\0b", 5):
        with pytest.raises(BadValue, match="email "):
            await running.reads.all(BY_EMAIL, email=wrong)


async def test_a_parameter_without_a_column_is_refused_too(running: Running) -> None:
    limited = query(UserEmail, sa.select(users.c.id, users.c.email).limit(sa.bindparam("limit")))
    with pytest.raises(Exception) as raised:
        await running.reads.all(limited, limit="a dozen")
    assert not isinstance(raised.value, Unavailable)


async def test_no_row_is_not_found(running: Running) -> None:
    assert await running.reads.first(BY_EMAIL, email="nobody") is None
    with pytest.raises(NotFound):
        await running.reads.one(BY_EMAIL, email="nobody")


async def test_an_in_list_is_refused(running: Running) -> None:
    listed = query(UserEmail, sa.select(users.c.id, users.c.email).where(users.c.id.in_(sa.bindparam("ids"))))
    with pytest.raises(TypeError, match="IN list"):
        await running.reads.all(listed, ids=[1, 2])


async def test_a_query_is_compiled_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class ValuesId(Row):
        id: int

    compiled: list[Backend] = []
    compiler = type(running.backend).dialect

    def counted(engine: Backend) -> sa.Dialect:
        compiled.append(engine)
        return compiler(engine)

    monkeypatch.setattr(type(running.backend), "dialect", counted)
    every = query(ValuesId, sa.select(values.c.id))
    for _ in range(3):
        assert await running.reads.all(every) == []
    assert len(compiled) == 1
