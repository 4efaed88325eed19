"""Answers in JSON: one format for each type, whatever its subclass or time zone, in a row and elsewhere."""

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import Response
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from dbservice import Page, Row
from dbservice.http import Router
from dbservice.http.encoding import encode, in_utc
from dbservice.reads import Rows

from ..asgi import application, client_of
from ..sample_service import Values, attribute
from ..subclass_values import SUBCLASSES

BERLIN = ZoneInfo("Europe/Berlin")
WRITTEN = "2024-01-31T13:45:00.000001Z"


class Moment(dt.datetime):
    """As libraries of times have them."""

    def __str__(self) -> str:
        return "a moment"

    isoformat = __str__  # type: ignore[assignment]


class Zone(dt.tzinfo):
    def utcoffset(self, at: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=-3, minutes=-30)

    def dst(self, at: dt.datetime | None) -> None:
        return None

    def tzname(self, at: dt.datetime | None) -> str:
        return "nowhere"


TIMES = [
    dt.datetime(2024, 1, 31, 13, 45, 0, 1, dt.UTC),
    dt.datetime(2024, 1, 31, 13, 45, 0, 1, ZoneInfo("UTC")),
    dt.datetime(2024, 1, 31, 14, 45, 0, 1, BERLIN),
    dt.datetime(2024, 1, 31, 10, 15, 0, 1, Zone()),
    dt.datetime(2024, 2, 1, 3, 45, 0, 1, dt.timezone(dt.timedelta(hours=14))),
    Moment(2024, 1, 31, 13, 45, 0, 1, dt.UTC),
    Moment(2024, 1, 31, 14, 45, 0, 1, BERLIN),
    Moment(2024, 1, 31, 10, 15, 0, 1, Zone()),
]


class Any_(Row):
    """A row of anything."""

    value: Any


class Timed(Row):
    at: dt.datetime
    until: dt.datetime | None = None


class ValuesRow(Values, Row):
    """A row of a table."""


async def answered(result: Any, annotation: Any = None, **options: Any) -> Any:
    """The JSON that a route answers which returns `result` and says that it answers `annotation`."""
    router = Router("x")

    async def endpoint() -> Any:
        return result

    def in_a_thread() -> Any:
        return result

    texts = []
    for each in (endpoint, in_a_thread):
        each.__annotations__ = {} if annotation is None else {"return": annotation}
        router.get(f"/{each.__name__}", **options)(each)
    async with client_of(application(router)) as client:
        for each in (endpoint, in_a_thread):
            answer = await client.get(f"/v1/x/{each.__name__}")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/json"
            texts.append(answer.text)
    assert texts[0] == texts[1]
    return json.loads(texts[0])


# --- rows


@pytest.mark.parametrize("time", TIMES, ids=lambda time: f"{type(time).__name__} {time.tzinfo!s:.20}")
async def test_every_time_is_answered_in_utc(time: dt.datetime) -> None:
    table_row = ValuesRow(
        **dict.fromkeys(ValuesRow.__struct_fields__) | {"timestamp": time, "created_at": time}
    )
    for row in (Any_(time), Any_([time, {"at": time}, (time,)]), Timed(time), Timed(time, time), table_row):
        for result, kind in (
            (row, type(row)),
            ([row, row], list[type(row)]),  # type: ignore[misc]
            (Page([row], 1), Page[type(row)]),  # type: ignore[misc]
        ):
            text = json.dumps(await answered(result, kind))
            assert WRITTEN in text and "+" not in text and "moment" not in text


async def test_a_time_without_an_offset_is_no_point_in_time() -> None:
    for row in (Timed(dt.datetime(2024, 1, 31)), Timed(Moment(2024, 1, 31))):
        with pytest.raises(ValueError, match="must have an offset from UTC"):
            in_utc(row)
            encode(in_utc(row))


class Colour(enum.StrEnum):
    RED = "red"


class Kind(str):
    __str__ = lambda self: "a lie"  # noqa: E731


class Size(int):
    __str__ = lambda self: "a lie"  # noqa: E731


class Ratio(float):
    __repr__ = lambda self: "a lie"  # noqa: E731


class Money(Decimal):
    __str__ = lambda self: "a lie"  # noqa: E731


class Day(dt.date):
    __str__ = isoformat = lambda self: "a lie"


class Hour(dt.time):
    __str__ = lambda self: "a lie"  # noqa: E731


class Data(bytes):
    __str__ = lambda self: "a lie"  # noqa: E731


class Key(uuid.UUID):
    __str__ = lambda self: "a lie"  # noqa: E731


ALIKE: list[tuple[Any, Any, str]] = [
    ("red", Colour.RED, '"red"'),
    ("a", Kind("a"), '"a"'),
    (5, Size(5), "5"),
    (1.5, Ratio(1.5), "1.5"),
    (Decimal("1.50"), Money("1.50"), '"1.50"'),
    (dt.date(2024, 1, 31), Day(2024, 1, 31), '"2024-01-31"'),
    (dt.time(13, 45, 0, 1), Hour(13, 45, 0, 1), '"13:45:00.000001"'),
    (b"\0\xff", Data(b"\0\xff"), '"AP8="'),
    (b"\0\xff", bytearray(b"\0\xff"), '"AP8="'),
    (uuid.UUID(int=5), Key(int=5), '"00000000-0000-0000-0000-000000000005"'),
    ([1], type("List", (list,), {})([1]), "[1]"),
    ({"a": 1}, type("Dict", (dict,), {})(a=1), '{"a":1}'),
]


@pytest.mark.parametrize(("plain", "special", "written"), ALIKE, ids=lambda value: type(value).__name__)
async def test_a_subclass_is_answered_as_its_plain_type_is(plain: Any, special: Any, written: str) -> None:
    for value in (plain, special):
        assert encode(in_utc(Any_(value))).decode() == f'{{"value":{written}}}'
        assert await answered(Any_([value]), Any_) == {"value": [json.loads(written)]}


@pytest.mark.parametrize(("column", "value", "held"), SUBCLASSES)
def test_what_a_column_takes_is_answered_as_what_it_holds(column: str, value: Any, held: Any) -> None:
    try:
        row = ValuesRow(**dict.fromkeys(ValuesRow.__struct_fields__) | {attribute(column): value})
        text = encode(in_utc(row))
    except ValueError as error:
        assert "microsecond" in str(error)
        return
    if column in ("decimal", "long_decimal"):  # a row that no column has rounded
        assert Decimal(json.loads(text)[column]) == held
    else:
        assert json.loads(text) == json.loads(
            encode(ValuesRow(**dict.fromkeys(ValuesRow.__struct_fields__) | {attribute(column): held}))
        )


def test_the_rows_of_a_query_are_not_looked_at_again() -> None:
    rows = Rows([Any_(1)])
    assert in_utc(rows) is rows
    page = Page(rows, None)
    assert in_utc(page) is page


# --- FastAPI's usual way


class Model(BaseModel):
    at: dt.datetime
    amount: Decimal


ANYTHING = {
    "at": TIMES[2],
    "amount": Decimal("1.50"),
    "data": b"\0\xff",
    "row": Timed(TIMES[2]),
    "id": uuid.UUID(int=5),
    "list": [TIMES[0], {"deep": (Decimal("0.10"), None)}],
    5: {1.5, True},
}
ANYTHING_WRITTEN = {
    "at": WRITTEN,
    "amount": "1.50",
    "data": "AP8=",
    "row": {"at": WRITTEN, "until": None},
    "id": "00000000-0000-0000-0000-000000000005",
    "list": [WRITTEN, {"deep": ["0.10", None]}],
    "5": [1.5, True],
}


async def test_an_endpoint_without_a_return_type_is_encoded_like_rows() -> None:
    found = await answered(ANYTHING)
    found["5"].sort(reverse=True)
    assert found == ANYTHING_WRITTEN
    for result, expected in (
        (Timed(TIMES[3]), {"at": WRITTEN, "until": None}),
        ([Timed(TIMES[3])], [{"at": WRITTEN, "until": None}]),
        (Page([Timed(TIMES[3])], 7), {"items": [{"at": WRITTEN, "until": None}], "next": 7}),
        ("text", "text"),
        (None, None),
        (5, 5),
        ({"model": Model(at=TIMES[0], amount=Decimal("1.50"))}, {"model": {"at": WRITTEN, "amount": "1.50"}}),
        (Model(at=TIMES[0], amount=Decimal("1.50")), {"at": WRITTEN, "amount": "1.50"}),
    ):
        assert await answered(result) == expected, result


async def test_an_endpoint_with_a_pydantic_model_answers_decimals_and_utc_as_rows_do() -> None:
    made = Model(at=TIMES[0], amount=Decimal("1.50"))
    for result, kind in ((made, Model), ({"at": TIMES[0], "amount": Decimal("1.50")}, dict[str, Any])):
        assert await answered(result, kind) == {"at": WRITTEN, "amount": "1.50"}
        assert await answered(result, response_model=kind) == {"at": WRITTEN, "amount": "1.50"}


async def test_a_response_model_may_be_a_row() -> None:
    expected = {"at": WRITTEN, "until": None}
    assert await answered(Timed(TIMES[3]), response_model=Timed) == expected
    assert await answered([Timed(TIMES[3])], response_model=list[Timed]) == [expected]
    # what is said to the decorator counts
    assert await answered({"at": TIMES[0], "until": None}, Timed, response_model=dict[str, Any]) == expected


async def test_other_responses_are_encoded_by_fastapi() -> None:
    router = Router("x")

    @router.get("/text", response_class=PlainTextResponse)
    async def text():  # type: ignore[no-untyped-def]
        return "text"

    @router.get("/response")
    async def response():  # type: ignore[no-untyped-def]
        return Response(b"bytes", 203, media_type="image/x")

    @router.get("/nothing", status_code=204)
    async def nothing(): ...  # type: ignore[no-untyped-def]

    @router.get("/stream")
    async def stream():  # type: ignore[no-untyped-def]
        yield {"number": 1}
        yield {"number": 2}

    @router.get("/header")
    async def header(response: Response):  # type: ignore[no-untyped-def]
        response.headers["x-said"], response.status_code = "yes", 202
        return {"amount": Decimal("1.50")}

    async with client_of(application(router)) as client:
        assert (await client.get("/v1/x/text")).text == "text"
        answer = await client.get("/v1/x/response")
        assert (answer.content, answer.status_code) == (b"bytes", 203)
        answer = await client.get("/v1/x/nothing")
        assert (answer.content, answer.status_code) == (b"", 204)
        assert (await client.get("/v1/x/stream")).text == '{"number": 1}\n{"number": 2}\n'
        answer = await client.get("/v1/x/header")
        assert (answer.json(), answer.status_code) == ({"amount": "1.50"}, 202)
        assert answer.headers["x-said"] == "yes"
