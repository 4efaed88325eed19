"""P1: FastAPI, SQLAlchemy's async ORM on asyncpg, a session per request from a dependency."""

from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import BigInteger, DateTime, Numeric, String, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from . import common as c
from .models import Item, ItemIn, Limit, Page


class Base(DeclarativeBase):
    pass


class ItemRow(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sku: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(255))
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    active: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


engine = create_async_engine(c.url("postgresql+asyncpg"), pool_size=c.POOL, max_overflow=0)
Session = async_sessionmaker(engine, expire_on_commit=False)


async def get_session():
    async with Session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


@asynccontextmanager
async def lifespan(app):
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/items/{id}", response_model=Item)
async def get_item(id: int, session: SessionDep):
    row = await session.get(ItemRow, id)
    if row is None:
        raise HTTPException(404)
    return row


@app.get("/items", response_model=Page)
async def list_items(session: SessionDep, limit: Limit = 50, after: int = 0):
    rows = (
        await session.scalars(select(ItemRow).where(ItemRow.id > after).order_by(ItemRow.id).limit(limit))
    ).all()
    return {"items": rows, "next_after": rows[-1].id if len(rows) == limit else None}


@app.post("/items", status_code=201, response_model=Item)
async def create_item(item: ItemIn, session: SessionDep):
    row = ItemRow(**item.model_dump())
    session.add(row)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "duplicate sku") from None
    await session.refresh(row)
    return row
