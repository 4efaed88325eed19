"""Rows and bodies: what a table's columns become in Python and in JSON, whatever they are called."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import Field, ValidationError, field_validator

from dbservice import Create, Page, Patch, Row, query
from dbservice.http.encoding import encode
from dbservice.schema import MANAGED_COLUMNS, Column, Table, public_columns
from dbservice.types import JSON, Integer, String

from ..sample_service import Items, Users, Values, attribute, items, users, values

NOW = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)


class ItemsRow(Items, Row): ...


class ItemsCreate(Items, Create): ...


class ItemsPatch(Items, Patch): ...


class UsersRow(Users, Row): ...


class UsersCreate(Users, Create): ...


class UsersPatch(Users, Patch): ...


# --- names

AWKWARD = [
    column.name for column in items.columns if column.name not in MANAGED_COLUMNS and not column.foreign_keys
]


def filled(table: sa.Table) -> dict[str, Any]:
    return {column.name: number for number, column in enumerate(table.columns)}


@pytest.mark.parametrize("name", AWKWARD)
def test_a_column_of_any_name_is_an_attribute_and_keeps_its_name_in_json(name: str) -> None:
    row = ItemsRow.from_mapping(filled(items))
    assert getattr(row, attribute(name)) == filled(items)[name]
    assert json.loads(encode(row)) == filled(items)
    for body in (ItemsCreate, ItemsPatch):
        new = body.model_validate({"user_id": 1, name: "x"})
        assert getattr(new, attribute(name)) == "x" and new.changes() == {"user_id": 1, name: "x"}
        with pytest.raises(ValidationError):
            body.model_validate({"user_id": 1, f"{name}_": "x"})


def test_a_row_answers_the_columns_in_their_order() -> None:
    assert ItemsRow.columns() == tuple(column.name for column in items.columns)
    assert list(json.loads(encode(ItemsRow.from_mapping(filled(items))))) == [
        column.name for column in items.columns
    ]


# --- rows


def test_a_row_is_made_by_column_and_cannot_be_changed() -> None:
    row = UsersRow.from_mapping({**filled(users), "more": 1})
    assert row.email == filled(users)["email"] and row == UsersRow.from_mapping(filled(users))
    with pytest.raises(AttributeError):
        row.email = "other"  # type: ignore[call-overload]
    with pytest.raises(KeyError):
        UsersRow.from_mapping({"id": 1})


def test_a_row_has_no_secret() -> None:
    assert "password" not in UsersRow.columns() and "password" not in [
        column.name for column in public_columns(users)
    ]
    row = UsersRow.from_mapping({**filled(users), "password": "geheim"})
    assert "geheim" not in repr(row) + encode(row).decode() and not hasattr(row, "password")
    assert "password" not in UsersRow.openapi_model().model_fields


def test_values_are_written_as_the_contract_says() -> None:
    class ValuesRow(Values, Row): ...

    row = dict.fromkeys(ValuesRow.columns())
    row |= {
        "id": 2**63 - 1,
        "decimal": Decimal("-0.10"),
        "long_decimal": values.c.long_decimal.type.check(Decimal("0.0000000001")),  # type: ignore[attr-defined]
        "date": dt.date(1, 1, 1),
        "time": dt.time(13, 45, 0, 1),
        "timestamp": NOW,
        "uuid": uuid.UUID(int=7),
        "binary": b"\0\xff",
        "json": {"a": [1, 1.5, None, True]},
        "float": 1e300,
    }
    assert json.loads(encode(ValuesRow.from_mapping(row))) == row | {
        "decimal": "-0.10",
        "long_decimal": "0.0000000001",
        "date": "0001-01-01",
        "time": "13:45:00.000001",
        "timestamp": "2024-01-31T13:45:00.000001Z",
        "uuid": "00000000-0000-0000-0000-000000000007",
        "binary": "AP8=",
    }


def test_a_page_is_its_rows_and_the_next_id() -> None:
    row = UsersRow.from_mapping(filled(users))
    assert json.loads(encode(Page([row], 7))) == {"items": [json.loads(encode(row))], "next": 7}
    assert encode(Page([], None)) == b'{"items":[],"next":null}'


def test_a_row_may_have_more_than_its_columns() -> None:
    class Shouting(Users, Row):
        @property
        def loud(self) -> str:
            return str(self.email).upper()

    row = Shouting.from_mapping({**filled(users), "email": "a@b"})
    assert row.loud == "A@B" and "loud" not in json.loads(encode(row))


# --- bodies


def test_only_the_fields_that_were_named_count_as_sent() -> None:
    assert UsersCreate.model_validate({"email": "a"}).changes() == {"email": "a"}
    assert UsersCreate.model_validate({"email": "a", "password": None}).changes() == {
        "email": "a",
        "password": None,
    }
    assert UsersPatch.model_validate({}).changes() == {}
    sent = UsersPatch.model_validate(
        {"balance": "1.5", "since": "2024-01-31T15:45:00.000001+02:00"}
    ).changes()
    assert sent == {"balance": Decimal("1.50"), "since": NOW} and str(sent["balance"]) == "1.50"


def test_each_body_has_defaults_of_its_own() -> None:
    one, two = (UsersCreate.model_validate({"email": "a"}) for _ in range(2))
    assert (
        one.active is True and one.balance == Decimal("0.00") and one.kind == "plain" and one.password is None
    )
    assert one.since == NOW and one.rate == 0.25
    one.settings["theme"] = "light"
    assert two.settings == UsersCreate.model_validate({"email": "a"}).settings == {"theme": "it's \\ dark é"}


def test_a_required_column_must_be_named() -> None:
    with pytest.raises(ValidationError) as caught:
        UsersCreate.model_validate({})
    assert [(each["loc"], each["type"]) for each in caught.value.errors()] == [(("email",), "missing")]


def test_a_body_shows_no_values() -> None:
    for body in (UsersCreate, UsersPatch):
        new = body.model_validate({"email": "a@b", "password": "geheim"})
        shown = f"{new!r} {new!s} {new} {[new]}"
        assert "geheim" not in shown and "a@b" not in shown and body.__name__ in repr(new)
        with pytest.raises(ValidationError) as caught:
            body.model_validate({"email": ["a@b"], "password": ["geheim"], "geheim": "geheim"})
        assert "a@b" not in str(caught.value) and "input_value" not in str(caught.value)


def test_a_field_may_be_written_by_hand() -> None:
    class Strict(Users, Create):
        email: Annotated[str, Field(pattern="^[^@]+@[^@]+$")]
        active: bool
        rate: float = 7.0

        @field_validator("note")
        @classmethod
        def _short(cls, value: str) -> str:
            if len(value) > 9:
                raise ValueError("must be short")
            return value

    new = Strict.model_validate({"email": "a@b", "note": "fine"})
    assert (new.email, new.active, new.rate, new.kind) == ("a@b", True, 7.0, "plain")
    assert new.changes() == {"email": "a@b", "note": "fine"}
    for wrong in ({"email": "ab"}, {"email": "a@b", "note": "much too long"}, {}):
        with pytest.raises(ValidationError):
            Strict.model_validate(wrong)

    class Partly(Items, Patch):
        class_: Annotated[str, Field(max_length=3)]

    assert Partly.model_validate({}).changes() == {}
    assert Partly.model_validate({"class": "abc"}).changes() == {"class": "abc"}
    with pytest.raises(ValidationError):
        Partly.model_validate({"class": "abcd"})


def test_a_body_may_be_built_upon() -> None:
    class Longer(UsersCreate):
        """With a field that is no column."""

        captcha: str

    new = Longer.model_validate({"email": "a", "captcha": "x"})
    assert new.captcha == "x" and new.changes() == {"email": "a"}


def test_what_documents_an_answer_is_told_apart_from_what_documents_a_body() -> None:
    body, answer = (
        UsersCreate.model_json_schema(),
        UsersRow.openapi_model().model_json_schema(mode="serialization"),
    )
    assert body["properties"]["balance"]["anyOf"][1]["type"] == "number"
    assert answer["properties"]["balance"]["type"] == "string"
    assert body["required"] == ["email"] and answer["required"] == list(UsersRow.columns())


# --- queries of one's own


class Total(Row):
    """How many there are."""

    count: int
    latest: dt.datetime | None = None


class Renamed(Row):
    class_: str = msgspec.field(name="class")
    sum: Decimal


TOTAL = query(
    Total, sa.select(sa.func.count().label("count"), sa.func.max(users.c.created_at).label("latest"))
)
KINDS = query(
    Renamed,
    sa.select(users.c.kind.label("class"), sa.func.sum(users.c.balance).label("sum"))
    .group_by(users.c.kind)
    .order_by(users.c.kind),
)


# --- tables of odd shapes


async def test_a_table_of_nothing_but_what_every_table_has(tmp_path: Path) -> None:
    class Bare(Table, name="bare", metadata=sa.MetaData()): ...

    class BareRow(Bare, Row): ...

    class BareCreate(Bare, Create): ...

    assert BareRow.columns() == MANAGED_COLUMNS
    assert BareCreate.model_validate({}).changes() == {}
    with pytest.raises(ValidationError):
        BareCreate.model_validate({"id": 1})


def test_names_of_pydantic_and_msgspec_internals_are_columns_too() -> None:
    names = ["fields_set", "model_", "model_name", "self", "cls", "name", "mro", "register"]
    names += ["validate", "construct", "parse_obj", "model_post_init"]

    class Odd(Table, name="odd", metadata=sa.MetaData()):
        vars().update({attribute(name): Column(Integer(), nullable=True, name=name) for name in names})
        root = Column(JSON(), nullable=True)
        data = Column(String(3), nullable=True)

    class OddRow(Odd, Row): ...

    class OddCreate(Odd, Create): ...

    given = {column.name: None for column in Odd.__table__.columns}
    assert json.loads(encode(OddRow.from_mapping(given))) == given
    sent = {
        "validate": 1,
        "construct": 2,
        "model_post_init": 3,
        "self": 4,
        "cls": 5,
        "root": [1],
        "data": "abc",
    }
    assert OddCreate.model_validate(sent).changes() == sent
    app = FastAPI()

    @app.post("/")
    async def create(new: OddCreate) -> dict[str, Any]:
        return new.changes()

    assert set(app.openapi()["components"]["schemas"]["OddCreate"]["properties"]) == set(given) - {
        *MANAGED_COLUMNS
    }
