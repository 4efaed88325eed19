"""Values of the cache: bytes as they are, everything else as JSON in the format of the API."""

from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from ..schema import decode_column

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """`value` as the cache stores it. Raises TypeError for what JSON cannot hold."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else _encode(value)


def decode(raw: bytes, kind: type[T]) -> T | None:
    """The value; None if it is not a `kind`: another version of the service may have stored it."""
    asked: Any = kind
    value: Any = raw
    if asked is not bytes:
        try:
            value = _decoder(asked).decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    return value  # type: ignore[no-any-return]


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):  # a subclass of ours
        return str(value)
    raise TypeError(f"the cache holds bytes and what JSON can hold, which {type(value).__name__} is not")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


@lru_cache(maxsize=1000)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=decode_column)
