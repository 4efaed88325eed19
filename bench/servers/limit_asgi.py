"""L0: no framework. Plain ASGI, asyncpg's prepared statements, msgspec, a minimal pool."""

import asyncio
from datetime import datetime
from decimal import Decimal
from urllib.parse import parse_qs

import asyncpg
import msgspec

from . import common as c


class ItemIn(msgspec.Struct):
    sku: str
    name: str
    price: Decimal
    active: bool = True


class Item(msgspec.Struct):
    id: int
    sku: str
    name: str
    price: Decimal
    active: bool
    created_at: datetime


class Page(msgspec.Struct):
    items: list[Item]
    next_after: int | None


encode = msgspec.json.Encoder().encode
decode_in = msgspec.json.Decoder(ItemIn).decode
free: asyncio.LifoQueue
H_JSON = (b"content-type", b"application/json")
NOT_FOUND = b'{"detail":"Not Found"}'


async def startup():
    global free
    free = asyncio.LifoQueue()
    for _ in range(c.POOL):
        con = await asyncpg.connect(**c.PG_KW)
        free.put_nowait(
            (await con.prepare(c.SQL_GET), await con.prepare(c.SQL_LIST), await con.prepare(c.SQL_POST), con)
        )


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            msg = await receive()
            if msg["type"] == "lifespan.startup":
                await startup()
                await send({"type": "lifespan.startup.complete"})
            else:
                while not free.empty():
                    await free.get_nowait()[3].close()
                await send({"type": "lifespan.shutdown.complete"})
                return
    path = scope["path"]
    status = 200
    if path == "/healthz":
        body = b'{"status":"ok"}'
    elif path == "/items":
        if scope["method"] == "POST":
            raw = b""
            while True:
                msg = await receive()
                raw += msg.get("body", b"")
                if not msg.get("more_body"):
                    break
            try:
                i = decode_in(raw)
            except msgspec.DecodeError as e:
                status, body = 422, encode({"detail": str(e)})
            else:
                slot = await free.get()
                try:
                    row = await slot[2].fetchrow(i.sku, i.name, i.price, i.active)
                    status, body = 201, encode(Item(*row))
                except asyncpg.UniqueViolationError:
                    status, body = 409, b'{"detail":"duplicate sku"}'
                finally:
                    free.put_nowait(slot)
        else:
            q = parse_qs(scope["query_string"])
            limit = min(int(q.get(b"limit", (50,))[0]), 200)
            slot = await free.get()
            try:
                rows = await slot[1].fetch(int(q.get(b"after", (0,))[0]), limit)
            finally:
                free.put_nowait(slot)
            items = [Item(*r) for r in rows]
            body = encode(Page(items, items[-1].id if len(items) == limit else None))
    elif path.startswith("/items/"):
        slot = await free.get()
        try:
            row = await slot[0].fetchrow(int(path[7:]))
        finally:
            free.put_nowait(slot)
        if row is None:
            status, body = 404, NOT_FOUND
        else:
            body = encode(Item(*row))
    else:
        status, body = 404, NOT_FOUND
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [H_JSON, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
