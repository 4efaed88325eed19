"""JSON, UUIDs and bytes."""

import base64
import binascii
import math
import re
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa

from .base import INT64, ColumnType
from .text import checked_text


class JSON(ColumnType[Any]):
    """Any JSON value except a top-level null (which is NULL). Numbers are 64-bit integers or doubles."""

    impl = sa.JSON

    def check(self, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null")
        return self._plain(value, 0)

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return checked_text(value)
        if kind is bool or value is None or (kind is int and -INT64 - 1 <= value <= INT64):
            return value
        if depth < 64:  # what follows asks for the same with subclasses, and says what is wrong
            if kind is dict:
                return {checked_text(key): self._plain(item, depth + 1) for key, item in value.items()}
            if kind is list:
                return [self._plain(item, depth + 1) for item in value]
        match value:
            case list() | tuple() | dict() if depth == 64:
                raise ValueError("must not be nested deeper than 64 levels")
            case None | bool():
                return value
            case str():
                return checked_text(value)
            case int():
                if not -INT64 - 1 <= value <= INT64:
                    raise ValueError("must hold whole numbers of at most 64 bits")
                return int(value)
            case float():
                if not math.isfinite(value):
                    raise ValueError("must hold finite numbers")
                return float(value)
            case list() | tuple():
                return [self._plain(item, depth + 1) for item in value]
            case dict():
                return {checked_text(key): self._plain(item, depth + 1) for key, item in value.items()}
        raise ValueError(f"must be JSON, not {type(value).__name__}")

    @staticmethod
    def dumps(value: Any) -> str:
        """The JSON text that every engine stores unchanged."""
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        return msgspec.json.decode(text)

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["object", "array", "string", "number", "boolean"]}

    def example(self, number: int) -> Any:
        return {"number": number, "nested": [1.5, "text", None, True]}


class Uuid(ColumnType[uuid.UUID]):
    """A UUID."""

    impl = sa.Uuid

    def check(self, value: Any) -> uuid.UUID:
        if not isinstance(value, uuid.UUID):
            raise ValueError("must be a UUID")
        return uuid.UUID(int=value.int)

    def from_json(self, value: Any) -> uuid.UUID:
        if not isinstance(value, str) or not re.fullmatch(
            r"(?a:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})", value
        ):
            raise ValueError('must be a UUID like "123e4567-e89b-12d3-a456-426614174000"')
        return uuid.UUID(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}

    def example(self, number: int) -> str:
        return str(uuid.UUID(int=0x123E4567E89B12D3A456 << 48 | number))


class Binary(ColumnType[bytes]):
    """Bytes, encoded as base64 in JSON."""

    impl = sa.LargeBinary

    def check(self, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ValueError("must be bytes")
        return bytes(value)

    def from_json(self, value: Any) -> bytes:
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            data = None
        if data is None or base64.b64encode(data).decode() != value:
            raise ValueError("must be a string of base64 (RFC 4648, with padding)")
        return data

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64"}

    def example(self, number: int) -> str:
        return base64.b64encode(f"example {number}".encode()).decode()
