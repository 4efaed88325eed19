"""Values of the cache: what comes out is what went in, with the types of the row's columns."""

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dbservice import Page, Row
from dbservice.cache.values import decode, encode

from ..assertions import identical, kind
from ..boundary_values import BOUNDARY_VALUES, COLUMNS
from ..sample_service import Users, Values

NOW = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)


class ValuesRow(Values, Row): ...


class UserRow(Users, Row): ...


class Team(Row):
    lead: UserRow
    others: list[UserRow]
    score: Decimal | None = None


def row(**values: Any) -> ValuesRow:
    managed = {"id": 2**63 - 1, "created_at": NOW, "updated_at": NOW}
    return ValuesRow.from_mapping(dict.fromkeys(ValuesRow.columns()) | managed | values)


def user(name: str) -> UserRow:
    some = {"id": 1, "email": name, "active": True, "balance": Decimal("0.10"), "rate": 0.25, "since": NOW}
    more = {"kind": "plain", "settings": {"a": [1, None]}, "note": "", "created_at": NOW, "updated_at": NOW}
    return UserRow.from_mapping(some | more)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_row_has_the_same_values_in_the_cache(column: sa.Column[Any]) -> None:
    for _, python, _ in [*BOUNDARY_VALUES[column.name], (None, None, None)]:
        value = python if python is None else kind(column).check(python)
        kept = row(**{column.name: value})
        found = decode(encode(kept), ValuesRow)
        assert found == kept
        for name in ValuesRow.__struct_fields__:
            assert identical(getattr(found, name), getattr(kept, name)), value


@pytest.mark.parametrize(
    ("value", "as_kind"),
    [
        ([user("a"), user("b")], list[UserRow]),
        ({"x": user("a")}, dict[str, UserRow]),
        (Page([user("a")], 7), Page[UserRow]),
        (Team(user("a"), [user("b")], Decimal("1E-9")), Team),
        (b"\0\xff", bytes),
        (b"", bytes),
        ("é\0", str),
        (5, int),
        (NOW, dt.datetime),
        (None, type(None)),
    ],
)
def test_other_values_may_hold_rows(value: Any, as_kind: Any) -> None:
    found = decode(encode(value), as_kind)
    assert found == value and type(found) is type(value)


def test_a_time_in_another_zone_is_the_same_time() -> None:
    kept = row(timestamp=NOW.astimezone(ZoneInfo("Europe/Berlin")))
    found = decode(encode(kept), ValuesRow)
    assert found and found.timestamp == NOW and found.timestamp.tzinfo is dt.UTC


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"id": 1}',
        encode(user("a")),
        encode(row()).replace(b'"uuid":null', b'"uuid":"x"'),
        encode(row()).replace(b'"id":9223372036854775807', b'"id":null'),
    ],
)
def test_what_does_not_fit_is_not_there(stored: bytes) -> None:
    assert decode(stored, ValuesRow) is None


def test_an_unknown_field_of_another_version_is_ignored() -> None:
    assert decode(encode(row()).replace(b"{", b'{"newer":1,', 1), ValuesRow) == row()


def test_a_row_still_accepts_what_a_query_answers() -> None:
    """msgspec checks no type when a row is made, and the annotations of a row are for the cache only."""
    assert repr(UserRow.from_mapping(dict.fromkeys(UserRow.columns(), object)).email) == repr(object)
