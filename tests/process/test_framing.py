"""Where a request ends: never where a proxy in front could see another end. What is not clear is refused."""

from collections.abc import Iterator

import pytest

from ..assertions import SECRET
from .raw_http import Answer, Client, request, sqlite_service
from .service_process import Process
from .smuggling import ATTACK, BODIES, CHUNKED, REFUSED, post


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with sqlite_service(tmp_path_factory.mktemp("framing")) as process:
        yield process


def statuses(service: Process, *parts: bytes) -> list[int]:
    """Those of the answers to these segments, until the service has closed the connection."""
    client = Client(service.port).send(*parts)
    found = client.answers()
    client.close()
    for answer in found:
        if answer.status >= 400:
            assert answer.problem and SECRET not in answer.body.decode()
    return [answer.status for answer in found]


def last(method: str = "GET", path: str = "/healthz") -> bytes:
    """A request after which the service closes the connection."""
    return request(method, path, None, "Connection: close")


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0", "x"])
def test_a_body_behind_upgrade_is_a_body(service: Process, upgrade: str, segments: int) -> None:
    body = b'{"string": "%s"}' % upgrade.encode()
    head = post(
        "Connection: Upgrade, HTTP2-Settings, keep-alive",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        f"Content-Length: {len(body)}",
        name="/v1/values",
    )
    everything = head + body + last()
    size = -(-len(everything) // segments)
    split = [everything[at : at + size] for at in range(0, len(everything), size)]
    for parts in (split, [head, body, last()]):
        client = Client(service.port).send(*parts)
        created, alive = client.answers()
        assert created.status == 201 and upgrade.encode() in created.body
        assert alive.status == 200


def test_a_request_hidden_in_the_body_of_an_upgrade_is_not_answered(service: Process) -> None:
    head = post("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(ATTACK)}")
    assert statuses(service, head, ATTACK, last()) == [422, 200]
    assert statuses(service, head + ATTACK, last()) == [422, 200]
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ATTACK), ATTACK)
    head = post("Connection: Upgrade", "Upgrade: h2c", CHUNKED)
    assert statuses(service, head, chunk, last()) == [422, 200]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused(service: Process, name: str) -> None:
    assert statuses(service, REFUSED[name] + ATTACK) == [400]
    assert statuses(service, REFUSED[name], ATTACK) == [400]
    assert statuses(service, ATTACK + REFUSED[name] + ATTACK) == [200, 400]


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_clear_is_refused(service: Process, name: str) -> None:
    assert statuses(service, post(CHUNKED), BODIES[name], ATTACK) == [400]
    assert statuses(service, ATTACK + post(CHUNKED) + BODIES[name] + ATTACK) == [200, 400]


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (b"CONNECT db:5432 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /healthz\r\n\r\n", 505),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (request("POST", "/v1/users", b"{}", "Expect: 200-ok"), 417),
    ],
)
def test_what_is_not_served_is_refused(service: Process, refused: bytes, status: int) -> None:
    assert statuses(service, refused + ATTACK) == [status]


def test_each_request_ends_where_it_says(service: Process) -> None:
    chunks = b'3;a="b"\r\n{"n\r\n00b\r\note": null}\r\n0\r\nX-Trailer: y\r\n\r\n'
    for parts in (
        [request("GET", "/healthz", ATTACK), last()],
        [request("GET", "/healthz", ATTACK) + last()],
        [b"\r\n\r\n" + request("GET", "/healthz"), b"\r\n", last()],
        [request("GET", "http://elsewhere/healthz"), last()],
        [request("GET", "/healthz") + last() + ATTACK],
        [request("GET", "/healthz"), last() + ATTACK],
    ):
        assert statuses(service, *parts) == [200, 200]
    assert statuses(service, post(CHUNKED, body=chunks) + last()) == [422, 200]
    assert statuses(service, post(CHUNKED), *(chunks[at : at + 9] for at in range(0, 72, 9)), last()) == [
        422,
        200,
    ]
    assert statuses(service, request("GET", "/healthz", None, "Connection: keep-alive", version="1.0")) == [
        200
    ]
    assert statuses(service, b"GET /healthz HTTP/1.0\r\n\r\n" + ATTACK) == [200]


def test_a_hidden_trailer_is_no_header(service: Process) -> None:
    trailer = b"2\r\n{}\r\n0\r\nContent-Type: application/json\r\n\r\n"
    head = b"POST /v1/values HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = Client(service.port).send(head, trailer)
    (answer,) = client.answers()
    assert answer.status == 422  # with the header, 201


def test_a_body_is_sent_when_the_service_wants_it(service: Process) -> None:
    body = b'{"string": "x"}'
    wanted = request("POST", "/v1/values", body, "Expect: 100-continue").removesuffix(body)
    client = Client(service.port).send(wanted)
    first = client.answer()
    assert first is not None and first.status == 100
    client.send(body + last())
    assert [answer.status for answer in client.answers()] == [201, 200]
    # told what is wrong, a client may send its body or not
    unknown = request("POST", "/v1/nothing", ATTACK, "Expect: 100-continue").removesuffix(ATTACK)
    assert statuses(service, unknown, ATTACK) == [404]
    large = post("Content-Length: 9999999", "Expect: 100-continue")
    assert statuses(service, large, ATTACK) == [413]


def test_pipelined_requests_are_answered_in_their_order(service: Process) -> None:
    paths = ["/healthz", "/v1/users?limit=1", "/v1/nothing", "/v1/users/999999"] * 4
    expected = [200, 200, 404, 404] * 4
    everything = b"".join(request("GET", path) for path in paths) + last()
    assert statuses(service, everything) == [*expected, 200]
    slow = [everything[at : at + 97] for at in range(0, len(everything), 97)]
    assert statuses(service, *slow) == [*expected, 200]
    found = statuses(service, request("GET", "/healthz") * 5000)
    assert found == [200] * (len(found) - 1) + [503] and len(found) < 50


def test_an_answer_does_not_wait_for_the_rest_of_a_body(service: Process) -> None:
    head = post("Content-Length: 1000", name="/v1/nothing")
    client = Client(service.port).send(head)
    first: Answer | None = client.answer()
    assert first is not None and first.status == 404
    client.send(b"x" * 1000 + last())
    assert [answer.status for answer in client.answers()] == [200]


def test_a_request_has_one_answer(service: Process) -> None:
    client = Client(service.port).send(post(CHUNKED, name="/v1/nothing"))
    first = client.answer()
    assert first is not None and first.status == 404
    client.send(b"+2\r\n{}\r\n0\r\n\r\n" + ATTACK)
    assert client.answers() == []
