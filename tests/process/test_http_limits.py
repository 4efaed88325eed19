"""What a client can cost the service: headers, time, connections, memory. Health checks are answered all the while."""

import re
import socket
import time
from pathlib import Path

import pytest

from dbservice import Limits
from dbservice.http.connections import RESERVE

from ..faults import wait_until
from .raw_http import Client, gauge, request, sqlite_service
from .service_process import Process
from .smuggling import ENDLESS

HEALTH = request("GET", "/healthz")
UPLOAD = b"POST /v1/values HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
"""The beginning of a request with a body."""


def alive(process: Process) -> bool:
    """Whether a new client is told that the service lives."""
    client = Client(process.port).send(request("GET", "/healthz", None, "Connection: close"))
    found = [answer.status for answer in client.answers()]
    client.close()
    return found == [200]


def megabytes(process: Process) -> float:
    """The memory of the process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def send_for_ever(client: Client, piece: bytes, megabytes: int = 100) -> int:
    """Send `piece` until the service closes the connection, at most so much; how many bytes it took."""
    sent = 0
    try:
        while sent < megabytes << 20:
            client.socket.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


# --- sizes


def test_headers_that_are_too_long_are_refused(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, headers=10_000) as process:
        for sent, status in (
            (request("GET", "/healthz", None, f"X: {'x' * 9000}", "Connection: close"), 200),
            (request("GET", "/healthz", None, f"X: {'x' * 11000}"), 431),
            (request("GET", "/healthz", None, *[f"X{n}: {'x' * 80}" for n in range(120)]), 431),
            (request("GET", "/healthz", None, *["X: y"] * 300), 431),
            (request("GET", f"/healthz?{'x' * 11000}"), 414),
            (request("GET", f"/healthz?{'x' * 9000}", None, f"X: {'x' * 2000}"), 414),
        ):
            for parts in ([sent], [sent[:5000], sent[5000:]], [sent[:100], sent[100:9000], sent[9000:]]):
                client = Client(process.port).send(HEALTH, *parts)
                _, answer = client.answers()
                client.close()
                assert answer.status == status
                if status != 200:
                    assert re.search("10000 bytes|256 headers", answer.problem["detail"])
                    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("beginning", "piece"), ENDLESS.values(), ids=list(ENDLESS))
def test_what_has_no_end_costs_no_memory(tmp_path: Path, beginning: bytes, piece: bytes) -> None:
    with sqlite_service(tmp_path, headers_timeout=1.0) as process:
        assert alive(process)
        before = megabytes(process)
        client = Client(process.port).send(beginning)
        sent = send_for_ever(client, piece)
        assert alive(process)
        assert megabytes(process) < before + 20, sent
        client.close()


# --- times


def test_a_connection_without_a_request_is_closed(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, headers_timeout=0.5) as process:
        silent, half, later = (Client(process.port) for _ in range(3))
        half.send(HEALTH[:-2])
        later.send(HEALTH, HEALTH[:10])
        assert silent.answers() == []
        (answer,) = half.answers()
        assert answer.problem["detail"] == "The headers were not received in time."
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert [answer.status for answer in later.answers()] == [200, 408]
        dripping = Client(process.port)
        assert send_slowly(dripping, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000)
        wait_until(lambda: gauge(process.port, "http_connections") == 1)


def test_a_connection_is_kept_for_the_next_request(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, keep_alive=1.0, headers_timeout=0.2) as process:
        client = Client(process.port)
        for _ in range(4):  # longer than headers_timeout in all
            answer = client.send(HEALTH).answer()
            assert answer is not None and answer.status == 200
            time.sleep(0.3)
        assert client.answer() is None
    assert Limits().keep_alive > 60  # of nginx and of load balancers: they close first


@pytest.mark.parametrize("length", [1000, 2_000_000])
def test_a_body_that_drips_ends_with_its_answer(tmp_path: Path, length: int) -> None:
    with sqlite_service(tmp_path, receive=0.5, headers_timeout=0.5) as process:
        client = Client(process.port).send(UPLOAD + f"Content-Length: {length}\r\n\r\n".encode())
        answer = client.answer()
        assert answer is not None and answer.status == (408 if length == 1000 else 413)
        assert send_slowly(client, b"x" * 1000)
        wait_until(lambda: gauge(process.port, "http_connections") == 1)


def test_a_client_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, send=1.0) as process:
        created = Client(process.port).send(
            request("POST", "/v1/values", b'{"text": "%s"}' % (b"x" * 900_000), "Connection: close")
        )
        assert [answer.status for answer in created.answers()] == [201]
        # answered one after the other: more than the sockets of both sides hold
        clients = [Client(process.port) for _ in range(2)]
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(request("GET", "/v1/values/1") * 16)
        wait_until(lambda: gauge(process.port, "http_bytes_in_flight") > 500_000)
        wait_until(lambda: gauge(process.port, "http_connections") == 1)
        wait_until(lambda: gauge(process.port, "http_bytes_in_flight") == 0)
        assert gauge(process.port, "http_requests_in_flight") == 1  # this one


def send_slowly(client: Client, what: bytes) -> bool:
    """Send a byte at a time, until the connection is closed; whether it was."""
    for byte in what:
        try:
            client.socket.sendall(bytes([byte]))
        except OSError:
            return True
        time.sleep(0.02)
    return False


# --- numbers


def test_a_new_connection_replaces_the_one_idle_for_longest(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, connections=5) as process:
        clients = []
        for _ in range(5):
            clients.append(Client(process.port).send(HEALTH))
            assert clients[-1].answer()
        assert clients[0].send(HEALTH).answer()  # so that the second is idle for longest
        new = [Client(process.port).send(HEALTH) for _ in range(2)]
        assert all(client.answer() for client in new)
        assert clients[1].answer() is None and clients[2].answer() is None
        for client in (clients[0], clients[3], clients[4], *new):
            answer = client.send(HEALTH).answer()
            assert answer is not None and answer.status == 200


def test_health_is_answered_when_no_connection_is_idle(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, connections=5) as process:
        stalled = [Client(process.port).send(UPLOAD + b"Content-Length: 9\r\n\r\n{") for _ in range(5)]
        wait_until(lambda: gauge(process.port, "http_connections") == 6)
        for _ in range(2 * RESERVE):
            assert alive(process)
        refused = Client(process.port).send(request("GET", "/v1/users"))
        (answer,) = refused.answers()
        assert answer.status == 503 and answer.problem["title"] == "Service Unavailable"
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        for client in stalled:
            answer_ = client.send(b"       }" + HEALTH).answer()
            assert answer_ is not None and answer_.status == 201


def test_there_are_fewer_connections_than_descriptors(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, files=256) as process:
        beginnings = (b"", b"GET /", UPLOAD + b"Content-Length: 9\r\n\r\n{")
        clients = [Client(process.port).send(beginnings[number % 3]) for number in range(400)]
        for _ in range(20):
            assert alive(process)
        assert gauge(process.port, "process_open_fds") < 256
        answered = [client.send(b"       }").answer() for client in clients[2::3]]
        assert {answer.status for answer in answered if answer} == {201}
        for client in clients:
            client.close()
        wait_until(lambda: gauge(process.port, "http_connections") == 1)
        assert process.said() == []


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, requests=2) as process:
        held = [Client(process.port).send(request("GET", "/v1/slow/held/read")) for _ in range(2)]
        wait_until(lambda: gauge(process.port, "http_requests_in_flight") == 3)
        # received before the others, and complete after them
        for sent in (request("GET", "/v1/users"), request("POST", "/v1/users", b"{}")):
            client = Client(process.port)
            for _ in range(2):
                answer = client.send(sent).answer()
                assert answer is not None and answer.status == 503 and answer.problem
                assert answer.headers["retry-after"] == "1"
            client.close()
        assert alive(process)
        (tmp_path / "go").touch()
        assert [client.answer() for client in held]
        answer = Client(process.port).send(request("GET", "/v1/users")).answer()
        assert answer is not None and answer.status == 200
        counted = Client(process.port).send(request("GET", "/metrics")).answer()
        assert counted is not None and b'status="503"} 2.0' in counted.body
        said = re.compile(r"refused (\d+) requests")
        wait_until(lambda: sum(int(found[1]) for found in map(said.search, process.said()) if found) == 4)


def test_bodies_beyond_the_memory_are_refused(tmp_path: Path) -> None:
    part = b'{"text": "' + b"x" * 100_000
    with sqlite_service(tmp_path, bytes_in_flight=1_000_000) as process:
        uploads = []
        for number in range(20):
            length = b"Transfer-Encoding: chunked" if number % 2 else b"Content-Length: 100012"
            chunk = b"%x\r\n%s\r\n" % (len(part), part) if number % 2 else part
            uploads.append(Client(process.port).send(UPLOAD + length + b"\r\n\r\n" + chunk))
        assert alive(process)
        assert 500_000 < gauge(process.port, "http_bytes_in_flight") <= 1_000_000
        statuses = []
        for number, client in enumerate(uploads):
            client.send(b'2\r\n"}\r\n0\r\n\r\n' if number % 2 else b'"}')
            answer = client.answer()
            assert answer is not None
            statuses.append(answer.status)
            if answer.status == 503:
                assert answer.problem["detail"] and answer.headers["retry-after"] == "1"
        assert set(statuses) == {201, 503} and 5 <= statuses.count(201) < 12
        wait_until(lambda: gauge(process.port, "http_bytes_in_flight") == 0)
