"""Rows inside of pydantic models and other types that FastAPI answers: written as rows are, documented as rows are."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import jsonschema_rs
import pytest
from fastapi import APIRouter
from pydantic import BaseModel, TypeAdapter, ValidationError

from dbservice import Page, Row
from dbservice.http import Router
from dbservice.http.encoding import encode, in_utc

from ..asgi import application, client_of
from ..sample_service import Items, Users, Values, values

NOW = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)
BERLIN = NOW.astimezone(ZoneInfo("Europe/Berlin"))


class UserRow(Users, Row):
    """A user."""


class ItemRow(Items, Row): ...


class ValuesRow(Values, Row): ...


class Total(Row):
    count: int
    latest: dt.datetime | None
    amount: Decimal


class Team(Row):
    """A row of rows."""

    lead: UserRow
    totals: list[Total]


class Pair(Row):
    one: UserRow
    other: UserRow


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


class Answer(BaseModel):
    user: UserRow
    total: int
    others: list[UserRow] = []
    by_name: dict[str, UserRow] = {}
    maybe: UserRow | None = None
    totals: Total
    box: Box[ItemRow] | None = None


USER = UserRow(1, "é@b", True, Decimal("0.10"), "plain", {"a": [1, None]}, "note", BERLIN, 0.25, NOW, NOW)
TOTAL = Total(2, BERLIN, Decimal("12345678901234567890.50"))
ITEM = ItemRow(
    **dict.fromkeys(ItemRow.__struct_fields__)
    | {"id": 1, "user_id": 2, "class_": "x", "created_at": NOW, "updated_at": BERLIN}
)
VALUES = ValuesRow(
    **dict.fromkeys(ValuesRow.__struct_fields__)
    | {"id": 1, "binary": b"\0\xff", "uuid": uuid.UUID(int=5), "time": dt.time(1, 2), "timestamp": BERLIN}
    | {"created_at": NOW, "updated_at": NOW}
    | {"long_decimal": values.c.long_decimal.type.check(Decimal("1E-8"))}  # type: ignore[attr-defined]
)


def plain(row: Row) -> Any:
    """What a row is in the JSON that a route answers with it."""
    return json.loads(encode(in_utc(row)))


ANSWER = Answer(user=USER, total=1, others=[USER], by_name={"a": USER}, totals=TOTAL, box=Box(content=ITEM))
WRITTEN = {
    "user": plain(USER),
    "total": 1,
    "others": [plain(USER)],
    "by_name": {"a": plain(USER)},
    "maybe": None,
    "totals": plain(TOTAL),
    "box": {"content": plain(ITEM)},
}

CASES: list[tuple[Any, Any, Any]] = [
    (Answer, ANSWER, WRITTEN),
    (
        Answer,
        {"user": USER, "total": 1, "totals": TOTAL},
        {**WRITTEN, "others": [], "by_name": {}, "box": None},
    ),
    (dict[str, UserRow], {"a": USER}, {"a": plain(USER)}),
    (list[Answer], [ANSWER], [WRITTEN]),
    (tuple[UserRow, int], (USER, 5), [plain(USER), 5]),
    (UserRow | Total, TOTAL, plain(TOTAL)),
    (Box[ValuesRow], Box(content=VALUES), {"content": plain(VALUES)}),
    (UserRow, USER, plain(USER)),
    (list[UserRow], [USER, USER], [plain(USER)] * 2),
    (UserRow | None, None, None),
    (Team, Team(USER, [TOTAL]), {"lead": plain(USER), "totals": [plain(TOTAL)]}),
    (Pair, Pair(USER, USER), {"one": plain(USER), "other": plain(USER)}),
    (Box[Pair], Box(content=Pair(USER, USER)), {"content": plain(Pair(USER, USER))}),
]


@pytest.mark.parametrize(
    "make", [lambda: Router("x"), lambda: APIRouter(prefix="/v1/x")], ids=["ours", "plain"]
)
@pytest.mark.parametrize("by_annotation", [True, False])
@pytest.mark.parametrize(("kind", "result", "written"), CASES, ids=lambda value: str(value)[:30])
async def test_a_row_is_encoded_and_documented_alike_everywhere(
    make: Any, by_annotation: bool, kind: Any, result: Any, written: Any
) -> None:
    router = make()

    async def endpoint() -> Any:
        return result

    endpoint.__annotations__ = {"return": kind} if by_annotation else {}
    router.get("", **({} if by_annotation else {"response_model": kind}))(endpoint)
    async with client_of(application(router)) as client:
        answer = await client.get("/v1/x")
        assert (answer.status_code, answer.json()) == (200, written)
        document = (await client.get("/openapi.json")).json()
    schema = document["paths"]["/v1/x"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    root = {**schema, "components": document["components"]}
    jsonschema_rs.Draft202012Validator(root, validate_formats=True).validate(answer.json())


async def test_a_page_of_rows_of_rows_is_answered_and_documented() -> None:
    router = Router("x")

    @router.get("")
    async def page() -> Page[Team]:
        return Page([Team(USER, [TOTAL])], 1)

    async with client_of(application(router)) as client:
        assert (await client.get("/v1/x")).json() == {"items": [plain(Team(USER, [TOTAL]))], "next": 1}
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert schemas["Team"]["properties"]["lead"] == {"$ref": "#/components/schemas/UserRow"}


async def documented(*kinds: Any) -> dict[str, Any]:
    """The schemas of a document with a route that answers each of these types."""
    router = Router("x")
    for number, kind in enumerate(kinds):

        async def endpoint() -> Any: ...

        endpoint.__annotations__ = {"return": kind}
        router.get(f"/{number}")(endpoint)
    async with client_of(application(router)) as client:
        schemas: dict[str, Any] = (await client.get("/openapi.json")).json()["components"]["schemas"]
    return schemas


async def test_a_row_has_one_schema_everywhere() -> None:
    (by_itself,) = [schema for name, schema in (await documented(UserRow)).items() if "User" in name]
    assert by_itself["description"] == "A user."
    for kinds in (
        [Answer],
        [UserRow, Answer, Page[UserRow]],
        [Answer, list[UserRow]],
        [Pair],
        [Answer, Pair, Team],
    ):
        schemas = await documented(*kinds)
        assert [name for name in schemas if "User" in name and "Page" not in name] == ["UserRow"]
        assert schemas["UserRow"] == by_itself
    reference = {"$ref": "#/components/schemas/UserRow"}
    answer = (await documented(Answer))["Answer"]["properties"]
    assert (
        answer["user"] == answer["others"]["items"] == answer["by_name"]["additionalProperties"] == reference
    )


def test_pydantic_keeps_a_row_in_python_and_writes_it_in_json() -> None:
    assert ANSWER.user is USER and ANSWER.model_dump()["others"] == [USER]
    assert json.loads(ANSWER.model_dump_json()) == ANSWER.model_dump(mode="json") == WRITTEN
    with pytest.raises(ValidationError, match="instance of UserRow"):
        Answer(user={"id": 1}, total=1, totals=TOTAL)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="instance of UserRow"):
        Answer(user=TOTAL, total=1, totals=TOTAL)  # type: ignore[arg-type]
    assert TypeAdapter(UserRow).dump_json(USER) == encode(USER).replace(
        b"14:45:00.000001+01:00", b"13:45:00.000001Z"
    )
