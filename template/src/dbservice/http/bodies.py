"""Request bodies: JSON in which no value is altered by reading it."""

import asyncio
import json
import math
import re
import types
from decimal import Decimal
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from ..limits import Limits


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


class JSONRequest(Request):
    """A request whose body has at most `limits.body` bytes and is received within `limits.receive` seconds, and whose
    `json()` alters no value. Raises HTTPException 413 or 408."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        super().__init__(scope, self._limited)
        self._source: Any = receive  # of every server a coroutine function
        self._left, self._timeout = limits.body, limits.receive
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
            self._json = loads(await self.body())
        return self._json


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


_SURROGATE = re.compile("[\ud800-\udfff]")
_decoder = json.JSONDecoder(
    parse_float=_parse_float,
    parse_int=_parse_int,
    parse_constant=_refuse_constant,
    object_pairs_hook=_parse_object,
)
