"""The FastAPI application of a service."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from ..limits import Limits
from . import docs, health, problems
from .locations import find_locations
from .middleware import RequestMiddleware
from .openapi import document_json_values, document_locations, document_problems, restore_integer_limits
from .routing import Route


def create_app(
    *,
    title: str,
    description: str,
    version: str,
    routers: list[APIRouter],
    limits: Limits,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """The application: the service's routers, health, metrics, docs and problems."""
    app = _Application(
        title=title,
        description=description,
        version=version,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        openapi_url=None,  # with FastAPI's own, no other request is served while the document is made
        redoc_url=None,
        redirect_slashes=False,  # a resource has one path; a redirect would be an answer nobody documents
        # looked up for every request, whether anybody traces or not
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.limits = limits
    problems.install(app)
    for router in [*routers, health.router, docs.router]:
        ours = [route for route in router.routes if isinstance(route, Route)]
        if len(ours) == len(router.routes):
            for route in ours:
                route.mount(app, limits)
        else:  # FastAPI keeps the order of the routes; ours find the limits in the application
            app.include_router(router, max_body_size=limits.body)
    locations = find_locations(app)
    app.state.locations = {each.endpoint: each.attributes for each in locations}

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(title=title, version=version, description=description, routes=app.routes)
            document_problems(schema)
            document_locations(schema, locations)
            document_json_values(schema)
            restore_integer_limits(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


class _Application(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        return RequestMiddleware(super().build_middleware_stack())
