"""A route's way to the database and to the cache: `reads: Reads`, `writes: Writes`, `cache: Cache`."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from ..cache import CacheClient, CacheReader
from ..reads import ReadPool
from ..writes import WritePool


async def _reads(request: Request) -> ReadPool:
    pool: ReadPool = request.app.state.running.reads
    return pool


async def _writes(request: Request) -> WritePool:
    pool: WritePool = request.app.state.running.writes
    return pool


async def _cache(request: Request) -> CacheClient:
    client: CacheClient = request.app.state.running.cache
    return client


async def _read_only_cache(request: Request) -> CacheReader:
    reader: CacheReader = request.app.state.running.read_only_cache
    return reader


Reads = Annotated[ReadPool, Depends(_reads)]
"""A route's way to read: `reads: Reads`."""
Writes = Annotated[WritePool, Depends(_writes)]
"""A route's way to write: `writes: Writes`."""
Cache = Annotated[CacheClient, Depends(_cache)]
"""A route's way to the cache: `cache: Cache`."""
ReadOnlyCache = Annotated[CacheReader, Depends(_read_only_cache)]
"""A route's way to the cache in a service that only reads: `cache: ReadOnlyCache`."""

_POOLS = {Reads: "reads", Writes: "writes", Cache: "cache", ReadOnlyCache: "read_only_cache"}


def inject_pools(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """`endpoint`, handed its pools by us: FastAPI takes as long to solve one dependency as all other parameters."""
    signature = inspect.signature(endpoint, eval_str=True)
    request_name = next((name for name, p in signature.parameters.items() if _is_request(p.annotation)), "")
    pools = [
        (name, _POOLS[p.annotation])
        for name, p in signature.parameters.items()
        if p.annotation in tuple(_POOLS)
    ]
    if not pools or not inspect.iscoroutinefunction(endpoint):
        return endpoint

    @functools.wraps(endpoint)
    async def with_pools(_request: Request | None = None, **values: Any) -> Any:
        running = (values[request_name] if _request is None else _request).app.state.running
        for name, pool in pools:
            values[name] = getattr(running, pool)
        return await endpoint(**values)

    request = inspect.Parameter("_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    taken = {name for name, _ in pools}
    others = [p.replace(kind=p.KEYWORD_ONLY) for name, p in signature.parameters.items() if name not in taken]
    if not request_name:  # FastAPI fills in one such parameter and no second
        others.append(request)
    with_pools.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return with_pools


def _is_request(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Request)
