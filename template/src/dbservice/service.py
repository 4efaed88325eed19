"""The definition of a service, and its state while it runs."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI

from . import logs, startup, tracing
from .accounts.commands import check_runtime
from .accounts.declared import only_reads
from .backends import Backend, backend_for
from .backends.hosts import Watch
from .cache import CacheClient, CacheConnection, CacheReader
from .http.app import create_app
from .http.load import Load
from .http.metrics import Metrics
from .limits import Limits
from .readiness import Readiness
from .reads import Query, ReadPool
from .schema import NAMING_CONVENTION, BareTable, SharedTable
from .settings import Settings
from .writes import WritePool


class Service:
    """A service: its name, the tables it owns, its routers. `app` is the ASGI application.

    `tables` is the module with its table classes, or a MetaData; `access` the module with the tables of other services
    that it uses. `root` is the folder that contains `migrations/`, by default the parent of the module's `src/`.

    Raises ValueError for tables in several MetaDatas, for a table that is in both modules, for a foreign key to a column
    that `access.py` lacks, and for a missing `root` that has no default. Raises TypeError if a module with routes has a
    query of a table that is in neither module."""

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
        _refer_to_shared(self.tables, self.shared)
        _check_queries(self.routers, self.all_tables)
        self.description, self.schema, self.version = description, schema, version
        self.limits = limits or Limits()
        self.package = name.replace("-", "_")
        self.version_table = f"alembic_version_{self.package}"
        self.migrations = (root or _root_of(tables)) / "migrations"

    def backend(self, settings: Settings) -> Backend:
        """The backend of `settings`, with this service's schema, name and limits."""
        return backend_for(
            settings,
            schema=self.schema,
            application=self.name,
            limits=self.limits,
            writes=self.writes,
        )

    @property
    def all_tables(self) -> set[sa.Table]:
        """The tables it owns, and those of other services that it uses."""
        return {*self.tables.tables.values(), *(each.__table__ for each in self.shared)}

    @property
    def writes(self) -> bool:
        """Whether it writes to the database; a service without tables of its own may only read those of others."""
        return bool(self.tables.tables) or any(each.__access__.writes for each in self.shared)

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
        await startup.in_thread(lambda stop: check_runtime(self, backend))
        running = Running(self, backend, revision, tracing.start(self, backend))
        await startup.start_reads(running.reads)
        running.writes.start()
        self.app.state.running = running
        try:
            yield running
        finally:
            running.draining = True
            self.app.state.running = None
            await running.stop()


_LOOK = 0.5
"""Seconds that `/metrics` waits for the database."""
_CLOSING = 1.0
"""Seconds for closing connections, even if requests have taken all the time there was."""


class Running:
    """A running service: its backend, its pools, its cache, the database revision, whether it is draining, its traces."""

    def __init__(
        self,
        service: Service,
        backend: Backend,
        revision: str | None,
        tracing: "tracing.Tracing | None" = None,
    ) -> None:
        self.service, self.backend, self.revision, self.tracing = service, backend, revision, tracing
        self._cache = CacheConnection(service.name, backend.settings, service.limits)
        self.read_only_cache = CacheReader(self._cache)
        self.reads = ReadPool(backend, tables=service.all_tables)
        self.writes = WritePool(backend, service.all_tables)
        self.readiness = Readiness(service, backend, revision)
        self.load = Load(service.limits)
        self._watch = Watch(backend)
        self.reads.tracing = self.writes.db._tracing = tracing
        self.metrics = Metrics(self)
        self.info = {"service": service.name, "version": service.version}
        self.draining = False
        self.is_ready = True
        """What `not_ready` has found, the last time."""
        self._looking: asyncio.Task[str] | None = None
        self.ends_at: float | None = None
        """Once it is draining: the latest end, by `time.monotonic`."""

    async def stop(self) -> None:
        """Finish the units of work and the reads, and close the connections to the database and the cache; by `ends_at`."""
        left = self.service.limits.drain
        if self.ends_at is not None:
            left = max(_CLOSING, self.ends_at - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(left + _CLOSING):
                await self._watch.stop()
                await self.writes.stop(left)
                await asyncio.gather(self.reads.stop(), self.readiness.stop(), self._cache.close())
        if self.tracing is not None:
            await self.tracing.stop(self.service.limits.traces)

    @cached_property
    def cache(self) -> CacheClient:
        """The cache. Raises RuntimeError for a service that only reads."""
        if only_reads(self.service):
            name = self.service.name
            raise RuntimeError(f"{name} only reads, and so does its cache: write `cache: ReadOnlyCache`")
        return CacheClient(self._cache)

    @property
    def degraded(self) -> str:
        """What does not work as it should though the service is ready, in a sentence; empty if nothing is known."""
        return "The replica does not answer: reads go to the primary." if self.reads.hosts.falls_back else ""

    async def not_ready(self) -> str:
        """Why the service cannot work now, in a sentence; empty when it can."""
        problem = "The service is stopping."
        if not self.draining:
            problem = await self.readiness.problem() or await self.writes.problem()
        self.is_ready = not problem
        return problem

    async def look(self) -> None:
        """Ask `not_ready`, for the metrics, and wait for the answer for a moment: one that takes longer is in the next."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self.not_ready())
        await asyncio.wait({self._looking}, timeout=_LOOK)

    @property
    def database_is_up(self) -> bool:
        """Whether the database could be used, the last time that somebody looked."""
        return self.readiness.is_up

    @property
    def cache_is_up(self) -> bool | None:
        """Whether the cache answers; None without one."""
        return self._cache.is_up


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


def _refer_to_shared(tables: sa.MetaData, shared: Sequence[type[SharedTable]]) -> None:
    """Check the tables of other services, and let foreign keys of own tables refer to them. Raises ValueError."""
    others = {each.__table__.name: each.__table__ for each in shared}
    if len(others) < len(shared):
        raise ValueError("access.py declares a table twice: put all of its columns into one class")
    if both := tables.tables.keys() & others.keys():
        raise ValueError(
            f"{', '.join(sorted(both))}: in tables.py and in access.py; leave one of the two out"
        )
    for key in (key for table in tables.tables.values() for key in table.foreign_keys):
        table, _, column = key.target_fullname.rpartition(".")
        if table in others and column not in others[table].columns:
            raise ValueError(
                f"{key.parent} refers to {key.target_fullname}, a column that access.py does not declare"
            )
        if table in others:
            key._set_remote_table(others[table])


def _check_queries(routers: Sequence[APIRouter], tables: Collection[sa.Table]) -> None:
    """Check the queries of modules with routes, so that an undeclared table is an error at import; others are checked when
    they are used for the first time. Raises TypeError."""
    endpoints = (getattr(route, "endpoint", None) for router in routers for route in router.routes)
    for module in {sys.modules.get(getattr(each, "__module__", "")) for each in endpoints}:
        for each in list(vars(module).values()) if module else ():
            if isinstance(each, Query):
                each.check_tables(tables)


def _root_of(tables: ModuleType | sa.MetaData) -> Path:
    if isinstance(tables, ModuleType) and tables.__file__:
        return Path(tables.__file__).resolve().parents[2]  # root/src/package/tables.py
    if _metadata_of(tables).tables:
        raise ValueError(
            "Pass root=, the folder that contains migrations/: it has a default only if tables is a module."
        )
    return Path(os.devnull)  # no folder: a service without tables has no migrations
