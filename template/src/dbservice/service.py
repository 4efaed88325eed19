"""The definition of a service, and its state while it runs."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI

from . import logs, startup
from .accounts.commands import check_runtime
from .accounts.declared import only_reads
from .backends import Backend, backend_for
from .cache import CacheClient, CacheConnection, CacheReader
from .http.app import create_app
from .http.load import Load
from .http.metrics import Metrics
from .limits import Limits
from .readiness import Readiness
from .reads import ReadPool
from .schema import NAMING_CONVENTION, BareTable, SharedTable
from .settings import Settings
from .writes import WritePool


class Service:
    """A service: its name, the tables it owns, its routers. `app` is the ASGI application.

    `tables` is the module with its table classes, or a MetaData; `access` the module with the tables of other services
    that it uses. `root` is the folder that contains `migrations/`, by
    default the parent of the module's `src/`. Raises ValueError for tables in several MetaDatas, and for a missing
    `root` that has no default."""

    def __init__(
        self,
        name: str,
        tables: ModuleType | sa.MetaData,
        routers: Sequence[APIRouter] = (),
        *,
        access: ModuleType | None = None,
        description: str = "",
        schema: str = "public",
        version: str = "1",
        limits: Limits | None = None,
        root: Path | None = None,
    ) -> None:
        self.name, self.tables, self.routers = name, _metadata_of(tables), list(routers)
        self.shared: Sequence[type[SharedTable]] = _shared_in(access)
        self.description, self.schema, self.version = description, schema, version
        self.limits = limits or Limits()
        self.package = name.replace("-", "_")
        self.version_table = f"alembic_version_{self.package}"
        self.migrations = (root or _root_of(tables)) / "migrations"

    def backend(self, settings: Settings) -> Backend:
        """The backend of `settings`, with this service's schema, name and limits."""
        return backend_for(settings, schema=self.schema, application=self.name, limits=self.limits)

    @cached_property
    def app(self) -> FastAPI:
        """The ASGI application; its lifespan starts the service, unless it is already running."""

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            if getattr(app.state, "running", None) is not None:
                yield
                return
            settings = Settings.load()
            logs.configure(settings)
            async with self.running(settings):
                yield

        return create_app(
            title=self.name,
            description=self.description,
            version=self.version,
            routers=self.routers,
            limits=self.limits,
            lifespan=lifespan,
        )

    @asynccontextmanager
    async def running(self, settings: Settings) -> AsyncIterator["Running"]:
        """Run the service: wait for the database, check the revision, open both pools; close them at the end.

        Raises StartupError."""
        backend = self.backend(settings)
        await startup.in_thread(startup.wait_for_database, backend)
        revision = await startup.in_thread(startup.checked_revision, self, backend)
        await asyncio.to_thread(check_runtime, self, backend)
        running = Running(self, backend, revision)
        await startup.start_reads(running.reads)
        running.writes.start()
        self.app.state.running = running
        try:
            yield running
        finally:
            running.draining = True
            self.app.state.running = None
            await running.stop()


_CLOSING = 1.0
"""Seconds for closing connections, even if requests have taken all the time there was."""


class Running:
    """A running service: its backend, its pools, its cache, the database revision, whether it is draining."""

    def __init__(self, service: Service, backend: Backend, revision: str | None) -> None:
        self.service, self.backend, self.revision = service, backend, revision
        self._cache = CacheConnection(service.name, backend.settings, service.limits)
        self.read_only_cache = CacheReader(self._cache)
        self.reads = ReadPool(backend)
        self.writes = WritePool(backend, service.tables)
        self.readiness = Readiness(service, backend, revision)
        self.load = Load(service.limits)
        self.metrics = Metrics(self.reads, self.writes, self.load)
        self.draining = False
        self.ends_at: float | None = None
        """Once it is draining: the latest end, by `time.monotonic`."""

    async def stop(self) -> None:
        """Finish the units of work and the reads, and close the connections to the database and the cache; by `ends_at`."""
        left = self.service.limits.drain
        if self.ends_at is not None:
            left = max(_CLOSING, self.ends_at - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(left + _CLOSING):
                await self.writes.stop(left)
                await asyncio.gather(self.reads.stop(), self.readiness.stop(), self._cache.close())

    @cached_property
    def cache(self) -> CacheClient:
        """The cache. Raises RuntimeError for a service that only reads."""
        if only_reads(self.service):
            name = self.service.name
            raise RuntimeError(f"{name} only reads, and so does its cache: write `cache: ReadOnlyCache`")
        return CacheClient(self._cache)

    async def not_ready(self) -> str:
        """Why the service cannot work now, in a sentence; empty when it can."""
        if self.draining:
            return "The service is stopping."
        return await self.readiness.problem() or await self.writes.problem()


def _metadata_of(tables: ModuleType | sa.MetaData) -> sa.MetaData:
    """The MetaData of the table classes in a module, defined there or imported."""
    if isinstance(tables, sa.MetaData):
        return tables
    classes = [
        each for each in vars(tables).values() if isinstance(each, type) and issubclass(each, BareTable)
    ]
    found = {id(each.__metadata__): each.__metadata__ for each in classes if hasattr(each, "__table__")}
    if len(found) > 1:
        raise ValueError(
            f"The tables of {tables.__name__} are in {len(found)} MetaDatas: give them one base."
        )
    return next(iter(found.values()), sa.MetaData(naming_convention=NAMING_CONVENTION))


def _shared_in(access: ModuleType | None) -> list[type[SharedTable]]:
    found = vars(access).values() if access else ()
    return [
        each
        for each in found
        if isinstance(each, type) and issubclass(each, SharedTable) and hasattr(each, "__table__")
    ]


def _root_of(tables: ModuleType | sa.MetaData) -> Path:
    if isinstance(tables, ModuleType) and tables.__file__:
        return Path(tables.__file__).resolve().parents[2]  # root/src/package/tables.py
    if _metadata_of(tables).tables:
        raise ValueError(
            "Pass root=, the folder that contains migrations/: it has a default only if tables is a module."
        )
    return Path(os.devnull)  # no folder: a service without tables has no migrations
