"""Clients that send slowly, that do not read, and that are many."""

import time
from contextlib import closing

from clients import KeptAlive, close_all, concurrently, ended, slow_reader
from report import Result
from service import SHORT, Service, Target, wait_for
from tests.process.raw_http import Client, request
from tests.process.smuggling import post

PADDING = 900_000


def slow_clients(target: Target, result: Result) -> None:
    """With 1024 descriptors: idle connections, half-sent requests and bodies, while others read and write; then a drip."""
    limits = SHORT if target.short else {}
    wait = 2 if target.short else 20
    with target.service(result, files=1024, limits=limits) as service:
        began = time.monotonic()
        beginnings = {
            "idle": (1100, b""),
            "half headers": (400, b"GET /v1/users HTTP/1.1\r\nHost: x\r\nX: "),
            "half a body": (200, post("Content-Length: 100") + b'{"email": "'),
        }
        clients: list[Client] = []
        for name, (number, sent) in beginnings.items():
            try:
                clients += [Client(service.port).send(sent) for _ in range(number)]
                result.add(refused=number)
            except OSError as error:
                result.fail(f"{name}: cannot connect: {error}")
            _ordinary(service, result)
        dripping = [Client(service.port).send(post("Content-Length: 100")) for _ in range(20)]
        clients += dripping
        while time.monotonic() < began + wait + 12:
            for each in dripping:  # a byte a second, also after the 408
                each.send(b"x")
            _ordinary(service, result)
            if time.monotonic() > began + wait and service.gauge("http_connections") <= 3:
                break
            time.sleep(0.5)
        left = int(service.gauge("http_connections")) - 1
        result.fail("slow connections are left", max(0, left - 2))
        result.fail(
            f"slow connections are open {time.monotonic() - began:.0f} s later",
            sum(not closed for closed in map(ended, clients)),
        )
        close_all(clients)
    result.check(result.descriptors < 1024, "no descriptor was left")


def unread(target: Target, result: Result) -> None:
    """Clients that ask for large pages and do not read, beside those that keep a connection for their next request."""
    limits = SHORT if target.short else {}
    wait = 2 if target.short else 20
    with target.service(result, limits=limits, files=1024, fresh=not target.short) as service:
        ids = concurrently(
            lambda n: service.create(f"large-{time.monotonic_ns()}-{n}", note="x" * PADDING), range(20), 2
        )
        kept = [KeptAlive(service) for _ in range(20)]
        for each in kept:
            result.expect("first request", each.ask("GET", "/healthz"), accepted={200})
        began = time.monotonic()
        page = request("GET", f"/v1/users?limit=200&after={ids[0] - 1}")
        clients = [slow_reader(service.port).send(page * 20) for _ in range(16)]
        result.add(refused=len(clients))
        wait_for(lambda: service.gauge("http_bytes_in_flight") > 0, 20)
        while service.gauge("http_bytes_in_flight") and time.monotonic() < began + wait + 12:
            _ordinary(service, result)
            time.sleep(0.3)
        seconds = time.monotonic() - began
        result.check(
            service.gauge("http_bytes_in_flight") == 0, f"answers are in memory {seconds:.0f} s later"
        )
        # a client that does not read hears nothing of the end of its connection either: the service is asked
        still = int(service.gauge("http_connections")) - len(kept) - 1
        result.fail(f"clients that did not read are connected {seconds:.0f} s later", max(0, still))
        for each in kept:
            result.expect("kept connection", each.ask("GET", "/healthz"), accepted={200})
            each.close()
        close_all(clients)
        for number in ids:
            service.ask("DELETE", f"/v1/users/{number}")
    result.check(result.memory < result.memory_before + 250, "memory grew by more than 250 MB")


def stalled_bodies(target: Target, result: Result) -> None:
    """500 bodies of 1 MB, each without its last byte."""
    number = 120 if target.short else 500
    body = b'{"email": "stalled-%d-%d", "note": "' + b"x" * PADDING + b'"}'
    stamp = time.monotonic_ns()
    with target.service(result, fresh=not target.short) as service:

        def attack(each: int) -> Client:
            whole = request("POST", "/v1/users", body % (each, stamp), "Connection: close")
            client = Client(service.port)
            client.socket.settimeout(5)
            return client.send(whole[:-1])

        clients = concurrently(attack, range(number), 16)
        held = service.gauge("http_bytes_in_flight")
        result.note = f"{held / (1 << 20):.0f} MB held"
        result.check(held <= 70 << 20, f"{held} bytes are held")
        _ordinary(service, result)
        before = target.count("email LIKE 'stalled%'")
        created = 0
        for client in clients:
            client.socket.settimeout(30)
            answer = client.send(b"}").answer()
            result.expect("a body, completed", answer, accepted={201}, refused={503})
            created += answer is not None and answer.status == 201
            client.close()
        result.check(
            target.count("email LIKE 'stalled%'") - before == created, "stored is not what was answered"
        )
        empty = wait_for(lambda: service.gauge("http_bytes_in_flight") == 0, 10)
        result.check(empty, "bodies are left in memory")
        target.rows("DELETE FROM users WHERE email LIKE 'stalled%'")
    result.check(result.memory < result.memory_before + 200, "memory grew by more than 200 MB")


def _ordinary(service: Service, result: Result) -> None:
    """What others ask meanwhile: answered, or refused at once."""
    began = time.monotonic()
    with closing(Client(service.port)) as client:
        answer = client.send(request("GET", "/v1/users?limit=1", None, "Connection: close")).answer()
    result.expect("GET meanwhile", answer, accepted={200}, refused={503})
    email = f"ordinary-{time.monotonic_ns()}"
    answer = service.ask("POST", "/v1/users", {"email": email})
    result.expect("POST meanwhile", answer, accepted={201}, refused={503})
    seconds = time.monotonic() - began
    result.check(seconds < 10, f"two requests meanwhile took {seconds:.1f} s")
