"""A few requests to each service, and what comes of another service's rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

from .rows import SECRET, Rows
from .services import SceneError, StampedService

_ROWS = "/v1/platform_integrations"


class Asked(NamedTuple):
    """Requests to a service, and their answers."""

    service: str
    requests: str
    expected: tuple[Any, ...]
    found: tuple[Any, ...]

    @property
    def as_declared(self) -> bool:
        return self.expected == self.found

    def __str__(self) -> str:
        found = ", ".join(map(str, self.found))
        wrong = "" if self.as_declared else f"  WRONG, and not {', '.join(map(str, self.expected))}"
        return f"{self.service:15} {self.requests:64} {found}{wrong}"


def run(services: Mapping[str, StampedService]) -> tuple[list[Asked], Rows]:
    """Ask all four over HTTP; the answers, and the rows of platform_integrations that there are now."""
    backend, connector = services["backend-api"], services["connector"]
    analytics, twitch = services["analytics"], services["twitch-trigger"]
    user = backend.ask("POST", "/v1/users", {"email": "a@b.example", "password": "secret"})
    session = {"user_id": _id(user), "token": "123e4567-e89b-12d3-a456-426614174000"}
    sessions = backend.ask("POST", "/v1/sessions", session)
    made = [
        connector.ask(
            "POST",
            _ROWS,
            {"platform": platform, "channel": "x", "token": SECRET if platform != "twitch" else "t"},
        )
        for platform in ("discord", "twitch", "slack")
    ]
    other = f"{_ROWS}/{_id(made[0])}"
    own = twitch.ask("POST", _ROWS, {"channel": "mine", "enabled": True})
    seen = analytics.ask("GET", "/v1/users").json()["items"]
    asked = [
        Asked("backend-api", "POST users, sessions", (201, 201), (user.status_code, sessions.status_code)),
        Asked(
            "connector",
            "POST platform_integrations: discord, twitch, slack",
            (201,) * 3,
            tuple(each.status_code for each in made),
        ),
        Asked(
            "twitch-trigger",
            "POST platform_integrations",
            (201, "twitch"),
            (own.status_code, own.json()["platform"]),
        ),
        _of_rows("twitch-trigger", "GET platform_integrations: platforms", twitch, ("twitch", "twitch")),
        Asked(
            "twitch-trigger",
            "GET, PATCH, DELETE of the discord row; POST, PATCH as discord",
            (404, 404, 404, 422, 422),
            (
                twitch.ask("GET", other).status_code,
                twitch.ask("PATCH", other, {"channel": "mine"}).status_code,
                twitch.ask("DELETE", other).status_code,
                twitch.ask(
                    "POST", _ROWS, {"platform": "discord", "channel": "x", "enabled": True}
                ).status_code,
                twitch.ask("PATCH", f"{_ROWS}/{_id(own)}", {"platform": "discord"}).status_code,
            ),
        ),
        _of_rows(
            "connector",
            "GET platform_integrations: platforms",
            connector,
            ("discord", "twitch", "slack", "twitch"),
        ),
        Asked(
            "analytics",
            "GET users: columns; POST users",
            ("active, created_at, id", 405),
            (", ".join(sorted(seen[0])), analytics.ask("POST", "/v1/users", {}).status_code),
        ),
    ]
    return asked, Rows(mine=_id(own), other=_id(made[0]), declared=2)


def _of_rows(name: str, words: str, service: StampedService, expected: tuple[str, ...]) -> Asked:
    answer = service.ask("GET", _ROWS).json()
    return Asked(name, words, expected, tuple(each["platform"] for each in answer["items"]))


def _id(answer: httpx.Response) -> int:
    if answer.status_code != 201:
        raise SceneError(f"POST {answer.url} was answered {answer.status_code}: {answer.text}")
    return int(answer.json()["id"])
