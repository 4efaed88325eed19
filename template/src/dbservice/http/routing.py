"""Routers for a service's resources: plain FastAPI, whose rows are encoded by `encoding`."""

import copy
import typing
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute, request_response

from ..limits import Limits
from ..schema import Row
from .bodies import JSONRequest, model_of
from .encoding import CreatedResponse, encode_rows, encode_untyped
from .locations import add_location
from .openapi import problem_responses, response_model, row_type
from .pools import inject_pools


class Route(APIRoute):
    """A route whose endpoint may answer a `Row`, a list of rows or a `Page`. It documents the problems that it may answer,
    and reads bodies within the limits of its service."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.answer = answer = _answer_type(endpoint, options)
        model = response_model(answer)
        status = options.get("status_code")
        endpoint = inject_pools(endpoint)
        if model is not None:
            options["response_model"] = model
            endpoint = encode_rows(endpoint, status or 200)
        elif status == 204:
            options["response_class"] = Response  # without content it has no type either
        elif answer is _UNKNOWN and isinstance(options.get("response_class"), DefaultPlaceholder | None):
            endpoint = encode_untyped(endpoint)
        methods = set(options.get("methods") or {"GET"})
        statuses = [422, 503]
        if methods & {"POST", "PATCH", "PUT"}:
            statuses += [408, 413]
        if methods & {"POST", "PATCH", "PUT", "DELETE"}:
            statuses.append(409)
        if "{" in path:
            statuses.append(404)
        documented = problem_responses(*sorted(statuses))
        options["responses"] = documented | (options.get("responses") or {})
        super().__init__(path, endpoint, **options)

    @property
    def creates(self) -> type[Row] | None:
        """The row that a request to this route creates."""
        return row_type(self.answer) if self.status_code == 201 and "POST" in (self.methods or ()) else None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self._handler(None)  # for wherever FastAPI includes the route

    def mount(self, app: FastAPI, limits: Limits) -> None:
        """Put a copy of the route straight into the application: FastAPI searches an included router twice for each
        request."""
        route = copy.copy(self)  # another service may have the same router
        route.dependency_overrides_provider = app
        route.app = request_response(route._handler(limits))
        app.router.routes.append(route)

    def _handler(self, limits: Limits | None) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, for bodies within `limits`; without them, within those of the application that is asked."""
        handler = super().get_route_handler()
        if not (self.methods or set()) - {"GET", "HEAD"}:
            return handler

        model = None if self._embed_body_fields else model_of(self.body_field)

        async def with_exact_json(request: Request) -> Response:
            within = getattr(request.app.state, "limits", _DEFAULT_LIMITS) if limits is None else limits
            response = await handler(JSONRequest(request.scope, request.receive, within, model))
            if isinstance(response, CreatedResponse):
                add_location(request, response, self.endpoint)
            return response

        return with_exact_json


def Router(name: str, **options: Any) -> APIRouter:
    """The router of the resource `name`: `/v1/<name>`.

    A POST with `status_code=201` that answers a row also answers `Location`, where a GET of one row lies behind its path
    (`/v1/<name>/{id}`, or `/{email}` for a row with that column)."""
    return APIRouter(prefix=f"/v1/{name}", tags=[name], route_class=Route, **options)


_DEFAULT_LIMITS = Limits()
_UNKNOWN = object()


def _answer_type(endpoint: Callable[..., Any], options: dict[str, Any]) -> Any:
    """What the endpoint answers, by `response_model=` or its annotation; _UNKNOWN where neither says."""
    model = options.get("response_model")
    if isinstance(model, DefaultPlaceholder | None):
        model = typing.get_type_hints(endpoint).get("return", _UNKNOWN)
    return model
