"""Spans on their way to the collector: in batches, from a thread of its own. A collector that is away or slow costs spans, which
are counted, and no request waits for it."""

import logging
import threading
from collections import deque

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .environment import TraceSettings

logger = logging.getLogger(__name__)


class Batches(SpanProcessor):
    """Sends the spans that have ended, up to `queue` of them at a time; drops what comes beyond."""

    def __init__(self, exporter: SpanExporter, settings: TraceSettings) -> None:
        self.counts = {"exported": 0, "failed": 0, "dropped": 0}
        """How many spans have got to the collector, were refused by it or did not reach it, and had no room in the queue."""
        self._exporter, self._settings = exporter, settings
        self._queue: deque[ReadableSpan] = deque()
        self._wake, self._stopping, self._failing = threading.Event(), False, False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if len(self._queue) >= self._settings.queue or self._stopping:
            self.counts["dropped"] += 1  # of two threads at the same moment one may not be counted
            return
        self._queue.append(span)
        if len(self._queue) >= self._settings.batch:
            self._wake.set()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Never waits: whoever flushes for a request would make the client wait for the collector."""
        self._wake.set()
        return True

    def stop(self, seconds: float) -> None:
        """Send what waits, for so many seconds at most. Blocks."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            lost = len(self._queue)
            self._queue.clear()
            self.counts["dropped"] += lost
            logger.warning("%d spans lost: the collector did not take them in time", lost)
        self._exporter.shutdown()

    def shutdown(self) -> None:
        self.stop(0)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._settings.delay)
            self._wake.clear()
            self._send()
        self._send()

    def _send(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._settings.batch))]
            try:
                sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception:
                sent = False
            self.counts["exported" if sent else "failed"] += len(batch)
            if sent is self._failing:
                self._failing = not sent
                if sent:
                    logger.info("the collector takes spans again")
                else:
                    logger.warning("the collector does not take spans; the service works without it")
