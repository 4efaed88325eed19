"""What a route does with the cache. No method fails because the cache is away: reading answers that nothing is there."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

from .connection import CacheConnection
from .values import decode, encode

T = TypeVar("T")


class CacheReader:
    """Reads from the cache. Routes of a service that only reads get it as `cache: ReadOnlyCache`."""

    def __init__(self, connection: CacheConnection) -> None:
        self._connection = connection

    async def get(self, key: str, kind: type[T]) -> T | None:
        """The value of `key` as a `kind`: a row, `bytes`, or whatever msgspec decodes, such as `list[UserRow]` or
        `dict[str, int]`. None if there is none, if it does not fit `kind`, and while the cache is away."""
        raw = await self._connection.run("GET", self._connection.name_of(key))
        return None if raw is None else decode(raw, kind)

    async def get_many(self, keys: Iterable[str], kind: type[T]) -> dict[str, T]:
        """The values that `get` answers for these keys, by key; a key without a value is left out."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return {}
        raw = await self._connection.run("MGET", *map(self._connection.name_of, asked))
        found: dict[str, T] = {}
        for key, value in zip(asked, raw or (), strict=False):
            if value is not None and (decoded := decode(value, kind)) is not None:
                found[key] = decoded
        return found


class CacheClient(CacheReader):
    """Reads from the cache and writes to it. Routes get it as `cache: Cache`."""

    async def set(self, key: str, value: Any, *, ttl: float) -> bool:
        """Store `value` for `ttl` seconds: bytes as they are, anything else as JSON. False if the cache is away.

        Raises TypeError for a value that JSON cannot hold, ValueError for a `ttl` of less than a millisecond."""
        name, stored = self._connection.name_of(key), encode(value)
        return await self._connection.run("SET", name, stored, "PX", _milliseconds(ttl)) is not None

    async def delete(self, *keys: str) -> bool:
        """Remove these keys. False if the cache is away: it may answer the old values until their `ttl` ends."""
        return await self._connection.run("UNLINK", *map(self._connection.name_of, keys)) is not None

    async def incr(self, key: str, by: int = 1, *, ttl: float) -> int | None:
        """Add to the counter `key` and answer its new value; None if the cache is away. A counter begins at 0 and ends
        `ttl` seconds after its first change. Raises ValueError for a `ttl` of less than a millisecond."""
        name = self._connection.name_of(key)
        first = ("SET", name, 0, "PX", _milliseconds(ttl), "NX")
        answers = await self._connection.run_together(first, ("INCRBY", name, by))
        return None if answers is None else int(answers[-1])

    async def publish(self, channel: str, message: Any) -> bool:
        """Send `message` to those that are subscribed to `channel` now. False if the cache is away. Raises TypeError for a
        message that JSON cannot hold."""
        return (
            await self._connection.run("PUBLISH", self._connection.name_of(channel), encode(message))
            is not None
        )

    async def subscribe(self, channel: str, kind: type[T]) -> AsyncIterator[T]:
        """The messages that are published to `channel` from now on, as a `kind`, until the service stops. Messages that do
        not fit `kind` are left out, and those of the time in which the cache is away are lost."""
        async for raw in self._connection.messages(self._connection.name_of(channel)):
            if (message := decode(raw, kind)) is not None:
                yield message


def _milliseconds(ttl: float) -> int:
    if ttl < 0.001:
        raise ValueError(f"ttl={ttl}: write the number of seconds that the value may live, at least 0.001")
    return int(ttl * 1000)
