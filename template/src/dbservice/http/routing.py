"""Routers for a service's resources: plain FastAPI, whose rows go out as bytes without being validated once more."""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.routing import APIRoute, request_response
from pydantic import BaseModel, BeforeValidator, create_model
from pydantic_core import PydanticCustomError

from ..limits import Limits
from ..schema import Page, Row
from ..types import INT64
from .bodies import JSONRequest
from .pools import supplied


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch("-?[0-9]{1,19}", value):
        raise PydanticCustomError("int_parsing", "")  # pydantic takes " 1", "1_0" and "1.0" too
    return value


RowId = Annotated[
    int, Path(alias="id", ge=1, le=INT64, description="The row's id."), BeforeValidator(_digits)
]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of a page."), BeforeValidator(_digits)]
After = Annotated[
    int,
    Query(ge=0, le=INT64, description="Begin after this id: the `next` of the page before."),
    BeforeValidator(_digits),
]


_SAID = {
    404: "There is no such row.",
    408: "The body did not come in time.",
    409: "A unique or foreign key stands against it.",
    413: "The body is too large.",
    422: "A value is wrong.",
    503: "The database is away or too busy; Retry-After says when to try again.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        status: {"description": _SAID[status], "content": content}
        | ({"headers": retry} if status == 503 else {})
        for status in statuses
    }


encode = msgspec.json.Encoder(enc_hook=str).encode  # the hook is for PlainDecimal


class Route(APIRoute):
    """A route whose endpoint may answer a `Row`, a list of rows or a `Page`: encoded at once, documented as what it is."""

    limits = Limits()

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        answer = typing.get_type_hints(endpoint).get("return")
        endpoint = supplied(endpoint)
        model = _documented(answer)
        if model is not None:
            options["response_model"] = model
            endpoint = _encoding(endpoint, options.get("status_code") or 200, path)
        elif options.get("status_code") == 204:
            options["response_class"] = Response  # without content it has no type either
        methods = set(options.get("methods") or {"GET"})
        statuses = [422, 503]
        if methods & {"POST", "PATCH", "PUT"}:
            statuses += [408, 413]
        if methods & {"POST", "PATCH", "PUT", "DELETE"}:
            statuses.append(409)
        if "{" in path:
            statuses.append(404)
        documented = problems(*sorted(statuses))
        if options.get("status_code") == 201:
            documented[201] = {
                "headers": {"Location": {"schema": {"type": "string"}, "description": "The new row."}}
            }
        options["responses"] = documented | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if not (self.methods or set()) - {"GET", "HEAD"}:
            return handler

        async def with_exact_json(request: Request) -> Response:
            return await handler(JSONRequest(request.scope, request.receive, self.limits))

        return with_exact_json

    def mount(self, app: FastAPI, limits: Limits) -> None:
        """Put the route straight into the application: FastAPI searches an included router twice for each request."""
        self.limits = limits
        self.dependency_overrides_provider = app
        self.app = request_response(self.get_route_handler())
        app.router.routes.append(self)


def Router(name: str, **options: Any) -> APIRouter:
    """The router of the resource `name`: `/v1/<name>`."""
    return APIRouter(prefix=f"/v1/{name}", tags=[name], route_class=Route, **options)


def _documented(answer: Any) -> Any:
    """The pydantic model of what an endpoint answers; None where that is FastAPI's business."""
    if typing.get_origin(answer) in (typing.Union, types.UnionType):
        some = [each for each in typing.get_args(answer) if each is not type(None)]
        optional: Any = _documented(some[0]) if len(some) == 1 else None
        return None if optional is None else optional | None
    kind, row = typing.get_origin(answer), next(iter(typing.get_args(answer)), answer)
    if not (isinstance(row, type) and issubclass(row, Row)):
        return None
    if kind is Page:
        return _page_model(row)
    model: Any = _row_model(row)
    return {None: model, list: list[model]}.get(kind)


@functools.cache
def _row_model(row: type[Row]) -> type[BaseModel]:
    return row.openapi_model()


@functools.cache
def _page_model(row: type[Row]) -> type[BaseModel]:
    items: Any = list[_row_model(row)]  # type: ignore[misc]
    fields: dict[str, Any] = {"items": (items, ...), "next": (int | None, ...)}
    return create_model(f"{row.__name__}Page", __doc__=Page.__doc__, **fields)


def _encoding(endpoint: Callable[..., Any], status: int, path: str) -> Callable[..., Any]:
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
