"""The cache in Redis or Valkey, which may be away at any time: the service works without it, only slower.

Routes get it as `cache: Cache`, those of a service that only reads as `cache: ReadOnlyCache`. Every key and channel is
`<service>:<key>`, which the account `<service>-cache` is limited to."""

from .client import CacheClient, CacheReader
from .connection import CacheConnection

__all__ = ["CacheClient", "CacheConnection", "CacheReader"]
