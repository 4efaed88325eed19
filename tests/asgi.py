"""Applications without a database, for tests of routers."""

from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI

from dbservice import Limits, Service


def application(*routers: APIRouter, **limits: Any) -> FastAPI:
    """The application of a service without tables, which has not been started: its routes use no database."""
    service = Service("demo", sa.MetaData(), routers, limits=Limits(**limits), root=Path("/nonexistent"))
    service.app.state.running = None
    return service.app


def client_of(app: Any, **options: Any) -> httpx.AsyncClient:
    """A client of any ASGI application, in the same process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://service")
