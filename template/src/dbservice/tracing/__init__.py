"""Traces of OpenTelemetry: spans of requests, statements and units of work, sent to a collector.

Nothing of OpenTelemetry is imported, and nothing done for a request, unless variables OTEL_* ask for traces."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ..backends.interface import Backend
from ..correlation import add_trace_ids
from ..errors import StartupError
from .environment import TraceSettings

if TYPE_CHECKING:
    from .tracing import Tracing

__all__ = ["TracedService", "Tracing", "start"]


class TracedService(Protocol):
    """What a trace says of its service."""

    name: str
    version: str


def start(
    service: TracedService, backend: Backend, environ: Mapping[str, str] | None = None
) -> "Tracing | None":
    """What makes spans, if `environ` (by default `os.environ`) asks for them. Raises StartupError for a variable whose value
    is not possible, and where the packages are not installed."""
    settings = TraceSettings.load(os.environ if environ is None else environ)
    if settings is None:
        return None
    try:
        from . import tracing
    except ImportError as error:
        raise StartupError(
            f"{settings.asked_by} asks for traces, but the packages of OpenTelemetry are not installed: in pyproject.toml, add"
            ' "src/dbservice/requirements-otel.txt" to [tool.setuptools.dynamic] dependencies, or set OTEL_SDK_DISABLED=true'
        ) from error
    add_trace_ids(tracing.trace_ids)
    return tracing.Tracing(service, backend, settings)
