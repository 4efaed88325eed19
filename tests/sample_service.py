"""A service that is not stamped: every type of column, awkward names, and the routes a stamped service would have."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey

from dbservice import DAL, Create, Limits, NotFound, Page, Patch, Reads, Row, Service, Writes, public, query
from dbservice.engines import engine_of
from dbservice.http import After, Limit, Router, RowId
from dbservice.schema import SECRET, owned, service_metadata
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server
from dbservice.types import (
    JSON,
    BigInteger,
    Binary,
    Boolean,
    Date,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    Text,
    Time,
    Timestamp,
    Uuid,
)

metadata = service_metadata()

# one optional column of each type, so that a test may send one value and nothing else
values = owned(
    metadata,
    "values",
    Column("string", String(40), nullable=True),
    Column("text", Text(), nullable=True),
    Column("integer", Integer(), nullable=True),
    Column("bigint", BigInteger(), nullable=True),
    Column("boolean", Boolean(), nullable=True),
    Column("decimal", Numeric(12, 2), nullable=True),
    Column("whole_decimal", Numeric(18, 0), nullable=True),
    Column("long_decimal", Numeric(38, 10), nullable=True),
    Column("longest_decimal", Numeric(65, 30), nullable=True),
    Column("float", Float(), nullable=True),
    Column("date", Date(), nullable=True),
    Column("time", Time(), nullable=True),
    Column("timestamp", Timestamp(), nullable=True),
    Column("json", JSON(), nullable=True),
    Column("uuid", Uuid(), nullable=True),
    Column("binary", Binary(), nullable=True),
    Column("enum", Enum("a", "b", "long value"), nullable=True),
)

# what must not be left out, what must be the only one, what fills itself in, what nobody may see
users = owned(
    metadata,
    "users",
    Column("email", String(255), nullable=False, unique=True),
    Column("password", String(255), nullable=True, info=SECRET),
    Column("active", Boolean(), nullable=False, default=True),
    Column("balance", Numeric(12, 2), nullable=False, default="0"),
    Column("kind", Enum("plain", "admin"), nullable=False, default="plain"),
    Column("settings", JSON(), nullable=False, default={"theme": "it's \\ dark é"}),
    Column("note", Text(), nullable=False, default="it's \\ é"),
    Column("since", Timestamp(), nullable=False, default="2024-01-31T13:45:00.000001Z"),
    Column("rate", Float(), nullable=False, default=0.25),
)

# names that Python, PyDAL, pydantic or an engine keeps for itself
items = owned(
    metadata,
    "items",
    Column("user_id", BigInteger(), ForeignKey("users.id"), nullable=False, index=True),
    Column("parent_id", BigInteger(), ForeignKey("items.id"), nullable=True, index=True),
    *(
        Column(name, String(20), nullable=True)
        for name in (
            *(
                "key",
                "type",
                "desc",
                "limit",
                "order",
                "group",
                "select",
                "update_record",
                "delete_record",
                "as_dict",
            ),
            *(
                "metadata",
                "class",
                "from",
                "json",
                "copy",
                "model_config",
                "model_fields",
                "insert",
                "update",
                "get",
            ),
            *(
                "fields",
                "add",
                "change",
                "sent",
                "columns",
                "of",
                "items",
                "values",
                "query",
                "schema",
                "dict",
                "index",
            ),
        )
    ),
)
order = owned(metadata, "order", Column("group", String(20), nullable=True, unique=True))


_METAS: dict[type, Any] = {each: type(each) for each in (Row, Create, Patch)}


def routes(table: sa.Table) -> Any:
    """The routes a stamped service has for `table`."""
    name = table.name.title()
    row: Any = _METAS[Row](f"{name}Row", (Row,), {"__module__": __name__, "__doc__": "A row."}, table=table)
    create: Any = _METAS[Create](
        f"{name}Create", (Create,), {"__module__": __name__, "__doc__": "New."}, table=table
    )
    patch: Any = _METAS[Patch](
        f"{name}Patch", (Patch,), {"__module__": __name__, "__doc__": "Change."}, table=table
    )
    router = Router(table.name)
    one = query(row, sa.select(*public(table)).where(table.c.id == sa.bindparam("id")))
    page = query(
        row,
        sa.select(*public(table))
        .where(table.c.id > sa.bindparam("after"))
        .order_by(table.c.id)
        .limit(sa.bindparam("limit")),
    )

    @router.get("", name=f"list {table.name}")
    async def list_rows(reads: Reads, limit: Limit = 50, after: After = 0) -> Page[row]:
        return await reads.page(page, limit=limit, after=after)

    @router.post("", status_code=201, name=f"create {table.name}")
    async def create_row(new: create, writes: Writes) -> row:
        return await writes.run(insert_row, new)

    @router.get("/{id}", name=f"read {table.name}")
    async def read_row(row_id: RowId, reads: Reads) -> row:
        return await reads.one(one, id=row_id)

    @router.patch("/{id}", name=f"change {table.name}")
    async def change_row(row_id: RowId, new: patch, writes: Writes) -> row:
        return await writes.run(change, row_id, new)

    @router.delete("/{id}", status_code=204, name=f"delete {table.name}")
    async def delete_row(row_id: RowId, writes: Writes) -> None:
        await writes.run(delete, row_id)

    def insert_row(db: DAL, new: Any) -> Any:
        return row.of(db[table].add(new.sent()))

    def change(db: DAL, row_id: int, new: Any) -> Any:
        changed = db[table].change(row_id, new.sent())
        if changed is None:
            raise NotFound("There is no such row.")
        return row.of(changed)

    def delete(db: DAL, row_id: int) -> None:
        if not db[table].remove(row_id):
            raise NotFound("There is no such row.")

    return router


PATIENT = {"connect": 60.0, "acquire": 60.0, "statement": 60.0, "write": 60.0, "drain": 60.0}
"""Limits that nothing meets, not even on a busy machine."""


def sample_service(root: Path, **limits: Any) -> Service:
    """A new sample service, patient but for these limits; `root` has no migrations."""
    return Service(
        "sample",
        tables=metadata,
        routers=[routes(table) for table in metadata.sorted_tables],
        description="Every type of column.",
        limits=Limits(**{**PATIENT, **limits}),
        root=root,
    )


# --- the service on a database

NOWHERE = Path("/nonexistent")  # a service whose root it is has no migrations


@asynccontextmanager
async def started(settings: Settings, *, pool: int = 5, **limits: Any) -> AsyncIterator[Running]:
    """The service on a database that holds its tables, with so many connections and these limits."""
    settings = settings.model_copy(update={"db_pool_size": pool})
    async with sample_service(NOWHERE, **limits).running(settings) as running:
        yield running


def client_of(running: Running) -> httpx.AsyncClient:
    """A client of the running service, in the same process."""
    transport = httpx.ASGITransport(running.service.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60)


@asynccontextmanager
async def served(service: Service, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `service`, which runs on that database."""
    async with service.running(settings) as running, client_of(running) as client:
        yield client


def create_tables(settings: Settings) -> None:
    """Create the service's tables."""
    engine = sample_service(NOWHERE).engine(settings).sqlalchemy()
    metadata.create_all(engine)
    engine.dispose()


@contextmanager
def sample_database(server: Server) -> Iterator[Settings]:
    """The settings of a new database of `server` that holds the service's tables."""
    database = server.create_database()
    settings = Settings.load({**database.environ(), "DB_MAX_RETRIES": "0"})
    try:
        create_tables(settings)
        yield settings
    finally:
        server.drop_database(database)


def stored_emails(settings: Settings) -> list[str]:
    """The users that the database holds, by the driver alone."""
    connection = engine_of(settings).connect()
    cursor = connection.cursor()
    cursor.execute("SELECT email FROM users ORDER BY email")
    found = [email for (email,) in cursor.fetchall()]
    connection.close()
    return found


def add_users(db: DAL, *emails: str) -> None:
    """A unit of work: insert these users."""
    for email in emails:
        db[users].insert(email=email)
