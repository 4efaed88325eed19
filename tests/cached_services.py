"""Services that share one cache: `api` and `connector` write to it, `analytics` only reads."""

from pathlib import Path

import sqlalchemy as sa

from dbservice import Service
from dbservice.accounts import cache
from dbservice.schema import Column, Table
from dbservice.settings import Settings
from dbservice.testing.servers.redis import Redis
from dbservice.types import String

PASSWORD = "it's p@ss:word é#1"


def service(name: str, *, owns: bool = True, **options: object) -> Service:
    """A service that owns one table, or none and only reads."""
    metadata = sa.MetaData()
    if owns:
        type("Things", (Table,), {"label": Column(String(20))}, metadata=metadata, name="things")
    return Service(name, metadata, root=Path("/nonexistent"), **options)  # type: ignore[arg-type]


API, CONNECTOR, ANALYTICS = service("api"), service("connector"), service("analytics", owns=False)


def settings_of(server: Redis, service: Service, *, admin: bool = False, **more: str) -> Settings:
    """The settings of the service with its account."""
    environ = {"DB_TYPE": "sqlite", "DB_NAME": "/tmp/no-database", "DB_MAX_RETRIES": "0"}
    environ |= server.environ(f"{service.name}-cache", PASSWORD)
    return Settings.load(environ | (server.admin_environ() if admin else {}) | more)


def provision(server: Redis, *services: Service) -> None:
    """Make the accounts as an administrator does, with what `grants --cache` prints."""
    for each in services or (API, CONNECTOR, ANALYTICS):
        server.script(cache.script(each, settings_of(server, each)))
