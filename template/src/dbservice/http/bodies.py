"""Request bodies: JSON in which no value is altered by reading it."""

import asyncio
import json
import math
import re
import types
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from ..limits import Limits
from ..offload import offload


def loads(body: bytes) -> Any:
    """The value of a JSON body. Raises json.JSONDecodeError with a sentence, also for a number that a double or 64 bits
    do not hold exactly, a name that is repeated in one object, text that is not UTF-8, and nesting that is too deep."""
    try:
        return _decoder.decode(body.decode("utf-8"))
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise json.JSONDecodeError("the body is not UTF-8", "", 0) from None
    except RecursionError:
        raise json.JSONDecodeError("the body is nested too deeply", "", 0) from None
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


MAX_ERRORS = 20
"""Errors that are named; a body can hold thousands."""


class InvalidBody(HTTPException):
    """A body with many values is invalid; `errors` are as pydantic's. FastAPI lets only an HTTPException pass."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(422)
        self.errors = errors


class JSONRequest(Request):
    """A request whose body has at most `limits.body` bytes and is received within `limits.receive` seconds, and whose
    `json()` alters no value. Raises HTTPException 413 or 408.

    A body with many values is parsed and validated in a thread, one body after the other, while the event loop goes on:
    `model` is the field that FastAPI validates it by, if its annotation is a model."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, model: Any = None) -> None:
        super().__init__(scope, self._limited)
        self._source: Any = receive  # of every server a coroutine function
        self._left, self._timeout, self._most = limits.body, limits.receive, limits.body_values
        self._model = model
        self._deadline: float | None = None
        self._complete = False
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limits.body:
                raise HTTPException(413)  # before the client sends any of it

    async def _limited(self) -> Message:
        receiving = self._source()
        if self._complete:
            disconnect: Message = await receiving
            return disconnect
        try:  # most bodies have been received already, and a timer costs as much as all the rest
            waits_for = receiving.send(None)
        except StopIteration as received:
            message: Message = received.value
        else:
            if self._deadline is None:
                self._deadline = asyncio.get_running_loop().time() + self._timeout
            try:
                async with asyncio.timeout_at(self._deadline):
                    message = await _resume(receiving, waits_for)
            except TimeoutError:
                raise HTTPException(408) from None
        self._complete = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413)
        return message

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) < _SMALL or _count_values(body) < _FEW:
                self._json = loads(body)
            else:
                self._json = await offload(self._parse_many, body)
        return self._json

    def _parse_many(self, body: bytes) -> Any:
        """What `json()` answers for a body with many values: an instance of the model, which FastAPI takes as it is."""
        if _count_values(body) > self._most and _count_values(_STRING.sub(b"", body)) > self._most:
            message = f"has more than {self._most} values"
            raise InvalidBody([{"type": "too_many_values", "loc": ("body",), "msg": message}])
        value = loads(body)
        if self._model is not None:
            value, errors = self._model.validate(_with_few_unknown(value, self._model), loc=("body",))
            if errors:
                raise InvalidBody(errors)
        return value


def model_of(field: Any) -> Any:
    """A route's `body_field` if a value that it has validated passes a second time as it is: if it is a model; else None."""
    annotation = field.field_info.annotation if field is not None else None
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return None
    return field if annotation.model_config.get("revalidate_instances", "never") == "never" else None


def _with_few_unknown(value: Any, field: Any) -> Any:
    """`value` without most of the fields that its model does not know: each would be an error, and few are answered."""
    model = field.field_info.annotation
    if type(value) is not dict or model.model_config.get("extra") != "forbid":
        return value
    named = {name for field_name, each in model.model_fields.items() for name in (field_name, each.alias)}
    unknown = [name for name in value if name not in named]
    return {name: value[name] for name in value if name in named} | {
        name: value[name] for name in unknown[:MAX_ERRORS]
    }


@types.coroutine
def _resume(started: Any, waits_for: Any) -> Any:
    """Await a coroutine that has been started and waits for something already."""
    while True:
        try:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = started.throw(error)
            else:
                waits_for = started.send(sent)
        except StopIteration as done:
            return done.value


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or ((len(text) > 15 or "e" in text.lower()) and not _is_exact(text, value)):
        raise ValueError(f"the number {_shortened(text)} is not one that a double holds exactly")
    return value


def _is_exact(text: str, value: float) -> bool:
    try:
        return Decimal(text) == Decimal(repr(value))
    except ArithmeticError:  # an exponent of nineteen digits
        return False


def _parse_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"the whole number {_shortened(text)} is longer than 64 bits")
    return int(text)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is repeated in one object")
    for name in value:
        if not name.isascii() and _SURROGATE.search(name):
            raise ValueError("a name contains half of a surrogate pair")
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


_SMALL = 4096
"""Bytes below which a body holds few values."""
_FEW = 1000
"""Values below which a body is parsed and validated at once, in some milliseconds."""
# also of a string without an end, or each of its quotation marks would begin another search to the end
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)


def _count_values(body: bytes) -> int:
    """At least the number of values in the body: of what is in strings, commas and brackets count too."""
    held = body.count(b",") + body.count(b"[") + body.count(b"{") - body.count(b"[]") - body.count(b"{}")
    return held + 1


_SURROGATE = re.compile("[\ud800-\udfff]")
_decoder = json.JSONDecoder(
    parse_float=_parse_float,
    parse_int=_parse_int,
    parse_constant=_refuse_constant,
    object_pairs_hook=_parse_object,
)
