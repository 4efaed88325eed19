"""Strings that would be SQL if somebody let them, and secrets that somebody writes down."""

import json
import time
from typing import Any
from urllib.parse import quote

from report import Result
from service import Target

SECRET = "SeCrEt-7f3a"
HOSTILE = (
    "1; DELETE FROM users; --",
    "' OR 1=1 -- ",
    "\\' OR 1=1 -- ",
    "\\'; DELETE FROM users; -- ",
    "1) OR (1=1",
    "id, (SELECT 1)",
    "$$; DELETE FROM users; $$",
    "%s; DELETE FROM users",
)
WAYS = (
    *(
        "query",
        "and",
        "delete",
        "orderby",
        "orderby text",
        "groupby",
        "having",
        "distinct",
        "count",
        "limitby",
    ),
    *("select", "left", "join", "escape", "alias", "cast", "belongs", "coalesce", "update", "insert"),
    *("parameter", "parameters", "two statements", "read"),
)


def raw_sql(target: Target, result: Result) -> None:
    """Strings where PyDAL, a driver or a read could take them for SQL."""
    with target.service(result) as service:
        for each in range(5):
            service.create(f"kept-{time.monotonic_ns()}-{each}")
        before = _contents(target)
        for way in WAYS:
            for given in HOSTILE:
                answer = service.ask("POST", f"/v1/attack/sql/{quote(way)}", {"sql": given})
                result.expect(f"{way}: {given}", answer, refused={422})
        result.check(_contents(target) == before, "rows have changed")


def values(target: Target, result: Result) -> None:
    """The same strings as values of every column and parameter of the API: stored as they are, or refused."""
    with target.service(result) as service:
        before = target.count()
        created = 0
        for given in HOSTILE:
            email = f"{given}{time.monotonic_ns()}"
            body = {"email": email, "password": given, "note": given, "settings": [given, {given: given}]}
            answer = service.ask("POST", "/v1/users", body)
            result.expect(f"POST {given}", answer, accepted={201})
            if answer is None or answer.status != 201:
                continue
            created += 1
            row = json.loads(answer.body)
            stored: dict[str, Any] = {name: row.get(name) for name in ("email", "note", "settings")}
            result.check(
                stored == {name: body[name] for name in stored}, f"stored is not what was sent: {given}"
            )
            result.check("password" not in row, "a secret is answered")
            for path in (
                f"/v1/users/{quote(given, safe='')}",
                f"/v1/users?after={quote(given)}",
                f"/v1/users?limit={quote(given)}",
            ):
                result.expect(f"GET {path}", service.ask("GET", path), refused={404, 422})
            for name, value in (("balance", given), ("id", given), (given, given), ("balance", {"a": given})):
                patch = service.ask("PATCH", f"/v1/users/{row['id']}", {name: value})
                result.expect(f"PATCH {name}", patch, refused={422})
            change = service.ask("PATCH", f"/v1/users/{row['id']}", {"note": given * 2, "password": given})
            result.expect("PATCH", change, accepted={200})
        result.check(target.count() - before == created, "rows were deleted, or more were stored")


def secrets(target: Target, result: Result) -> None:
    """Writes that fail every day, with a value in the secret column: it is in no answer and in no log."""
    log = target.server.folder / "log" if target.server else None
    start = len(log.read_bytes()) if log else 0
    with target.service(result, environ={"LOG_LEVEL": "debug"}) as service:
        stamp = time.monotonic_ns()
        body = {"email": f"secret-{stamp}", "password": SECRET}
        answers = [service.ask("POST", "/v1/users", body)]
        result.expect("POST", answers[0], accepted={201})
        other = service.create(f"other-{stamp}", password=SECRET)
        for _ in range(20):
            answers.append(service.ask("POST", "/v1/users", body))
            result.expect("POST again", answers[-1], refused={409})
            answers.append(service.ask("PATCH", f"/v1/users/{other}", body))
            result.expect("PATCH", answers[-1], refused={409})
        for wrong in ({"password": [SECRET]}, {"email": "x", "password": SECRET + "\0"}, {SECRET: SECRET}):
            answers.append(service.ask("POST", "/v1/users", wrong))
            result.expect("POST", answers[-1], refused={422})
        answers.append(service.ask("GET", f"/v1/users/{other}"))
        told = sum(answer is not None and SECRET.encode() in answer.body for answer in answers[:-4])
        result.fail("answers with the secret", told)
        result.check(answers[-1] and SECRET.encode() not in answers[-1].body, "a secret is answered")
        result.fail("times in the log of the service", service.said().count(SECRET))
    if log:
        written = log.read_bytes()[start:].decode(errors="replace")
        result.fail("times in the log of the server", written.count(SECRET))


def _contents(target: Target) -> list[Any]:
    return target.rows("SELECT id, email, note, balance FROM users ORDER BY id")
