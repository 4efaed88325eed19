"""Which request a line of the log belongs to: its id, and the ids of its trace."""

import contextvars
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from random import getrandbits

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request that runs in this context, on the event loop or on a thread; empty outside of requests."""

NO_REQUEST = contextvars.Context()
"""For timers that several requests share: a timer runs in the context of whoever has set it."""


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The `X-Request-ID` that a proxy or a client has sent, or a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            if _ID.fullmatch(value):
                return value.decode()
            break
    return f"{getrandbits(64):016x}"


def identify(record: logging.LogRecord) -> bool:
    """A filter of log handlers that lets everything pass, and adds `request_id`, `trace_id` and `span_id` to the record."""
    held = record.__dict__
    if request_id := REQUEST_ID.get():
        held.setdefault("request_id", request_id)
    for name, value in _trace_ids().items():
        held.setdefault(name, value)
    return True


def add_trace_ids(trace_ids: Callable[[], Mapping[str, str]]) -> None:
    """Let `trace_ids` say which trace and span the current context belongs to."""
    global _trace_ids
    _trace_ids = trace_ids


_trace_ids: Callable[[], Mapping[str, str]] = dict
_ID = re.compile(rb"[\w.:+/=-]{1,128}", re.ASCII)
