"""Large answers, JSON that costs much, and more writes than there is time for."""

import json
import time
from contextlib import closing
from decimal import Decimal

from clients import KeptAlive, Writers, concurrently
from report import Result
from service import Service, Target
from tests.process.raw_http import Answer, Client, request

LARGE = 4_000_000
STUCK = {"write": 3.0, "drain": 3.0}


def large_rows(target: Target, result: Result) -> None:
    """Eight clients read all pages of rows of 4 MB."""
    number = 16 if target.short else 40
    text = {
        "sqlite": f"replace(hex(zeroblob({LARGE // 2})), '00', 'xx')",
        "postgresql": f"repeat('x', {LARGE})",
    }.get(target.engine, f"REPEAT('x', {LARGE})")
    with target.service(result, fresh=not target.short) as service:
        ids = [service.create(f"row-{time.monotonic_ns()}-{each}") for each in range(number)]
        for each in ids:
            target.rows(f"UPDATE users SET note = {text} WHERE id = {each}")

        def read(_: int) -> None:
            client, after, found = KeptAlive(service), ids[0] - 1, []
            while True:
                answer = client.ask("GET", f"/v1/users?limit=200&after={after}")
                result.expect("a page", answer, accepted={200}, refused={503})
                if answer is None:
                    return
                if answer.status == 503:
                    time.sleep(0.2)
                    continue
                if len(answer.body) > 2 * LARGE + 1_000_000:
                    result.fail(f"a page of {len(answer.body) >> 20} MB")
                page = json.loads(answer.body)
                found += [row["id"] for row in page["items"]]
                if page["next"] is None:
                    break
                after = page["next"]
            client.close()
            result.check(
                [each for each in found if each in set(ids)] == ids, "the pages are not all rows, once"
            )

        concurrently(read, range(8), 8)
        target.rows(f"DELETE FROM users WHERE id >= {ids[0]}")
    result.check(result.memory < result.memory_before + 300, "memory grew by more than 300 MB")


def json_bombs(target: Target, result: Result) -> None:
    """Fourteen clients send JSON of 1 MB that takes long to parse: stored exactly, or refused."""
    with target.service(result, fresh=not target.short) as service:

        def attack(client: int) -> None:
            bombs = list(_bombs().items())
            for number in range(3 if target.short else len(bombs)):
                name, bomb = bombs[(number + client) % len(bombs)]
                answer = _post(service, f"bomb-{time.monotonic_ns()}", bomb)
                result.expect(name, answer, accepted={201}, refused={413, 422, 503})
                if answer and answer.status == 201 and number < 8:
                    stored = json.loads(answer.body, parse_float=Decimal, parse_constant=str)["settings"]
                    sent = json.loads(bomb, parse_float=Decimal, parse_constant=str)
                    result.check(stored == sent, f"{name}: stored is not what was sent")

        concurrently(attack, range(14), 14)
        result.check(service.becomes(200, seconds=5), "not ready afterwards")
    result.check(result.memory < result.memory_before + 400, "memory grew by more than 400 MB")
    target.rows("DELETE FROM users WHERE email LIKE 'bomb%'")


def overload(target: Target, result: Result) -> None:
    """Units of work that take long, from 100 clients that back off for a second: as many get through as without overload."""
    limits = STUCK if target.short else {}
    seconds, unit = (4, 0.1) if target.short else (16, 0.5)
    with target.service(result, limits=limits, environ={"DB_POOL_SIZE": "4"}) as service:
        writers = int(service.gauge('db_pool_size{pool="write"}'))
        path, body = "/v1/attack/units", {"seconds": unit}
        with Writers(service, result, 2 * writers, path=path, **body) as peak:
            time.sleep(seconds / 2)
        with Writers(service, result, 100, back_off=1.0, path=path, **body) as crowd:
            began = time.monotonic()
            time.sleep(seconds)
            ends = time.monotonic()
        usual = len(peak.acknowledged) / (seconds / 2)
        times = [each for each in crowd.acknowledged.values() if began <= each <= ends]
        thirds = [
            sum(began + n * seconds / 3 <= t < began + (n + 1) * seconds / 3 for t in times) for n in range(3)
        ]
        goodput = len(times) / (ends - began)
        result.note = f"{goodput:.1f} units/s of {usual:.1f}, last third {3 * thirds[-1] / seconds:.1f}"
        at_the_ends = writers / seconds  # units that began before, or ended afterwards
        result.check(goodput + at_the_ends >= 0.9 * usual, f"goodput fell: {result.note}")
        result.fail("may still be stored", len(crowd.unknown))
        for each in (peak, crowd):
            each.check_stored(target)
        if crowd.refused:
            result.check(
                "refused" in service.said() or "503" in service.said(), "no line in the log of the 503s"
            )
        result.check(service.becomes(200, seconds=5), "not ready afterwards")


def deadlocks(target: Target, result: Result) -> None:
    """Eight clients update two rows in opposite orders."""
    each, most = (4, 15) if target.short else (25, 40)
    limits, pool = (STUCK, "4") if target.short else ({}, "16")
    with target.service(result, limits=limits, environ={"DB_POOL_SIZE": pool}) as service:
        first, second = (service.create(f"pair-{time.monotonic_ns()}") for _ in range(2))
        began = time.monotonic()

        def update(client: int) -> int:
            connection, done = KeptAlive(service), 0
            pair = (first, second) if client % 2 else (second, first)
            for _ in range(each):
                if time.monotonic() > began + most:
                    break
                answer = connection.ask("POST", "/v1/attack/pairs/{}/{}".format(*pair))
                result.expect("an update", answer, accepted={200}, refused={503})
                done += answer is not None and answer.status == 200
            connection.close()
            return done

        done = sum(concurrently(update, range(8), 8))
        seconds = time.monotonic() - began
        result.note = f"{done} of {8 * each} in {seconds:.1f} s"
        visits = [_visits(service, number) for number in (first, second)]
        result.check(visits == [done, done], f"{done} were acknowledged, {visits} are stored")
        result.check(result.refused <= result.sent / 20, f"only {result.note}")


def stuck(target: Target, result: Result) -> None:
    """Units that block for ever: the others are refused at once, and the service is not ready."""
    with target.service(result, limits=STUCK, environ={"DB_POOL_SIZE": "4"}) as service:
        writers = int(service.gauge('db_pool_size{pool="write"}'))

        def block(each: int) -> None:
            body = {"email": f"stuck-{each}", "seconds": 3600}
            result.expect("a unit that blocks", service.ask("POST", "/v1/attack/units", body), refused={503})

        concurrently(block, range(writers), writers)
        began = time.monotonic()
        answer = service.ask("POST", "/v1/users", {"email": "behind-those-that-block"})
        result.expect("another write", answer, refused={503})
        result.check(time.monotonic() - began < 8, "another write waited long for its refusal")
        result.expect("a read", service.ask("GET", "/v1/users?limit=1"), accepted={200})
        result.check(service.becomes(503, seconds=5), "ready, and every write is refused")
        service.terminate()
        result.check(service.ended(30) is not None, "SIGTERM does not end it within 30 s")


def _visits(service: Service, number: int) -> int:
    answer = service.ask("GET", f"/v1/users/{number}")
    assert answer is not None
    return int(json.loads(answer.body)["visits"])


def _post(service: Service, email: str, settings: bytes) -> Answer | None:
    body = b'{"email": "%s", "settings": %s}' % (email.encode(), settings)
    with closing(Client(service.port)) as client:
        return client.send(request("POST", "/v1/users", body, "Connection: close")).answer()


def _bombs() -> dict[str, bytes]:
    size = 1_000_000
    return {
        "empty lists": b"[" + b"[]," * (size // 3) + b"[]]",
        "empty objects": b"[" + b"{}," * (size // 3) + b"{}]",
        "zeros": b"[" + b"0," * (size // 2) + b"0]",
        "deep lists": b"[" * (size // 2) + b"]" * (size // 2),
        "deep objects": b'{"a":' * (size // 6) + b"0" + b"}" * (size // 6),
        "a long number": b"1" * size,
        "a long fraction": b"0." + b"1" * size,
        "floats": b"[" + b"1e-7," * (size // 5) + b"0]",
        "keys": b"{" + b",".join(b'"%x":0' % n for n in range(size // 9)) + b"}",
        "the same key": b"{" + b'"a":0,' * (size // 6) + b'"a":0}',
        "escapes": b'"' + rb"\u00e9" * (size // 6) + b'"',
        "strings": b"[" + b'"",' * (size // 3) + b'""]',
        "a long string": b'"' + b"x" * size + b'"',
        "spaces": b"[" + b" " * size + b"]",
    }
