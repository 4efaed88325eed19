"""A service that is not stamped: every type of column, awkward names, and the routes a stamped service would have."""

import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from dbservice import (
    DAL,
    Create,
    Limits,
    NotFound,
    Page,
    Patch,
    Reads,
    Row,
    Service,
    Statement,
    Writes,
    public_columns,
    query,
    schema,
)
from dbservice.accounts import commands
from dbservice.backends import backend_for
from dbservice.http import Cursor, PageSize, Router, RowId
from dbservice.schema import RESERVED_ATTRIBUTES, BareTable, Column, ForeignKey
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


class Table(schema.Table, metadata=sa.MetaData()):
    """The base of the sample service's tables."""


def attribute(column: str) -> str:
    """What a table class calls the column of this name."""
    return f"{column}_" if column in RESERVED_ATTRIBUTES else column


def made(name: str, /, *bases: type, **options: Any) -> Any:
    """What `class name(*bases, **options)` makes, where these are values."""
    return types.new_class(name, bases, options, lambda body: body.update(__module__=__name__, __doc__=name))


# one optional column of each type, so that a test may send one value and nothing else
class Values(Table, name="values"):
    string = Column(String(40), nullable=True)
    text = Column(Text(), nullable=True)
    integer = Column(Integer(), nullable=True)
    bigint = Column(BigInteger(), nullable=True)
    boolean = Column(Boolean(), nullable=True)
    decimal = Column(Numeric(12, 2), nullable=True)
    whole_decimal = Column(Numeric(18, 0), nullable=True)
    long_decimal = Column(Numeric(38, 10), nullable=True)
    longest_decimal = Column(Numeric(65, 30), nullable=True)
    float = Column(Float(), nullable=True)
    date = Column(Date(), nullable=True)
    time = Column(Time(), nullable=True)
    timestamp = Column(Timestamp(), nullable=True)
    json_ = Column(JSON(), nullable=True, name="json")
    uuid = Column(Uuid(), nullable=True)
    binary = Column(Binary(), nullable=True)
    enum = Column(Enum("a", "b", "long value"), nullable=True)


# what must not be left out, what must be the only one, what fills itself in, what nobody may see
class Users(Table, name="users"):
    email = Column(String(255), unique=True)
    password = Column(String(255), nullable=True, secret=True)
    active = Column(Boolean(), default=True)
    balance = Column(Numeric(12, 2), default="0")
    kind = Column(Enum("plain", "admin"), default="plain")
    settings = Column(JSON(), default={"theme": "it's \\ dark é"})
    note = Column(Text(), default="it's \\ é")
    since = Column(Timestamp(), default="2024-01-31T13:45:00.000001Z")
    rate = Column(Float(), default=0.25)


# names that Python, PyDAL, pydantic or an engine keeps for itself
NAMES = [
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
    "fields",
    "add",
    "change",
    "changes",
    "columns",
    "from_mapping",
    "items",
    "values",
    "query",
    "schema",
    "dict",
    "index",
]


class Items(Table, name="items"):
    user_id = Column(BigInteger(), ForeignKey("users.id"), index=True)
    parent_id = Column(BigInteger(), ForeignKey("items.id"), nullable=True, index=True)
    vars().update({attribute(name): Column(String(20), nullable=True, name=name) for name in NAMES})


class Order(Table, name="order"):
    group = Column(String(20), nullable=True, unique=True)


metadata = Table.__metadata__
values, users, items, order = (each.__table__ for each in (Values, Users, Items, Order))


def class_of(table: sa.Table, base: type[BareTable] = BareTable) -> type[BareTable] | None:
    """The class that made `table`."""
    if vars(base).get("__table__") is table:
        return base
    return next(filter(None, (class_of(table, each) for each in base.__subclasses__())), None)


def routes(table: sa.Table) -> Any:
    """The routes a stamped service has for `table`."""
    name, source = table.name.title(), class_of(table)
    assert source is not None
    row: Any = made(f"{name}Row", source, Row)
    create: Any = made(f"{name}Create", source, Create)
    patch: Any = made(f"{name}Patch", source, Patch)
    router = Router(table.name)

    @query(row)
    def one(id: int) -> Statement:
        return sa.select(*public_columns(table)).where(table.c.id == id)

    @query(row)
    def page(after: int, limit: int) -> Statement:
        return sa.select(*public_columns(table)).where(table.c.id > after).order_by(table.c.id).limit(limit)

    @router.get("", name=f"list {table.name}")
    async def list_rows(reads: Reads, limit: PageSize = 50, after: Cursor = 0) -> Page[row]:
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
        return row.from_mapping(db[table].insert_row(new.changes()))

    def change(db: DAL, row_id: int, new: Any) -> Any:
        changed = db[table].update_row(row_id, new.changes())
        if changed is None:
            raise NotFound("There is no such row.")
        return row.from_mapping(changed)

    def delete(db: DAL, row_id: int) -> None:
        if not db[table].delete_row(row_id):
            raise NotFound("There is no such row.")

    return router


PATIENT = {
    "connect": 60.0,
    "acquire": 60.0,
    "statement": 60.0,
    "write": 60.0,
    "write_queue": 60.0,
    "failover": 0.0,
    "drain": 60.0,
}
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
    """Create the service's tables, as `migrate` does."""
    service = sample_service(NOWHERE)
    backend = service.backend(settings.for_migration())
    engine = backend.migrations.engine()
    metadata.create_all(engine)
    engine.dispose()
    with closing(backend.connect()) as connection:
        commands.after_migration(service, backend, connection)


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
    connection = backend_for(settings).connect()
    cursor = connection.cursor()
    cursor.execute("SELECT email FROM users ORDER BY email")
    found = [email for (email,) in cursor.fetchall()]
    connection.close()
    return found


def add_users(db: DAL, *emails: str) -> None:
    """A unit of work: insert these users."""
    for email in emails:
        db[users].insert(email=email)
