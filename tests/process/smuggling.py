"""Requests whose end is not clear: a proxy in front of the service could see another one. And requests without an end."""

from .raw_http import request

CHUNKED = "Transfer-Encoding: chunked"
ATTACK = request("GET", "/v1/users?limit=7")
"""What an attacker hides in a body."""


def post(*headers: str, body: bytes = b"", name: str = "/v1/users", version: str = "1.1") -> bytes:
    """A POST with these headers, as they are."""
    lines = [f"POST {name} HTTP/{version}", "Host: x", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


REFUSED = {
    "both lengths": post("Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG"),
    "both lengths, turned round": post(CHUNKED, "Content-Length: 6", body=b"0\r\n\r\nG"),
    "two lengths": post("Content-Length: 0", f"Content-Length: {len(ATTACK)}"),
    "the same length twice": post("Content-Length: 2", "Content-Length: 2", body=b"{}"),
    "a list of lengths": post("Content-Length: 2, 2", body=b"{}"),
    "a length with a sign": post("Content-Length: +2", body=b"{}"),
    "a negative length": post("Content-Length: -2"),
    "a hexadecimal length": post("Content-Length: 0x2", body=b"{}"),
    "a length with an underscore": post("Content-Length: 1_0", body=b"{}"),
    "a length that overflows": post("Content-Length: 18446744073709551618", body=b"{}"),
    "an empty length": post("Content-Length:"),
    "a folded length": post("Content-Length: 2\r\n 0", body=b"{}"),
    "an unknown encoding": post("Transfer-Encoding: x", body=b"0\r\n\r\n"),
    "identity": post("Transfer-Encoding: identity", body=b"{}"),
    "chunked after another": post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked after identity": post("Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    "chunked after nothing": post("Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"),
    "chunked before another": post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "chunked twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked, then another": post(CHUNKED, "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "quoted chunked": post('Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "chunked behind a control character": post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "a space before the colon": post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a tab before the colon": post("Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "a space before the name": post("X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a folded encoding": post("Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "a header after a bare LF": post("X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a header after a bare CR": post("X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "bare LFs": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a bare LF at the end": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n",
    "a bare CR in the first line": b"GET /healthz HTTP/1.1\rHost: x\r\n\r\n",
    "NUL in a value": request("GET", "/healthz", None, "X: a\0b"),
    "NUL in a name": request("GET", "/healthz", None, "X\0: a"),
    "a control character": request("GET", "/healthz", None, "X: a\x01b"),
    "an empty name": request("GET", "/healthz", None, ": a"),
    "no colon": request("GET", "/healthz", None, "abc"),
    "encoding in HTTP/1.0": post(CHUNKED, "Connection: keep-alive", body=b"0\r\n\r\n", version="1.0"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": request("GET", "/healthz", None, "Host: y"),
    "a fragment": request("GET", "/healthz#/v1/users"),
    "a space in the URL": request("GET", "/healthz /v1/users"),
    "NUL in the URL": request("GET", "/healthz\0"),
    "no slash": request("GET", "healthz"),
    "an unknown method": request("FOO", "/healthz"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
}
BODIES = {
    "a chunk's size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size after a space": b" 2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size before a space": b"2 \r\n{}\r\n0\r\n\r\n",
    "a chunk's size that overflows": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk without a size": b"\r\n{}\r\n0\r\n\r\n",
    "a chunk's size before a bare LF": b"2\n{}\r\n0\r\n\r\n",
    "an extension with a bare LF": b"2;\n{}\r\n0\r\n\r\n",
    "an extension with a bare CR": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": b"2\r\n{}XX0\r\n\r\n",
    "a chunk before a bare LF": b"2\r\n{}\n0\r\n\r\n",
    "no CRLF after a chunk": b"2\r\n{}0\r\n\r\n",
    "a bare LF at the end": b"2\r\n{}\r\n0\r\n\n",
    "a length among the trailers": b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
    "a connection option among the trailers": b"2\r\n{}\r\n0\r\nConnection: close\r\n\r\n",
    "an encoding among the trailers": b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
}
UPLOAD = b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
"""The beginning of a request with a body."""
ENDLESS = {
    "header": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", b"x" * 65536),
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"x: y\r\n" * 10000),
    "URL": (b"GET /", b"x" * 65536),
    "extension": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
    "trailer": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 65536),
    "trailers": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 10000),
    "chunks": (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10000),
    "body": (UPLOAD + b"Content-Length: 999999999999\r\n\r\n", b"x" * 65536),
}
"""How a request begins, and what then comes for ever."""
