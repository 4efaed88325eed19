"""The variables OTEL_* that say whether, where and how traces are sent. Those of the exporter itself (headers, certificates,
compression, time limit), of the resource and of the sampler's argument are read by OpenTelemetry's own packages."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import StartupError


class TraceSettings(NamedTuple):
    """How traces are sent."""

    asked_by: str
    """The variable that asks for them."""
    exporter: str
    """`otlp`, or `console` for a developer."""
    queue: int
    """The most spans that wait to be sent; what comes then is dropped."""
    batch: int
    """The most spans that are sent at once."""
    delay: float
    """Seconds between two batches."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "TraceSettings | None":
        """The settings in `environ`; None if it does not ask for traces. Raises StartupError."""
        asked = [name for name in _ASKING if environ.get(name)]
        if not asked or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return None
        exporter = _one_of(environ, "OTEL_TRACES_EXPORTER", ("otlp", "console", "none")) or "otlp"
        if exporter == "none":
            return None
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            if not environ.get(name, "http://").lower().startswith(("http://", "https://")):
                raise StartupError(
                    f"{name} holds a value not shown: allowed is a URL, such as http://host:4318"
                )
        for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
            _one_of(environ, name, ("http/protobuf",))
        _one_of(environ, "OTEL_TRACES_SAMPLER", _SAMPLERS)
        return cls(
            asked[0],
            exporter,
            _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", 2048),
            _number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            _number(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        )


_ASKING = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SAMPLERS = [
    f"{parent}{each}"
    for parent in ("", "parentbased_")
    for each in ("always_on", "always_off", "traceidratio")
]


def _one_of(environ: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    value = environ.get(name, "").strip().lower()
    if value and value not in allowed:
        raise StartupError(f"{name} holds {value[:100]!r}: allowed is {', '.join(allowed)}")
    return value


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "").strip() or str(default)
    if not value.isascii() or not value.isdigit() or not int(value):
        raise StartupError(f"{name} holds {value[:100]!r}: allowed is a whole number of at least 1")
    return int(value)
