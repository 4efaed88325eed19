"""The FastAPI application of a service."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from ..limits import Limits
from ..reads import ReadPool
from ..types import INT64
from ..writes import WritePool
from . import health, problems
from .metrics import MetricsMiddleware
from .outermost import Outermost


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
        redoc_url=None,
        redirect_slashes=False,  # a resource has one path; a redirect would be an answer nobody documents
        max_body_size=limits.body,
    )
    problems.install(app)
    for router in [health.router, *routers]:
        app.include_router(router)

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(title=title, version=version, description=description, routes=app.routes)
            _only_problems(schema)
            _whole_limits(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


class _Application(FastAPI):
    def build_middleware_stack(self) -> ASGIApp:
        return MetricsMiddleware(Outermost(super().build_middleware_stack()))


def _only_problems(schema: dict[str, Any]) -> None:
    """Put our problem where FastAPI documents an error format of its own."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problems.SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _whole_limits(schema: Any) -> None:
    """Put whole numbers back where FastAPI keeps limits as floats: 2**63 - 1 is none."""
    if isinstance(schema, dict):
        for key in ("minimum", "maximum"):
            if schema.get("type") == "integer" and isinstance(limit := schema.get(key), float):
                schema[key] = min(int(limit), INT64)
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            _whole_limits(each)


async def _reads(request: Request) -> ReadPool:
    pool: ReadPool = request.app.state.running.reads
    return pool


async def _writes(request: Request) -> WritePool:
    pool: WritePool = request.app.state.running.writes
    return pool


Reads = Annotated[ReadPool, Depends(_reads)]
"""A route's way to read: `reads: Reads`."""
Writes = Annotated[WritePool, Depends(_writes)]
"""A route's way to write: `writes: Writes`."""
