"""`Location`: where a client finds the row that it has created. A path that does not exist is never named."""

import functools
import re
import typing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.routing import RouteContext, iter_route_contexts

from ..schema import Page, Row
from .encoding import CreatedResponse, to_builtins


@dataclass
class Location:
    """What an endpoint creates is found behind its own path, under the values of these attributes of the row."""

    endpoint: Any
    path: str
    attributes: tuple[str, ...]


def find_locations(app: FastAPI) -> list[Location]:
    """The locations of what the routes of `app` create: where a GET of one row lies behind the path of a POST, and has
    columns of the row for parameters. One parameter may also be called after the row's id, as in `/{user_id}`."""
    contexts = list(iter_route_contexts(app.routes))
    reads = [each.path_format or "" for each in contexts if "GET" in (each.methods or ()) and not _many(each)]
    found: list[Location] = []
    without: list[Any] = []
    for context in contexts:
        row = getattr(context.original_route, "creates", None)
        if row is None:
            continue
        path = context.path_format or ""
        behind = re.compile(re.escape(path.rstrip("/")) + r"((?:/\{\w+\})+)")
        matches = [match for read in reads if (match := behind.fullmatch(read))]
        keys = [_attributes(row, re.findall(r"\w+", match[1])) for match in matches]
        if attributes := next(filter(None, keys), ()):
            found.append(Location(context.endpoint, path, attributes))
        else:
            without.append(context.endpoint)
    return [each for each in found if each.endpoint not in without]  # a router may be included twice


def add_location(request: Request, response: CreatedResponse, endpoint: Any) -> None:
    """Name the path of the created row, as the client must ask for it, unless the endpoint has named one."""
    attributes = getattr(request.app.state, "locations", {}).get(endpoint)
    if attributes is None or response.status_code != 201:
        return
    if any(name == b"location" for name, _ in response.raw_headers):
        return
    root, path = request.scope.get("root_path", "").rstrip("/"), request.scope["path"].rstrip("/")
    if root and not path.startswith(f"{root}/"):  # of uvicorn and of a mount it is part of the path, else not
        path = root + path
    location = _quoted(path)
    for attribute in attributes:
        value = getattr(response.row, attribute, None)
        text = str(value) if type(value) is int else _segment(value)
        if not text:
            return
        location += f"/{text}"
    response.raw_headers.append((b"location", location.encode("ascii")))


def _many(context: RouteContext) -> bool:
    """Whether a route answers more than one row."""
    answer = getattr(context.original_route, "answer", None) or getattr(context, "response_model", None)
    return typing.get_origin(answer) in (list, Page)


def _attributes(row: type[Row], parameters: list[str]) -> tuple[str, ...]:
    """The attributes of a row that hold the parameters of a path; none where it has not all of them."""
    attributes = dict(zip(row.columns(), row.__struct_fields__, strict=True))
    if len(parameters) == 1 and parameters[0] not in attributes and parameters[0].endswith("id"):
        parameters = ["id"]
    found = tuple(attributes[each] for each in parameters if each in attributes)
    return found if len(found) == len(parameters) else ()


_quoted = functools.lru_cache(functools.partial(quote, safe="/:@!$&'()*+,;="))


def _segment(value: Any) -> str:
    """A value as a part of a path; empty where no path can hold it."""
    value = to_builtins(value)
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "" if "/" in text or text in (".", "..") else quote(text, safe="")
