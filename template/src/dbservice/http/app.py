"""The FastAPI application of a service."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi

from ..limits import Limits
from ..reads import ReadPool
from ..writes import WritePool
from . import health, problems
from .metrics import MetricsMiddleware


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
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        lifespan=lifespan,
        redoc_url=None,
        max_body_size=limits.body,
    )
    problems.install(app)
    app.add_middleware(MetricsMiddleware)
    for router in [health.router, *routers]:
        app.include_router(router)

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(title=title, version=version, description=description, routes=app.routes)
            _only_problems(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _only_problems(schema: dict[str, Any]) -> None:
    """Put our problem where FastAPI documents an error format of its own."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problems.SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


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
