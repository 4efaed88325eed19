"""Rows as JSON bytes, without being validated once more."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import Response

from ..schema import Page, Row

encode = msgspec.json.Encoder(enc_hook=str).encode  # the hook is for PlainDecimal


def encode_result(endpoint: Callable[..., Any], status: int, path: str) -> Callable[..., Any]:
    locate = status == 201 and "{" not in path
    parameters = inspect.signature(endpoint, eval_str=True).parameters.values()
    # by which FastAPI lets an endpoint say something of its answer
    said = next((each.name for each in parameters if each.annotation is Response), "")

    def answer(result: Any, asked: dict[str, Any]) -> Any:
        if not isinstance(result, Row | Page | list):
            return result
        headers = {"Location": f"{path}/{result.id}"} if locate and hasattr(result, "id") else None
        response = Response(encode(result), status, headers, "application/json")
        if said:
            given = asked[said]
            response.status_code = given.status_code or status
            response.raw_headers += [each for each in given.raw_headers if each[0] != b"content-length"]
        return response

    @functools.wraps(endpoint)
    async def with_bytes(**asked: Any) -> Any:
        return answer(await endpoint(**asked), asked)

    @functools.wraps(endpoint)
    def with_bytes_in_a_thread(**asked: Any) -> Any:
        return answer(endpoint(**asked), asked)

    return with_bytes if inspect.iscoroutinefunction(endpoint) else with_bytes_in_a_thread
