"""redis-py, which is installed only with services that have a cache: nothing else imports this module or `redis`."""

import socket
from typing import Any

import redis
from redis import asyncio as redis_async
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..settings import Settings

ERRORS = (redis.RedisError, OSError)
_CONNECTIONS = 10
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and attempts after which a subscription to a server that is gone without a word ends."""


def clients(settings: Settings) -> tuple[Any, Any]:
    """The client for commands, and that for subscriptions, each of which holds a connection. They have no time limits:
    whoever uses them cancels what takes too long."""
    options = _options(settings, "", "")
    if settings.cache_user or settings.cache_password():
        options["credential_provider"] = _Account(settings)
    # a second try would count twice, and redis-py's own limit on sending loses a cancellation on Python 3.11 (wait_for)
    options |= {"retry": AsyncRetry(NoBackoff(), 0), "socket_timeout": None, "socket_connect_timeout": None}
    options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    options["connection_class"] = (
        redis_async.SSLConnection if options.pop("ssl", False) else redis_async.Connection
    )
    keepalive = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
    return (
        redis_async.Redis(connection_pool=redis_async.BlockingConnectionPool(_CONNECTIONS, None, **options)),
        redis_async.Redis(
            connection_pool=redis_async.ConnectionPool(
                socket_keepalive=True, socket_keepalive_options=keepalive, **options
            )
        ),
    )


def administrator(settings: Settings, timeout: float) -> Any:
    """A blocking client with the account of ADMIN_CACHE_USER."""
    options = _options(settings, settings.admin_cache_user, settings.admin_cache_pass.get_secret_value())
    once = Retry(NoBackoff(), 0)
    return redis.Redis(**options, socket_timeout=timeout, socket_connect_timeout=timeout, retry=once)


def is_refusal(error: BaseException) -> bool:
    """Whether the server did answer, and refused a command."""
    return isinstance(error, redis.ResponseError)


class _Account(redis.CredentialProvider):
    """The account of the service. It is asked for each new connection: the file of CACHE_PASS_FILE may hold a new password."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        user, password = self._settings.cache_user, self._settings.cache_password()
        return (user, password) if user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def _options(settings: Settings, user: str, password: str) -> dict[str, Any]:
    options: dict[str, Any] = {"host": settings.cache_host, "port": settings.cache_port}
    options |= {"username": user or None, "password": password or None}
    options |= {"protocol": 2, "driver_info": None}  # no command that the account may lack
    if settings.cache_ssl_mode != "disable":
        verify = settings.cache_ssl_mode == "verify-full"
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required" if verify else "none",
            "ssl_check_hostname": verify,
        }
        options["ssl_ca_certs"] = str(settings.cache_ssl_ca) if settings.cache_ssl_ca else None
    return options
