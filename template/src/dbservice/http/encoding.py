"""Answers as JSON: each type in one format, whatever its subclass or time zone.

Times are RFC 3339 in UTC, decimals are strings, bytes are base64. Rows that a query answered go out as they are."""

import datetime as dt
import functools
import inspect
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from fastapi import Response
from fastapi.encoders import jsonable_encoder

from ..reads import Rows
from ..schema import Page, Row
from ..types import PlainDecimal, Timestamp

encode = msgspec.json.Encoder(enc_hook=lambda value: _builtin(value)).encode
"""`value` as JSON. Times that are not in UTC keep their offset: see `in_utc`."""


def in_utc(value: Any) -> Any:
    """`value`, a row, rows or anything that holds some, with every time in UTC. Raises ValueError for one without an offset."""
    if isinstance(value, Row):
        return _row_in_utc(value)
    match value:
        case Rows():
            return value
        case Page():
            items = in_utc(value.items)
            return value if items is value.items else Page(items, value.next)
        case list() | tuple() | set() | frozenset():
            return [in_utc(held) for held in value]
        case dict():
            return {in_utc(key): in_utc(held) for key, held in value.items()}
        case dt.datetime():
            return _TIMESTAMP.check(value)
    return value


def to_builtins(value: Any) -> Any:
    """`value` as what its JSON consists of: dicts, lists, strings, numbers, True, False and None."""
    return msgspec.to_builtins(in_utc(value), enc_hook=_builtin, str_keys=True)


def encode_rows(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    """`endpoint`, whose rows, lists of rows and pages become a response of `status` that FastAPI does not validate. What
    else it answers stays as it is."""
    parameters = inspect.signature(endpoint, eval_str=True).parameters.values()
    # by which FastAPI lets an endpoint set the status and headers of its answer
    response_name = next((each.name for each in parameters if each.annotation is Response), "")
    response_class = CreatedResponse if status == 201 else Response

    def respond(result: Any, arguments: dict[str, Any]) -> Any:
        if not isinstance(result, Row | Page | list):  # as None is, of an endpoint that may answer it
            return result
        response = response_class(encode(in_utc(result)), status, None, "application/json")
        if isinstance(response, CreatedResponse):
            response.row = result
        if response_name:
            given = arguments[response_name]
            response.status_code = given.status_code or status
            response.raw_headers += [each for each in given.raw_headers if each[0] != b"content-length"]
        return response

    return _with_result(endpoint, respond)


class CreatedResponse(Response):
    """A response of status 201, and what it holds."""

    row: Any


def encode_untyped(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """`endpoint`, which does not say what it answers, with its dicts and lists in our formats: FastAPI would make decimals
    floats. Generators are FastAPI's."""
    if inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint):
        return endpoint
    return _with_result(
        endpoint, lambda result, _: to_builtins(result) if isinstance(result, _OURS) else result
    )


def _with_result(
    endpoint: Callable[..., Any], convert: Callable[[Any, dict[str, Any]], Any]
) -> Callable[..., Any]:
    """`endpoint` with its result replaced by `convert(result, arguments)`."""

    @functools.wraps(endpoint)
    async def in_the_loop(**arguments: Any) -> Any:
        return convert(await endpoint(**arguments), arguments)

    @functools.wraps(endpoint)
    def in_a_thread(**arguments: Any) -> Any:
        return convert(endpoint(**arguments), arguments)

    return in_the_loop if inspect.iscoroutinefunction(endpoint) else in_a_thread


_OURS = (dict, list, tuple, Row, Page)
_TIMESTAMP = Timestamp()
_TIMELESS = frozenset({str, int, float, bool, type(None), Decimal, PlainDecimal, dt.date, dt.time, bytes})
"""Types whose values are no times and hold none."""


def _row_in_utc(row: Row) -> Row:
    names, values_of = _fields_with_times(type(row))
    for value in values_of(row):
        if type(value) is not dt.datetime or value.tzinfo is not dt.UTC:
            break
    else:
        return row  # nearly always
    held = {name: getattr(row, name) for name in names}
    changed = {name: in_utc(value) for name, value in held.items() if type(value) not in _TIMELESS}
    return msgspec.structs.replace(row, **changed) if changed else row


@functools.cache
def _fields_with_times(row: type[Row]) -> tuple[tuple[str, ...], Callable[[Row], tuple[Any, ...]]]:
    """The attributes of a row that may hold a time, of a table those of its timestamps; and what answers their values."""
    if row.__source__ is None:
        names = [each.name for each in msgspec.structs.fields(row) if each.type not in _TIMELESS]
    else:
        columns = row.__source__.columns
        attributes = dict(zip(row.columns(), row.__struct_fields__, strict=True))
        names = [
            attribute
            for column, attribute in attributes.items()
            if column not in columns or isinstance(columns[column].type, Timestamp)
        ]
    if len(names) < 2:  # of one attribute, attrgetter answers no tuple
        return tuple(names), lambda row: tuple(getattr(row, name) for name in names)
    return tuple(names), operator.attrgetter(*names)


def _builtin(value: Any) -> Any:
    """What msgspec does not know, mostly subclasses, as what it knows."""
    match value:
        case PlainDecimal():
            return str(value)
        case Decimal():
            return Decimal(value)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes():
            return bytes(value)
        case dt.datetime():
            return _TIMESTAMP.check(value)
        case dt.date():
            return dt.date(value.year, value.month, value.day)
        case dt.time():
            return dt.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo)
    return jsonable_encoder(value)
