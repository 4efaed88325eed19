"""What a request is, and what only looks like one; what has no end."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from clients import concurrently
from report import Result
from service import SHORT, Service, Target, wait_for
from tests.process.raw_http import Client, request
from tests.process.smuggling import BODIES, CHUNKED, ENDLESS, REFUSED, post

from dbservice.testing.servers import free_port

LAST = request("GET", "/healthz", None, "Connection: close")


def smuggling(target: Target, result: Result) -> None:
    """Each request hides the DELETE of a row of its own, in the segment of the request and in a second one."""
    with target.service(result) as service:
        numbers = iter(_victims(service, 1 + len(_cases(b""))))
        control = service.ask("DELETE", f"/v1/users/{next(numbers)}")
        result.expect("DELETE", control, accepted={204})
        cases = [
            case
            for number, index in zip(numbers, range(len(_cases(b""))), strict=True)
            for case in [_cases(request("DELETE", f"/v1/users/{number}"))[index]]
        ]
        before = target.count()

        def attack(case: tuple[str, list[bytes], list[int]]) -> None:
            name, parts, expected = case
            found = _statuses(service.port, parts)
            if found == expected:
                result.add(refused=1)
            else:
                result.fail(f"{name}: {found} instead of {expected}", sent=1)

        concurrently(attack, cases, 16)
        result.fail("rows deleted", before - target.count())


def proxies(target: Target, result: Result) -> None:
    """The same through nginx and HAProxy, which let no DELETE pass; then other clients still get their own answers."""
    found = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin") for name in CONFIGURATIONS}
    missing = [name for name, program in found.items() if program is None]
    result.note = f"not installed: {', '.join(missing)}" if missing else ""
    if target.short:
        result.note = "not in the short form"
        return
    with target.service(result) as service:
        for name, program in found.items():
            if program is None:
                continue
            with _proxy(name, program, service.port, target.work) as port:
                ids = _victims(service, 8)
                before = target.count()
                refused = Client(port).send(request("DELETE", f"/v1/users/{ids[0]}", None)).answer()
                result.check(refused and refused.status == 403, f"{name} lets DELETE pass")

                def attack(parts: list[bytes], port: int = port) -> None:
                    _statuses(port, parts, 1)  # nothing may come: proxies wait for the rest of a body
                    result.add(refused=1)

                def other(number: int, port: int = port, name: str = name) -> None:
                    with closing(Client(port)) as client:
                        path = f"/v1/users/{number}"
                        answer = client.send(request("GET", path, None, "Connection: close")).answer()
                    if answer and answer.status == 200 and json.loads(answer.body)["id"] == number:
                        result.add(accepted=1)
                    else:
                        result.fail(f"{name}: another client got {answer}"[:300], sent=1)

                hidden = request("DELETE", f"/v1/users/{ids[1]}")
                for at in range(0, len(_cases(b"")), 32):
                    concurrently(attack, [parts for _, parts, _ in _cases(hidden)[at : at + 32]], 32)
                    concurrently(other, ids[2:])
                result.fail(f"rows deleted through {name}", before - target.count())


def endless(target: Target, result: Result) -> None:
    """Headers, URLs, chunks and bodies that do not end."""
    most = (10 if target.short else 200) << 20
    limits = SHORT if target.short else {}
    with target.service(result, limits=limits, files=1024, fresh=not target.short) as service:

        def attack(name: str) -> int:
            beginning, piece = ENDLESS[name]
            with closing(Client(service.port).send(beginning)) as client:
                sent, deadline = 0, time.monotonic() + 30
                try:
                    while time.monotonic() < deadline:
                        client.socket.sendall(piece)
                        sent += len(piece)
                        if sent > most:  # for the rest of the time, slowly
                            time.sleep(0.1)
                except OSError:
                    result.add(refused=1)
                    return sent
            result.fail(f"{name}: still received after {sent} bytes and 30 s", sent=1)
            return sent

        taken = sum(concurrently(attack, ENDLESS))
        result.note = f"{taken >> 20} MB sent"
        for what, sent, status in (
            ("URL", request("GET", f"/healthz?{'x' * 70_000}"), 414),
            ("header", request("GET", "/healthz", None, f"X: {'x' * 70_000}"), 431),
            ("headers", request("GET", "/healthz", None, *["X: y"] * 300), 431),
            ("body", post("Content-Length: 2000000"), 413),
        ):
            with closing(Client(service.port).send(sent)) as client:
                result.expect(what, client.answer(), refused={status})
        result.check(service.gauge("http_requests_in_flight") <= 1, "requests are left in flight")
    result.check(result.memory < result.memory_before + 50, "memory grew by more than 50 MB")


def protocol_errors(target: Target, result: Result) -> None:
    """Refusals are problems, /docs needs no other host, and what the document of the API says is JSON."""
    with target.service(result) as service:
        for name, sent in REFUSED.items():
            with closing(Client(service.port).send(sent)) as client:
                result.expect(name, client.answer(), refused={400})
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("DELETE", "/v1/users", 405),
            ("POST", "/v1/users", 422),
            ("GET", "/v1/users?limit=x", 422),
            ("GET", "/v1/users/99999999999999999999", 422),
        ):
            result.expect(f"{method} {path}", service.ask(method, path), refused={status, 404})
        docs = service.ask("GET", "/docs")
        result.expect("/docs", docs, accepted={200})
        foreign = docs is None or b"//cdn" in docs.body or b'src="http' in docs.body
        result.check(not foreign, "/docs needs another host")
        described = service.ask("GET", "/openapi.json")
        result.expect("/openapi.json", described, accepted={200})


def _cases(hidden: bytes) -> list[tuple[str, list[bytes], list[int]]]:
    """Requests that hide another one: name, segments, statuses of the answers as they should be."""
    cases: list[tuple[str, list[bytes], list[int]]] = []
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    for upgrade in ("h2c", "websocket", "TLS/1.0", "x"):
        for framing, body in ((f"Content-Length: {len(hidden)}", hidden), (CHUNKED, chunk)):
            head = post("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", framing)
            name = f"Upgrade: {upgrade}, {framing.partition(':')[0]}"
            cases += [
                (f"{name}, one segment", [head + body + LAST], [422, 200]),
                (f"{name}, two segments", [head, body + LAST], [422, 200]),
                (f"{name}, three segments", [head, body[:20], body[20:] + LAST], [422, 200]),
            ]
    for name, sent in REFUSED.items():
        cases += [
            (f"{name}, one segment", [sent + hidden], [400]),
            (f"{name}, two segments", [sent, hidden], [400]),
            (f"{name}, after another", [request("GET", "/healthz") + sent + hidden], [200, 400]),
        ]
    for name, body in BODIES.items():
        cases += [
            (f"{name}, one segment", [post(CHUNKED) + body + hidden], [400]),
            (f"{name}, three segments", [post(CHUNKED), body, hidden], [400]),
        ]
    cases += [
        ("a body of GET", [request("GET", "/healthz", hidden) + LAST], [200, 200]),
        ("a body of GET, two segments", [request("GET", "/healthz", hidden)[: -len(hidden)], hidden + LAST], [200, 200]),
        ("after the last request", [LAST + hidden], [200]),
        ("CONNECT", [b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + hidden], [501]),
        ("HTTP/0.9", [b"GET /healthz\r\n\r\n" + hidden], [505]),
        ("HTTP/1.0", [b"GET /healthz HTTP/1.0\r\n\r\n" + hidden], [200]),
    ]  # fmt: skip
    return cases


def _victims(service: Service, number: int) -> list[int]:
    prefix = time.monotonic_ns()
    return concurrently(lambda each: service.create(f"victim-{prefix}-{each}"), range(number), 4)


def _statuses(port: int, parts: list[bytes], timeout: float = 10) -> list[int]:
    with closing(Client(port)) as client:
        client.socket.settimeout(timeout)
        try:
            return [answer.status for answer in client.send(*parts).answers()]
        except (OSError, AssertionError, KeyError, ValueError, IndexError):
            return []


CONFIGURATIONS = {
    "haproxy": """
global
  maxconn 500
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend all
  bind 127.0.0.1:{port}
  http-request deny deny_status 403 if {{ method DELETE }}
  default_backend service
backend service
  http-reuse always
  server one 127.0.0.1:{service}
""",
    "nginx": """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $passed {{ default upgrade; '' ''; }}
  upstream service {{ server 127.0.0.1:{service}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      if ($request_method = DELETE) {{ return 403; }}
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $passed;
    }}
  }}
}}
""",
}
COMMANDS = {"haproxy": ["-db", "-f"], "nginx": ["-c"]}


@contextmanager
def _proxy(name: str, program: str, service: int, work: Path) -> Iterator[int]:
    """The port of a proxy that lets no DELETE pass and forwards Upgrade as for websockets."""
    with ExitStack() as stack:
        port, file = free_port(), work / f"{name}.conf"
        file.write_text(CONFIGURATIONS[name].format(port=port, service=service, folder=work))
        with (work / f"{name}.out").open("wb") as log:
            process = subprocess.Popen([program, *COMMANDS[name], str(file)], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        if (
            not wait_for(lambda: process.poll() is not None or _listens(port), 20)
            or process.poll() is not None
        ):
            raise RuntimeError(f"{name} does not start: {(work / f'{name}.out').read_text()[-500:]}")
        yield port


def _listens(port: int) -> bool:
    try:
        Client(port).close()
    except OSError:
        return False
    return True
