"""The column types and the reading of JSON bodies, without an engine: what a value is, and what is refused."""

import contextlib
import datetime as dt
import enum
import json
import math
import re
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dbservice import Row, query
from dbservice import types as t
from dbservice.http.bodies import loads

from .edges import ANY, EDGES, REFUSED
from .specimen import values

COLUMNS = [column for column in values.columns if column.name in EDGES]


def kind(column: sa.Column[Any]) -> t.ColumnType:
    assert isinstance(column.type, t.ColumnType)
    return column.type


def identical(one: Any, other: Any) -> bool:
    """Equal, of the same type, and told apart by nothing that Python shows."""
    return type(one) is type(other) and one == other and repr(one) == repr(other)


def test_every_type_has_its_edges() -> None:
    ours = {column.name for column in values.columns} - {"id", "created_at", "updated_at"}
    assert ours == set(EDGES) == set(REFUSED) == set(ANY)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_what_is_taken(column: sa.Column[Any]) -> None:
    for sent, python, _ in EDGES[column.name]:
        taken = kind(column).from_json(sent)
        assert taken == python and identical(kind(column).check(taken), taken), sent
        if not isinstance(taken, Decimal):
            assert identical(taken, python), sent
        else:
            assert taken.as_tuple() == python.as_tuple() and "E" not in str(taken), sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_what_is_refused(column: sa.Column[Any]) -> None:
    for sent in REFUSED[column.name]:
        with pytest.raises(ValueError, match=r"^must (be|have|hold|lie|not) ") as refusal:
            kind(column).from_json(sent)
        assert len(str(refusal.value)) < 120, sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_what_openapi_says_is_true(column: sa.Column[Any]) -> None:
    """Every answer fits the schema of answers, and may be sent back."""
    for schema in (kind(column).answer_schema(), kind(column).json_schema()):
        for _, _, answered in EDGES[column.name]:
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
def test_anything_else(column: sa.Column[Any]) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(ANY[column.name])
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


# --- subclasses mean what they are, not what they say


class Colour(str, enum.Enum):  # noqa: UP042 what StrEnum does not do: str() of a member is its name
    RED = "a"


class Level(enum.IntEnum):
    HIGH = 1


class Liar(str):
    def __str__(self) -> str:
        return "'; DROP TABLE items; --"


class LyingDate(dt.date):
    def isoformat(self) -> str:
        return "'; DROP TABLE items; --"


class LyingTime(dt.time):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


class LyingTimestamp(dt.datetime):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


class Nanoseconds(dt.datetime):
    """As pandas has it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds) and super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = dt.datetime.__hash__


class LyingUuid(uuid.UUID):
    def __str__(self) -> str:
        return "'; DROP TABLE items; --"

    hex = property(__str__)


class LyingDecimal(Decimal):
    def __str__(self) -> str:
        return "1); DROP TABLE items; --"

    def __format__(self, *_: Any) -> str:
        return str(self)


class LyingFloat(float):
    def __repr__(self) -> str:
        return "1); DROP TABLE items; --"


class LyingInt(int):
    def __str__(self) -> str:
        return "1); DROP TABLE items; --"


class LyingBytes(bytes):
    def hex(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


MOMENT = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)
ID = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")
SUBCLASSES: list[tuple[str, Any, Any]] = [
    ("string", Colour.RED, "a"),
    ("string", Liar("abc"), "abc"),
    ("text", Liar("abc"), "abc"),
    ("enum", Colour.RED, "a"),
    ("enum", Liar("b"), "b"),
    ("integer", Level.HIGH, 1),
    ("integer", LyingInt(5), 5),
    ("bigint", LyingInt(-5), -5),
    ("decimal", LyingDecimal("1.5"), Decimal("1.50")),
    ("decimal", LyingInt(5), Decimal("5.00")),
    ("long_decimal", LyingDecimal("-1.5"), t.PlainDecimal("-1.5000000000")),
    ("float", LyingFloat(1.5), 1.5),
    ("float", LyingInt(3), 3.0),
    ("date", LyingDate(2024, 1, 31), dt.date(2024, 1, 31)),
    ("time", LyingTime(13, 45, 0, 1), dt.time(13, 45, 0, 1)),
    ("time", dt.time(1, 30, fold=1), dt.time(1, 30)),
    ("timestamp", LyingTimestamp(2024, 1, 31, 13, 45, 0, 1, dt.UTC), MOMENT),
    ("timestamp", dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), MOMENT.replace(2024, 10, 27, 1, 30, 0, 0)),
    ("timestamp", dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), MOMENT.replace(2024, 10, 27, 0, 30, 0, 0)),
    ("uuid", LyingUuid(str(ID)), ID),
    ("binary", LyingBytes(b"a'"), b"a'"),
    ("binary", bytearray(b"a'"), b"a'"),
    ("binary", memoryview(b"xa'x")[1:3], b"a'"),
    ("json", {Colour.RED: Colour.RED}, {"a": "a"}),
    ("json", (Level.HIGH, LyingFloat(1.5), Liar("abc")), [1, 1.5, "abc"]),
]  # fmt: skip
"""Column, value, what it is."""


@pytest.mark.parametrize(("column", "value", "meant"), SUBCLASSES)
def test_a_subclass_is_what_it_holds(column: str, value: Any, meant: Any) -> None:
    held = kind(values.c[column]).check(value)
    assert identical(held, meant)
    if column == "json":
        assert t.JSON.dumps(held) == json.dumps(meant, separators=(",", ":"))


def test_what_a_subclass_holds_beyond_its_type_is_refused() -> None:
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


class Answer(Row):
    """A row of one computed value."""

    value: Any


def test_a_query_computes_only_what_every_engine_computes_alike() -> None:
    c, f = values.c, sa.func

    def asked(expression: Any) -> Any:
        return query(Answer, sa.select(expression.label("value")))

    for expression, sentence in (
        (f.avg(c.decimal), r"avg\(\) of Numeric\(12, 2\): the engines do not"),
        (f.abs(c.decimal), r"abs\(\) of Numeric"),
        (f.round(c.long_decimal, 1), "the engines do not"),
        (f.max(f.nullif(c.decimal, c.decimal)), r"nullif\(\) of Numeric"),
        (sa.cast(c.decimal, sa.Integer()), r"CAST of Numeric"),
        (sa.extract("year", c.timestamp), r"EXTRACT of Timestamp"),
        (c.decimal * 2, "do not reckon alike"),
        (c.decimal + c.decimal, "do not reckon alike"),
        (2 * c.decimal, "do not reckon alike"),
        (c.decimal / 2, "do not reckon alike"),
        (-c.long_decimal, "do not reckon alike"),
        (c.timestamp - c.timestamp, "do not reckon alike"),
        (c.date + 1, "do not reckon alike|must be a date"),
        (c.integer + c.decimal, "do not reckon alike"),
        (c.float * c.decimal, "do not reckon alike"),
        (c.decimal == c.whole_decimal, "do not compare"),
        (c.decimal > c.integer, "do not compare"),
        (c.integer == c.decimal, "do not compare"),
        (c.integer.between(c.decimal, c.decimal), "do not compare"),
        (c.decimal.in_(sa.select(c.integer)), "do not compare"),
        (c.timestamp == c.date, "do not compare"),
        (c.string == c.integer, "do not compare"),
        (c.binary == c.string, "do not compare"),
        (c.json == c.json, "do not compare JSON"),
        (c.integer == sa.literal("x", c.integer.type), "must be a whole number"),
        (f.max(c.boolean), r"max\(\) of Boolean"),
        (f.min(c.uuid), r"min\(\) of Uuid"),
        (f.sum(c.string), r"sum\(\) of String"),
        (f.substr(c.string, 0), r"substr\(\) of String"),
        (sa.literal(Decimal(1)), "has no type of its own here"),
        (c.created_at < f.now(), "do not compare"),
        (f.coalesce(c.decimal, 1), r"COALESCE mixes .*Numeric\(12, 2\).*: give a value its type"),
        (f.coalesce(c.decimal, c.long_decimal), "mixes"),
        (sa.case((c.boolean, c.decimal), else_=1), "CASE mixes"),
        (f.avg(c.integer), r"select sum\(\) and count\(\)"),
        (f.length(c.text), r"MySQL counts bytes, use char_length"),
        (f.lower(c.string), "do not fold the same letters"),
        (c.string.ilike("x"), "do not fold the same letters"),
        (c.text.icontains("x"), "do not fold the same letters"),
        (c.integer / 2, "do not divide whole numbers alike"),
        (c.integer // c.bigint, "do not divide whole numbers alike"),
    ):
        with pytest.raises(TypeError, match=sentence):
            asked(expression)
    zero = sa.literal(Decimal(0), c.decimal.type)
    for expression in (
        f.sum(sa.case((c.boolean, c.decimal), else_=zero)),
        f.coalesce(f.sum(c.decimal), zero),
        sa.case((c.boolean, c.decimal), else_=None),
        f.max(c.timestamp),
        f.count(c.json),
        f.avg(c.float),
        f.abs(c.integer),
        f.char_length(c.string),
        f.row_number().over(order_by=c.id),
        c.float / 2,
        c.integer % 2,
        -c.integer,
        c.integer * c.bigint,
        c.string.concat(c.text),
        c.integer > c.float,
        c.decimal > c.decimal,
        c.decimal.is_(None),
        c.boolean.is_(True),
        c.boolean == sa.true(),
        c.timestamp.between(sa.bindparam("x"), sa.bindparam("y")),
        c.decimal.in_([Decimal(1)]),
        c.id.in_(sa.select(c.bigint)),
        c.string.like("x%"),
        c.id == sa.literal(1),
        sa.exists().where(c.id == 1),
        sa.and_(c.boolean, c.integer == 1),
    ):
        assert asked(expression)
    with pytest.raises(TypeError, match="a set operation mixes"):
        query(Answer, sa.union_all(sa.select(c.decimal.label("value")), sa.select(c.whole_decimal)))  # type: ignore[call-overload]


# --- bodies

BODIES: list[tuple[bytes, Any]] = [
    (b"0", 0),
    (b"-0", 0),
    (b"-0.0", -0.0),
    (b"9223372036854775807", 2**63 - 1),
    (b"-9223372036854775808", -(2**63)),
    (b"18446744073709551615", 2**64 - 1),
    (b"0.1", 0.1),
    (b"0.10000000000000000000", 0.1),
    (b"0.30000000000000004", 0.1 + 0.2),
    (b"1E5", 1e5),
    (b"1.50e+0003", 1500.0),
    (b"2.5e-5", 2.5e-5),
    (b"5e-324", 5e-324),
    (b"1.7976931348623157e308", 1.7976931348623157e308),
    (b"0.0e-999999", 0.0),
    (b"1" + b"0" * 22 + b".0", 1e22),
    ('"é😀"'.encode(), "é😀"),
    (rb'"\u00e9\ud83d\ude00\/\"\\"', 'é😀/"\\'),
    (b' \t\r\n{"a": [null, true, {}]} ', {"a": [None, True, {}]}),
    (b'{"\xc3\xa9": 1, "e\xcc\x81": 2, "": 3}', {"é": 1, "e\u0301": 2, "": 3}),
]


@pytest.mark.parametrize(("body", "value"), BODIES)
def test_a_body_is_read_exactly(body: bytes, value: Any) -> None:
    assert identical(loads(body), value)


ALTERED: list[tuple[bytes, str]] = [
    (b"1e400", "the number 1e400 is not one that a double holds exactly"),
    (b"-1e400", "the number -1e400 is not"),
    (b"1e-400", "the number 1e-400 is not"),
    (b"[1E-400]", "the number 1E-400 is not"),
    (b"4.9e-324", "the number 4.9e-324 is not"),
    (b"1.00000000000000001", "is not one that a double holds exactly"),
    (b"123456789012345678.5", "is not one that a double holds exactly"),
    (b"9007199254740993.0", "is not one that a double holds exactly"),
    (b"0." + b"3" * 100_000, r"the number 0\.3{38}\.\.\. is not"),
    (b"1" + b"0" * 400 + b".0", "is not one that a double holds exactly"),
    (b"1.5e-99999999999999999999999999", "is not one that a double holds exactly"),
    (b"1.5e99999999999999999999999999", "is not one that a double holds exactly"),
    (b"1" * 21, "the whole number 1{21} is longer than 64 bits"),
    (b"-" + b"1" * 5000, r"the whole number -1{39}\.\.\. is longer than 64 bits"),
    (b"1" * 1_000_000, "is longer than 64 bits"),
    (b"NaN", "NaN is not JSON"),
    (b'{"a": [Infinity]}', "Infinity is not JSON"),
    (b"-Infinity", "-Infinity is not JSON"),
    (b'{"a": 1, "a": 1}', "a name stands twice in one object"),
    (rb'[{"x": {"a": 1, "\u0061": 2}}]', "a name stands twice in one object"),
    (rb'{"\ud800": 1}', "a name contains half of a surrogate pair"),
    (rb'[{"a\udfff": 1}]', "a name contains half of a surrogate pair"),
    (b'"\xff"', "the body is not UTF-8"),
    (b'"\xed\xa0\x80"', "the body is not UTF-8"),
    ('{"a": 1}'.encode("utf-16"), "the body is not UTF-8"),
    (b"[" * 100_000, "the body is nested too deeply"),
    (b'{"a":' * 100_000, "the body is nested too deeply"),
    (b"[" * 500_000 + b"]" * 500_000, "the body is nested too deeply"),
    (b"", "Expecting value"),
    (b"\xef\xbb\xbf{}", "Expecting value"),
    (b"{} {}", "Extra data"),
    (b"01", "Extra data"),
    (b"+1", "Expecting value"),
    (b".5", "Expecting value"),
    (b"1.", "Extra data"),
    (b"'a'", "Expecting value"),
    (b'{"a": 1,}', "double quotes"),
    (b"[1,]", "Expecting value"),
    (b'"\t"', "Invalid control character"),
    (rb'"\x41"', r"Invalid \\escape"),
    (b"nul", "Expecting value"),
]


@pytest.mark.parametrize(("body", "sentence"), ALTERED, ids=lambda value: repr(value[:30]))
def test_a_body_that_would_be_altered_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=sentence) as refusal:
        loads(body)
    assert len(refusal.value.msg) < 150


@settings(max_examples=300, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_read_back(value: float) -> None:
    for text in (
        repr(value),
        json.dumps(value),
        f"{value!r}".replace("e", "E"),
        format(Decimal(repr(value)), "f"),
    ):
        if "." in text or "e" in text.lower():
            assert identical(loads(text.encode()), value)


@settings(max_examples=500, deadline=None, database=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,6})?", fullmatch=True))
def test_a_number_is_exact_or_refused(text: str) -> None:
    try:
        value = loads(text.encode())
    except json.JSONDecodeError:
        return
    assert Decimal(text) == (value if isinstance(value, int) else Decimal(repr(value)))


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.binary(max_size=60)
    | st.text('[]{}":,0.eE-+\\u dtrufalsn\ud800é', max_size=40).map(
        lambda s: s.encode(errors="surrogatepass")
    )
)
def test_no_body_is_an_error_of_another_kind(body: bytes) -> None:
    try:
        loads(body)
    except json.JSONDecodeError as refusal:
        assert refusal.msg
