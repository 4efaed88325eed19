"""The request and response models of the FastAPI servers."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

Limit = Annotated[int, Query(ge=1, le=200)]


class ItemIn(BaseModel):
    sku: str = Field(max_length=64)
    name: str = Field(max_length=255)
    price: Decimal = Field(max_digits=12, decimal_places=2)
    active: bool = True


class Item(ItemIn):
    model_config = ConfigDict(from_attributes=True)
    id: int
    created_at: datetime


class Page(BaseModel):
    items: list[Item]
    next_after: int | None
