"""The boundary values of each column type, in the format of the API's JSON: what is sent, what it is in Python, what
is answered; what is refused; and, for hypothesis, everything in between."""

import base64
import datetime as dt
import json
import math
import operator
import uuid
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from dbservice.types import INT64

from .sample_service import values

UTC = dt.UTC
BoundaryValue = tuple[Any, Any, Any]
"""Sent, the same in Python, answered."""


def same(*values: Any) -> list[BoundaryValue]:
    """Values that JSON and Python write alike, and that come back as they were sent."""
    return [(value, value, value) for value in values]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


OPERATORS: dict[str, Any] = {
    f"__{name}__": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
"""How a column's values are compared, by the names of the operators, and what each of them means."""


# fmt: off
HOSTILE_TEXTS = (
    *(
        "'", '"', "\\", "''", "\\'", "\\\\'", "`", "%", "%s %(x)s %% %d", ":x ?1 $1 {x}", "NULL", "null", "T",
        "0",
    ),
    *(
        "' OR 1=1 -- ", "\\' OR 1=1 -- ", "'; DROP TABLE items; --", "x'41'", "/*! DROP TABLE items */",
        "1e999",
    ),
    *(
        "\n\r\t\x1a\b\x01\x7f", "\r\n", "\u2028\u2029\x85", "\ufeffbom", "\ufffe\uffff", "\U0010ffff",
        "\u200b",
    ),
    *(
        "é", "e\u0301", "ſ", "K", "ﬁ", "İıi", "ß", "ẞ", "日本語", "שלום", "👩‍👩‍👧‍👦", "🏳️‍🌈", " ", "k ", " k",
        "\t",
    ),
)
TEXTS = ("", "a", *HOSTILE_TEXTS)
NOT_TEXT = ("\0", "a\0b", "\ud800", "\udfffa", 5, 1.5, True, ["a"], {"a": 1})
NOT_WHOLE: tuple[Any, ...] = (1.5, 1e-3, 1e300, "1", "", "x", True, [1], {}, 2**64, -(2**64))
NOT_DECIMAL: tuple[Any, ...] = (
    *(
        "", " 1", "1 ", "1\n", "+1", ".5", "5.", "1,5", "1_0", "1e3", "0x10", "٣", "NaN", "Infinity", "-inf",
        "--1",
    ),
    *("1; DROP TABLE items", "1) OR (1=1", True, [], {}, "9" * 100, "0." + "1" * 100),
)
NOT_TIME = (
    "", "x", "12:00", "1:00:00", "12:00:00Z", "12:00:00+05:00", "24:00:00", "23:59:60", "-01:00:00", 0, True,
)

BOUNDARY_VALUES: dict[str, list[BoundaryValue]] = {
    "string": same(*TEXTS, "a" * 40, "é" * 40, "😀" * 40, "'" * 40, "\\" * 40),
    "text": same(*TEXTS, "😀'\\\"\n" * 20_000),
    # to JSON Schema, 1.0 and 1e3 are integers
    "integer": [*same(0, 1, -1, 2**31 - 1, -(2**31)), (1.0, 1, 1), (-1e3, -1000, -1000), (-0.0, 0, 0)],
    "bigint": [
        *same(0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
        *((1.0, 1, 1), (float(2**62), 2**62, 2**62), (-float(2**63), -(2**63), -(2**63))),
    ],
    "boolean": same(True, False),
    "decimal": [
        (sent, Decimal(answered), answered)
        for sent, answered in [
            *(
                (text, text)
                for text in (
                    "0.00", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "0.10", "1000000000.00",
                )
            ),
            *(
                ("0", "0.00"), ("-0", "0.00"), ("-0.00", "0.00"), ("1.5", "1.50"), ("007", "7.00"),
                ("1.500", "1.50"),
            ),
            *(
                (1, "1.00"), (-1, "-1.00"), (1.5, "1.50"), (0.1, "0.10"), (-0.0, "0.00"),
                (9999999999.99, "9999999999.99"),
            ),
        ]
    ],
    "whole_decimal": [
        (sent, Decimal(answered), answered)
        for sent, answered in [
            *((text, text) for text in ("0", "1", "-1", "9" * 18, "-" + "9" * 18)),
            *((text, text) for text in ("10000", "-20000000000000000", "1" + "0" * 17)),
            *(("1.0", "1"), (1e16, "1" + "0" * 16), (999_999_999_999_999_999, "9" * 18)),
        ]
    ],
    "long_decimal": [
        (text, Decimal(text), text)
        for text in (
            *("0.0000000000", "0.0000000001", "-0.0000000001", "1.0000000000", "-1.0000000000"),
            *(sign + "9" * 28 + "." + "9" * 10 for sign in ("", "-")),
            *("1234567890123456789012345678.0000000001", "-1000000000000000000000000000.0000000000"),
        )
    ],
    "longest_decimal": [
        (text, Decimal(text), text)
        for text in (
            *("0." + "0" * 30, "0." + "0" * 29 + "1", "-0." + "0" * 29 + "1", "1." + "0" * 30),
            *(sign + "9" * 35 + "." + "9" * 30 for sign in ("", "-")),
            "12345678901234567890123456789012345.123456789012345678901234567890",
        )
    ],
    "float": [
        *same(
            0.0, 1.5, -1.5, 0.1, 0.1 + 0.2, 1 / 3, -2 / 3, 1e15, 1e16, 1e22, 1e23, -1e-7, 123456789012345680.0
        ),
        *same(5e-324, -5e-324, 1.5e-323, 2.225073858507201e-308, 2.2250738585072014e-308, 9007199254740993.5),
        *same(
            1.7976931348623157e308, -1.7976931348623157e308, math.nextafter(1, 2), math.nextafter(1, 0),
            math.pi,
        ),
        *same(1.1699210331657369e-293, -1.453543354527291e-306),  # SQLite 3.40 reads their text as other doubles
        *((whole, float(whole), float(whole)) for whole in (0, 1, -1, 2**53, -(2**62))),
    ],
    "date": [
        (text, dt.date.fromisoformat(text), text)
        for text in (
            *(
                "0001-01-01", "0001-12-31", "0099-03-01", "0999-12-31", "1000-01-01", "1582-10-10",
                "1752-09-05",
            ),
            *(
                "1900-02-28", "1969-12-31", "1970-01-01", "2000-02-29", "2024-02-29", "2038-01-19",
                "9999-12-31",
            ),
        )
    ],
    "time": [
        (sent, dt.time.fromisoformat(answered), answered)
        for sent, answered in [
            *(
                (text, text)
                for text in ("00:00:00", "00:00:00.000001", "13:45:00", "23:59:59", "23:59:59.999999")
            ),
            *(
                ("12:00:00.5", "12:00:00.500000"),
                ("12:00:00.000000000", "12:00:00"),
                ("01:02:03.1000000", "01:02:03.100000"),
            ),
        ]
    ],
    "timestamp": [
        (sent, dt.datetime.fromisoformat(answered), answered)
        for sent, answered in [
            *(
                (text, text)
                for text in ("0001-01-01T00:00:00Z", "0999-12-31T23:59:59.999999Z", "1847-12-01T00:01:15Z")
            ),
            *(
                (text, text)
                for text in ("1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z")
            ),
            *(
                (text, text)
                for text in ("2024-03-31T02:30:00Z", "2024-10-27T01:30:00Z", "2038-01-19T03:14:08Z")
            ),
            *((text, text) for text in ("2024-01-31T13:45:00.000001Z", "9999-12-31T23:59:59.999999Z")),
            ("2024-01-31T13:45:00+05:00", "2024-01-31T08:45:00Z"),
            ("2024-01-31T13:45:00.1-05:30", "2024-01-31T19:15:00.100000Z"),
            ("2024-01-31T13:45:00-00:00", "2024-01-31T13:45:00Z"),
            ("2024-01-31t13:45:00z", "2024-01-31T13:45:00Z"),
            ("2024-01-31 13:45:00Z", "2024-01-31T13:45:00Z"),
            ("2024-01-01T00:00:00+23:59", "2023-12-31T00:01:00Z"),
            ("0001-01-01T05:00:00+05:00", "0001-01-01T00:00:00Z"),
            ("9999-12-31T18:59:59.999999-05:00", "9999-12-31T23:59:59.999999Z"),
            ("2024-01-31T13:45:00.1234560000Z", "2024-01-31T13:45:00.123456Z"),
        ]
    ],
    "json": [
        *same(
            {}, [], "", 0, False, True, 2**63 - 1, -(2**63), 1.0, 5e-324, 1.7976931348623157e308, 1e16, -0.0
        ),
        *same(
            [None], [[], {}, [[]]], {"": {"": ""}}, {"z": 1, "a": 2, "é": 3, "'": "\\", '"': "`"},
            list(HOSTILE_TEXTS),
        ),
        *same(
            {
                "price": 1.1,
                "rate": 0.1,
                "list": [1e-7, 100.0, 100, 0.30000000000000004],
                "deep": {"x": [{"y": 2.5}]},
            }
        ),
        *same({text: text for text in HOSTILE_TEXTS}, "a" * 70_000, list(range(5_000))),
        *same(json.loads("[" * 64 + "]" * 64)),
    ],
    "uuid": [
        (sent, uuid.UUID(sent), sent.lower())
        for sent in (
            *("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            *("123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"),
            "00000000-0000-0000-0000-000000000123",
        )
    ],
    "binary": [
        (base64_of(data), data, base64_of(data))
        for data in (
            *(
                b"", b"\0", b"\0\0", b"'", b"\\", b"\\'", b"%s", b"\xff\xfe", b"' OR 1=1 -- ", b"0", b"\\x41",
                b"x'41'",
            ),
            *(bytes(range(256)), bytes(reversed(range(256))), bytes(range(256)) * 400, "é😀".encode()),
        )
    ],
    "enum": same("a", "b", "long value"),
}
"""By column of the sample service's table `values`."""

INVALID_VALUES: dict[str, list[Any]] = {
    "string": [*NOT_TEXT, "a" * 41, "é" * 41, "😀" * 41, " " * 41, "a" * 40 + " "],
    "text": [*NOT_TEXT],
    "integer": [*NOT_WHOLE, 2**31, -(2**31) - 1, 2**53],
    "bigint": [*NOT_WHOLE, 2**63, -(2**63) - 1],
    "boolean": [0, 1, 1.0, "true", "True", "T", "", [], {}],
    "decimal": [
        *NOT_DECIMAL, "10000000000", "-10000000000.00", "0.001", "-0.005", "9999999999.995", 0.001, 1e10,
        5e-324,
    ],
    "whole_decimal": [*NOT_DECIMAL, "1" + "0" * 18, "0.5", 0.5, 10**18],
    "long_decimal": [*NOT_DECIMAL, "1" + "0" * 28, "0.00000000001"],
    "longest_decimal": [*NOT_DECIMAL, "1" + "0" * 35, "0." + "0" * 30 + "1"],
    "float": [-0.0, 2**53 + 1, -(2**62) - 1, "1.5", "NaN", "", True, [], {}],
    "date": [
        *(
            "", "x", "2023-02-29", "2024-02-30", "2024-13-01", "0000-01-01", "0000-00-00", "10000-01-01",
            "-0001-01-01",
        ),
        *(
            "2024-1-1", "20240101", "2024-W01-1", "2024-01-31T00:00:00", "2024-01-31Z", "٢٠٢٤-٠١-٠١",
            "infinity",
        ),
        *("today", "2024-01-31'; DROP TABLE items; --", 20240131, 0, True),
    ],
    "time": [*NOT_TIME, "12:00:00.0000001", "12:00:00,5", "25:00:00", "12:60:00", "1٢:00:00", "now"],
    "timestamp": [
        *("", "x", "2024-01-31", "2024-01-31T13:45:00", "2024-01-31T13:45:00.000001", "2024-01-31T13:45Z"),
        *(
            "2024-01-31T13:45:00.0000001Z", "2024-01-31T13:45:60Z", "2016-12-31T23:59:60Z",
            "2024-01-31T24:00:00Z",
        ),
        *(
            "2024-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
            "2024-01-31T13:45:00+24:00",
        ),
        *("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59.999999-05:00", "2024-01-31T13:45:00+0500"),
        *(
            "2024-01-31T13:45:00+05", "2024-01-31T13:45:00 UTC", "2024-01-31T13:45:00+05:30:15", "now",
            "infinity",
        ),
        *("2024-01-31T13:45:00Z'; DROP TABLE items; --", 1706708700, 1.5, True),
    ],
    "json": [
        *("\0", "\ud800", ["\0"], {"a": {"b": ["\0"]}}, {"\0": 1}, {"\udc00": 1}),
        *(2**63, -(2**63) - 1, [2**63], {"a": 2**64}, json.loads("[" * 65 + "]" * 65)),
    ],
    "uuid": [
        *("", "x", "123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"),
        *("urn:uuid:123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-42661417400"),
        *("123e4567-e89b-12d3-a456-426614174000\n", "123e4567-e89b-12d3-a456-42661417400g", 5, True),
    ],
    "binary": [
        "A", "AB", "YQ", "YQ=", "YR==", "YQ==\n", " YQ==", "YQ==YQ==", "-_==", "é", "====", "\0", 5, True,
        ["YQ=="],
    ],
    "enum": ["A", "a ", " a", "c", "", "long", "a\0", "' OR 1=1 -- ", 0, 1, True, ["a"]],
}
# fmt: on

# --- what hypothesis makes: pairs of what is sent and what it is in Python, written down without the code under test

_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_text = st.one_of(
    st.text(_characters, max_size=40), st.lists(st.sampled_from(HOSTILE_TEXTS), max_size=8).map("".join)
)
_int64 = st.integers(-INT64 - 1, INT64)
_doubles = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _int64 | _doubles | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
).filter(lambda value: value is not None)


def decimals(precision: int, scale: int) -> st.SearchStrategy[tuple[str, Decimal]]:
    """Decimals of all lengths; `scale` places are written."""

    def pair(minor: int) -> tuple[str, Decimal]:
        digits = str(abs(minor)).rjust(scale + 1, "0")
        text = ("-" if minor < 0 else "") + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)
        return text, Decimal(text)

    most = 10**precision - 1
    lengths = st.integers(0, precision).flatmap(lambda n: st.integers(-(10**n) + 1, 10**n - 1))
    return st.one_of(lengths, st.integers(-most, most)).map(pair)


def _twins(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return strategy.map(lambda value: (value, value))


def _moment(moment: dt.datetime) -> tuple[str, dt.datetime]:
    return moment.isoformat(), moment.astimezone(UTC)


_offsets = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
_day = dt.timedelta(days=1)
_moments = st.datetimes(
    dt.datetime.min + _day, dt.datetime.max - _day, timezones=_offsets, allow_imaginary=True
)

STRATEGIES: dict[str, st.SearchStrategy[tuple[Any, Any]]] = {
    "string": _twins(_text.map(lambda text: text[:40])),
    "text": _twins(_text),
    "integer": _twins(st.integers(-(2**31), 2**31 - 1)),
    "bigint": _twins(_int64),
    "boolean": _twins(st.booleans()),
    "decimal": decimals(12, 2),
    "whole_decimal": decimals(18, 0),
    "long_decimal": decimals(38, 10),
    "longest_decimal": decimals(65, 30),
    "float": _twins(_doubles.map(lambda value: value or 0.0)),
    "date": st.dates().map(lambda day: (day.isoformat(), day)),
    "time": st.times().map(lambda time: (time.isoformat(), time)),
    "timestamp": (_moments | st.datetimes(timezones=st.just(UTC))).map(_moment),
    "json": _twins(_json),
    "uuid": st.uuids().map(lambda value: (str(value), value)),
    "binary": st.binary(max_size=300).map(lambda data: (base64_of(data), data)),
    "enum": _twins(st.sampled_from(["a", "b", "long value"])),
}
ROWS = st.lists(st.fixed_dictionaries({}, optional=dict(STRATEGIES)), min_size=1, max_size=6)
"""Rows of `values`: pairs by column."""


COLUMNS = [column for column in values.columns if column.name in BOUNDARY_VALUES]
"""Those columns of `values`."""
