"""The column types and the reading of JSON bodies, without an engine: what a value is, and what is refused."""

import contextlib
import datetime as dt
import json
import math
import re
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dbservice import types as t

from ..assertions import identical, kind
from ..boundary_values import BOUNDARY_VALUES, COLUMNS, INVALID_VALUES, STRATEGIES
from ..sample_service import values
from ..subclass_values import SUBCLASSES, Nanoseconds


def test_every_type_has_boundary_values() -> None:
    ours = {column.name for column in values.columns} - {"id", "created_at", "updated_at"}
    assert ours == set(BOUNDARY_VALUES) == set(INVALID_VALUES) == set(STRATEGIES)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_boundary_values_are_accepted(column: sa.Column[Any]) -> None:
    for sent, python, _ in BOUNDARY_VALUES[column.name]:
        taken = kind(column).from_json(sent)
        assert taken == python and identical(kind(column).check(taken), taken), sent
        if not isinstance(taken, Decimal):
            assert identical(taken, python), sent
        else:
            assert taken.as_tuple() == python.as_tuple() and "E" not in str(taken), sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_invalid_values_are_refused(column: sa.Column[Any]) -> None:
    for sent in INVALID_VALUES[column.name]:
        with pytest.raises(ValueError, match=r"^must (be|have|hold|lie|not) ") as refusal:
            kind(column).from_json(sent)
        assert len(str(refusal.value)) < 120, sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_the_schema_in_openapi_accepts_what_the_type_accepts(column: sa.Column[Any]) -> None:
    """Every answer fits the schema of answers, and may be sent back."""
    for schema in (kind(column).answer_schema(), kind(column).json_schema()):
        for _, _, answered in BOUNDARY_VALUES[column.name]:
            assert any(_fits(answered, each) for each in schema.get("anyOf", [schema])), answered
    for number in (0, 1, 7, 12345):
        assert kind(column).from_json(kind(column).example(number)) is not None


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    allowed = (
        [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", list(names.values()))
    )
    name = names[type(value)]
    if name not in allowed and not (name == "integer" and "number" in allowed):
        return False
    return (
        ("maxLength" not in schema or len(value) <= schema["maxLength"])
        and ("pattern" not in schema or bool(re.search(schema["pattern"], value)))
        and ("enum" not in schema or value in schema["enum"])
        and schema.get("minimum", -math.inf)
        <= (value if isinstance(value, int) else 0)
        <= schema.get("maximum", math.inf)
    )


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_any_value_is_accepted_unchanged_or_refused(column: sa.Column[Any]) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(STRATEGIES[column.name])
    def taken(pair: tuple[Any, Any]) -> None:
        sent, python = pair
        value = kind(column).from_json(sent)
        assert value == python and identical(kind(column).check(python), value)

    @settings(max_examples=100, deadline=None, database=None)
    @given(_ANYTHING)
    def never_an_error_of_another_kind(value: Any) -> None:
        for read in (kind(column).from_json, kind(column).check):
            try:
                held = read(value)
            except ValueError:
                continue
            assert identical(kind(column).check(held), held)
        with contextlib.suppress(ValueError):
            kind(column).parameter(value)

    taken()
    never_an_error_of_another_kind()


_ANYTHING = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    st.decimals() | st.dates() | st.datetimes() | st.times() | st.timedeltas() | st.uuids() | st.fractions(),
    st.datetimes(timezones=st.timezones()) | st.times(timezones=st.timezones()) | st.builds(object),
    st.lists(st.integers() | st.text()) | st.dictionaries(st.text() | st.integers(), st.floats()),
    st.integers(-(10**400), 10**400) | st.from_regex(r"-?[0-9]+(\.[0-9]+)?", fullmatch=True),
)


@pytest.mark.parametrize(("column", "value", "meant"), SUBCLASSES)
def test_a_subclass_is_normalized_to_its_value(column: str, value: Any, meant: Any) -> None:
    held = kind(values.c[column]).check(value)
    assert identical(held, meant)
    if column == "json":
        assert t.JSON.dumps(held) == json.dumps(meant, separators=(",", ":"))


def test_a_subclass_that_holds_more_than_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be finer than a microsecond"):
        t.Timestamp().check(Nanoseconds(2024, 1, 31, tzinfo=dt.UTC))


def test_a_decimal_is_exact_whatever_the_context_says() -> None:
    import decimal

    with decimal.localcontext() as context:
        context.prec, context.rounding = 3, decimal.ROUND_UP
        long = "12345678901234567890123456789012345.123456789012345678901234567890"
        assert str(t.Numeric(65, 30).from_json(long)) == long
        context.traps[decimal.Inexact] = True
        assert str(t.Numeric(38, 10).from_json("-0.0000000001")) == "-0.0000000001"
    most = t.Numeric(12, 2)
    for text in ("1E+999999", "1E-999999", "Infinity", "-Infinity", "NaN", "sNaN", "9999999999.995"):
        with pytest.raises(ValueError, match=r"^must "):
            most.check(Decimal(text))
    for text, meant in [
        ("0E+999999", "0.00"),
        ("-0", "0.00"),
        ("1E+9", "1000000000.00"),
        ("1." + "0" * 5000, "1.00"),
    ]:
        assert str(most.check(Decimal(text))) == meant
    with pytest.raises(ValueError, match="digits before the point"):
        most.check(10**5000)
