"""L1: FastAPI and asyncpg as their documentation shows it. Routes return dicts, which the declared pydantic model
validates and serializes."""

from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException

from . import common as c
from .models import Item, ItemIn, Limit, Page


@asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(min_size=c.POOL, max_size=c.POOL, **c.PG_KW) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/items/{id}")
async def get_item(id: int) -> Item:
    row = await app.state.pool.fetchrow(c.SQL_GET, id)
    if row is None:
        raise HTTPException(404)
    return dict(row)


@app.get("/items")
async def list_items(limit: Limit = 50, after: int = 0) -> Page:
    rows = await app.state.pool.fetch(c.SQL_LIST, after, limit)
    return {"items": [dict(r) for r in rows], "next_after": rows[-1]["id"] if len(rows) == limit else None}


@app.post("/items", status_code=201)
async def create_item(item: ItemIn) -> Item:
    try:
        row = await app.state.pool.fetchrow(c.SQL_POST, item.sku, item.name, item.price, item.active)
    except asyncpg.UniqueViolationError:
        raise HTTPException(409, "duplicate sku") from None
    return dict(row)
