"""A request and its answer: uvicorn's, whose body is counted and may be refused while it is received."""

from typing import Any

from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from .load import Load


class Cycle(RequestResponseCycle):
    """A request and its answer."""

    load: Load
    failure: HTTPException | None = None
    received = 0
    """Bytes of the body that are counted in `load`."""

    async def receive(self) -> Any:
        # uvicorn's, which another coroutine around it would slow down
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not (self.disconnected or self.response_complete):
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        if self.failure is not None and not self.response_started:
            raise self.failure
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def fail(self, failure: HTTPException) -> None:
        """Raise `failure` where the body is read, and forget the body."""
        if not self.response_started:
            self.failure = failure
            self.release()
            self.message_event.set()

    def release(self) -> None:
        """The body is no longer in flight."""
        self.load.bytes -= self.received
        self.received = 0
        self.body.clear()


class ExpectCycle(Cycle):
    """A request that waits for `100 Continue`. Answered without one, its client may send the body or not: the next byte
    could be the body's or another request's, and the connection is closed."""

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)
