"""W: FastAPI with plain psycopg2 on ten threads: BEGIN, INSERT, COMMIT. Writes only."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg2
from fastapi import FastAPI, HTTPException

from . import common as c
from .models import Item, ItemIn

SQL = "INSERT INTO items (sku,name,price,active,created_at) VALUES (%s,%s,%s,%s,%s) RETURNING id"
local = threading.local()


class Duplicate(Exception):
    pass


def connection():
    if not hasattr(local, "connection"):
        local.connection = psycopg2.connect(
            host=c.HOST, port=c.PORT, user=c.USER, password=c.PASSWORD, dbname=c.DBNAME
        )
        local.cursor = local.connection.cursor()
    return local.connection


def insert(item):
    v = dict(sku=item.sku, name=item.name, price=item.price, active=item.active, created_at=datetime.now(UTC))
    db = connection()
    try:
        local.cursor.execute(SQL, (v["sku"], v["name"], v["price"], v["active"], v["created_at"]))
        v["id"] = local.cursor.fetchone()[0]
        db.commit()
    except psycopg2.errors.UniqueViolation:
        db.rollback()
        raise Duplicate from None
    return v


pool = ThreadPoolExecutor(c.POOL)


@asynccontextmanager
async def lifespan(app):
    barrier = threading.Barrier(c.POOL)

    def start():
        connection()
        barrier.wait(30)

    loop = asyncio.get_running_loop()
    await asyncio.gather(*[loop.run_in_executor(pool, start) for _ in range(c.POOL)])
    yield
    pool.shutdown()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/items", status_code=201)
async def create_item(item: ItemIn) -> Item:
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, insert, item)
    except Duplicate:
        raise HTTPException(409, "duplicate sku") from None
