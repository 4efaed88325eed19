"""Where a request begins and ends: uvicorn's protocol, with limits, and without what a proxy in front might read differently."""

import logging
from abc import abstractmethod
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..limits import Limits

logger = logging.getLogger("dbservice.http")

_MOST_HEADERS = 256
_CHECKED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))


class StrictProtocol(HttpToolsProtocol):
    """Reads requests, and refuses what is not HTTP/1.1 in every way of reading it. httptools does most of it.

    `Upgrade` is ignored where it asks for no WebSocket, so that the body behind it is a body."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.in_head = False
        """Whether some of a request's headers is received, and not all."""
        self.in_body = False
        """Whether the headers are complete and the body is not."""
        self.ended = False
        """Whether nothing more is read."""
        self.length = 0
        """The size of the body by its Content-Length, at most the largest that is allowed."""
        self.fed = 0
        """The number of bytes that are being read."""
        self.overhead = 0
        """Bytes since the last of a body, of chunks' extensions and trailers; those that are being read are added afterwards."""
        self._begun = False  # whether a request has begun within them
        self._head_size = 0  # of the bytes before, since those in which the headers began
        self._before_head = 0  # the number of those in which they began: some belong to the request before
        self._hosts = 0
        self._upgrading = False

    @abstractmethod
    def refuse(self, status: int, detail: str) -> Exception:
        """Read nothing more, and answer with a problem. Returns what to raise to stop the parser."""

    @abstractmethod
    def request_received(self, http_version: str) -> None:
        """The headers of a request are complete, in `scope`."""

    @abstractmethod
    def body_received(self) -> None:
        """The body of a request is complete."""

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._begun, self.fed = False, len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading:
                self._ignore_upgrade(data[upgrade.args[0] :])
            else:
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError as error:
            if not self.ended:
                if isinstance(error, httptools.HttpParserCallbackError):  # ours
                    logger.error("a request could not be read", exc_info=error.__context__)
                self.refuse(400, f"This is not HTTP/1.1: {error}.")
            return
        if self.in_head:
            self._head_size += len(data)
            if self._begun:
                self._before_head = len(data)
            elif self._head_size - self._before_head > self.limits.headers:
                self._refuse_head()
        elif self.in_body:
            self.overhead += len(data)
            if self.overhead > self.limits.headers:
                self.refuse(400, "Chunks or trailers are longer than what they hold.")

    # --- what the parser finds

    def on_message_begin(self) -> None:
        self.url, self.expect_100_continue = b"", False
        self.headers = []
        self.scope = {  # pyright: ignore[reportAttributeAccessIssue]
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self.in_head = self._begun = True
        self._head_size = self._hosts = self.length = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.headers:
            raise self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _CHECKED:
            self._check(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        self.overhead = -self.fed
        method, http_version = self.parser.get_method(), self.parser.get_http_version()
        scope = self.scope
        scope["method"] = method.decode("ascii")
        if http_version != "1.1":
            if http_version != "1.0":
                raise self.refuse(505, "The version of HTTP has to be 1.1 or 1.0.")
            scope["http_version"] = http_version
        if self._head_size + self.fed > self.limits.headers or len(self.headers) > _MOST_HEADERS:
            self._measure_head()
        if self._hosts != 1 and (self._hosts or http_version == "1.1"):
            raise self.refuse(400, "Host has to be sent, once.")
        if b"#" in self.url:
            raise self.refuse(400, "A URL is sent without its fragment.")
        if self.parser.should_upgrade():
            if method == b"CONNECT":
                raise self.refuse(501, "This is not a proxy.")
            self._upgrading = not self._should_upgrade()
            return
        self.headers = []  # of the trailers, which must not be taken for headers
        self.request_received(http_version)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self.headers and any(name == b"connection" for name, _ in self.headers):
            raise self.refuse(400, "Connection is no trailer.")
        self.in_body = False
        self.body_received()

    # --- checks

    def _check(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            # the parser has refused what is no number, and the route refuses what is too large
            self.length = min(int(value), self.limits.body)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self.parser.get_http_version() == "1.0":
                raise self.refuse(400, "Transfer-Encoding has to be `chunked`, in HTTP/1.1.")
        elif self.parser.get_http_version() != "1.0":
            if value.lower() != b"100-continue":
                raise self.refuse(417, "Expect has to be `100-continue`.")
            self.expect_100_continue = True

    def _measure_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.headers:
            raise self._refuse_head()
        if len(self.headers) > _MOST_HEADERS:
            raise self.refuse(431, f"There are more than {_MOST_HEADERS} headers.")

    def _refuse_head(self) -> Exception:
        if len(self.url) > self.limits.headers // 2:
            return self.refuse(414, f"The URL and the headers are longer than {self.limits.headers} bytes.")
        return self.refuse(431, f"The headers are longer than {self.limits.headers} bytes.")

    def _should_upgrade(self) -> bool:
        """Whether this is a request for a WebSocket, and has no body."""
        return (
            self.parser.get_method() == b"GET"
            and super()._should_upgrade()
            and not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        )

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the headers again, without Upgrade, and then the rest: the parser has skipped the body."""
        self._upgrading = False
        scope = self.scope
        head = [scope["method"].encode(), b" ", self.url, b" HTTP/", scope["http_version"].encode(), b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        StrictProtocol.data_received(self, b"".join([*head, b"\r\n", rest]))
