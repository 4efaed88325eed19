"""What mypy and pyright say of tables, rows, bodies and queries: the types of columns, and an error on each wrong line.

Lines that are wrong end in `# error`; no other line may have an error."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

TABLES = """
import uuid

from dbservice.schema import BareTable, Column, ForeignKey, SharedTable, Table, Timestamps
from dbservice.types import JSON, BigInteger, Numeric, String, Timestamp, Uuid


class Users(Table, name="users"):
    email = Column(String(255), unique=True)
    nick = Column(String(40), nullable=True, index=True)
    password = Column(String(255), secret=True)
    pin = Column(String(9), nullable=True, secret=True)
    balance = Column(Numeric(12, 2), default="0")
    data = Column(JSON(), nullable=True)
    class_ = Column(String(3), name="class")


class UserRoles(BareTable, name="user_roles"):
    user_id = Column(BigInteger(), ForeignKey("users.id"), primary_key=True)
    role = Column(String(20), primary_key=True)


class Tokens(Timestamps, BareTable, name="tokens"):
    id = Column(Uuid(), primary_key=True, default_factory=uuid.uuid4)


class Events(SharedTable, name="events", access="read", rows={"kind": "x"}):
    kind = Column(String(20), nullable=True)


class Jobs(SharedTable, name="jobs", access="read-write"):
    id = Column(BigInteger(), primary_key=True, managed=True)
    state = Column(String(20))
    token = Column(String(20), secret=True)
    updated_at = Column(Timestamp(), managed=True)
"""

USES = """
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, assert_type

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy import Column as SAColumn

from dbservice import UNSET, Create, Patch, Query, Reads, Row, Statement, UnsetType, public_columns, query
from tables import Events, Jobs, Tokens, UserRoles, Users


class UserRow(Users, Row): ...
class UserCreate(Users, Create): ...
class UserPatch(Users, Patch): ...
class TokenRow(Tokens, Row): ...
class TokenCreate(Tokens, Create): ...
class TokenPatch(Tokens, Patch): ...
class RoleRow(UserRoles, Row): ...
class EventRow(Events, Row): ...
class JobRow(Jobs, Row): ...
class JobCreate(Jobs, Create): ...
class JobPatch(Jobs, Patch): ...


class Total(Row):
    count: int
    latest: dt.datetime | None = None


@query(UserRow)
def user_by_id(id: int) -> Statement:
    return select(*public_columns(Users)).where(Users.id == id)


@query(UserRow)
def users_of(ids: list[int], after: int = 0, limit: int = 50) -> Statement:
    return select(*public_columns(Users)).where(Users.id.in_(ids), Users.id > after).limit(limit)


DIRECT = query(UserRow, select(*public_columns(Users)))
"""

GOOD = """
def rows(row: UserRow, token: TokenRow, role: RoleRow, event: EventRow, job: JobRow) -> None:
    assert_type(row.id, int)
    assert_type(row.email, str)
    assert_type(row.nick, str | None)
    assert_type(row.balance, Decimal)
    assert_type(row.class_, str)
    assert_type(row.created_at, dt.datetime)
    assert_type(token.id, uuid.UUID)
    assert_type(token.updated_at, dt.datetime)
    assert_type(role.user_id, int)
    assert_type(event.kind, str | None)
    assert_type(job.id, int)
    assert_type(job.updated_at, dt.datetime)
    assert_type(UserRow.from_mapping({}), UserRow)
    assert_type(Total(count=1).latest, dt.datetime | None)


def bodies(new: UserCreate, token: TokenCreate, patch: UserPatch, job: JobCreate, change: JobPatch) -> str:
    assert_type(new.email, str)
    assert_type(new.password, str)
    assert_type(new.pin, str | None)
    assert_type(job.state, str)
    assert_type(change.token, str | UnsetType)
    assert_type(token.id, uuid.UUID)
    new.password = "hashed"
    assert_type(patch.email, str | UnsetType)
    assert_type(patch.password, str | UnsetType)
    assert_type(patch.nick, str | None | UnsetType)
    return "" if patch.email is UNSET else patch.email.upper()


def statements() -> None:
    assert_type(Users.id, SAColumn[int])
    assert_type(Users.nick, SAColumn[str | None])
    assert_type(Users.email == "x", ColumnElement[bool])
    assert_type(select(Users.id, Users.balance), Select[int, Decimal])
    select(Users.id).select_from(Users).join(UserRoles, UserRoles.user_id == Users.id)


async def queries(reads: Reads) -> None:
    assert_type(await reads.one(user_by_id, id=5), UserRow)
    assert_type(await reads.first(user_by_id, 5), UserRow | None)
    assert_type(await reads.all(users_of, ids=[1]), list[UserRow])
    assert_type((await reads.page(users_of, ids=[1], limit=5)).items, list[UserRow])
    assert_type(await reads.all(DIRECT, anything=1), list[UserRow])
"""

BAD = """
def typo(row: UserRow) -> None:
    row.emial  # error


def typo_in_a_body(new: UserCreate) -> None:
    new.emial  # error


def typo_in_a_table() -> None:
    select(Users.emial)  # error


def wrong_value(row: UserRow) -> int:
    return row.balance.upper()  # error


def none_is_possible(row: UserRow) -> str:
    return row.nick.upper()  # error


def unset_is_possible(patch: UserPatch) -> str:
    return patch.email.upper()  # error


def secret(row: UserRow) -> None:
    row.password  # error


def managed(new: UserCreate) -> None:
    new.id  # error


def managed_of_another_service(new: JobCreate) -> None:
    new.id  # error


def secret_of_another_service(job: JobRow) -> None:
    job.token  # error


def managed_of_a_patch(patch: UserPatch) -> None:
    patch.updated_at  # error


def key_of_a_patch(patch: TokenPatch) -> None:
    patch.id  # error


def assigned(row: UserRow) -> None:
    row.email = "x"  # error


def assigned_wrongly(new: UserCreate) -> None:
    new.email = 5  # error


def a_row_in_a_statement() -> None:
    select(UserRow.email)  # error


def made_wrongly() -> None:
    Total(cuont=1)  # error


async def wrong_name(reads: Reads) -> None:
    await reads.one(user_by_id, user_id=5)  # error


async def missing(reads: Reads) -> None:
    await reads.one(user_by_id)  # error


async def wrong_type(reads: Reads) -> None:
    await reads.one(user_by_id, id="5")  # error


async def wrong_type_of_a_page(reads: Reads) -> None:
    await reads.page(users_of, ids=[1], limit="5")  # error


async def wrong_row(reads: Reads) -> TokenRow:
    return await reads.one(user_by_id, id=5)  # error
"""

Errors = Callable[[str], dict[str, dict[int, str]]]
TOOLS = pytest.mark.parametrize("tool", ["mypy", "basedpyright"])


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    """By file and line, what a tool calls wrong; each tool runs once."""
    folder, platform = tmp_path_factory.mktemp("typing"), ROOT / "template/src"
    for name, source in {"tables": TABLES, "good": USES + GOOD, "bad": USES + BAD}.items():
        (folder / f"{name}.py").write_text(source)
    settings = {
        "include": [".", str(platform / "dbservice")],
        "extraPaths": [str(platform)],
        "typeCheckingMode": "standard",
        "reportUnusedExpression": False,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    config, kept = ROOT / "template/mypy.ini", ROOT / ".mypy_cache"
    commands: dict[str, list[Any]] = {
        "mypy": ["mypy", "--config-file", config, "--cache-dir", kept, "--output=json", *folder.glob("*.py")],
        "basedpyright": ["basedpyright", "--outputjson", "--pythonpath", sys.executable],
    }

    @cache
    def errors(tool: str) -> dict[str, dict[int, str]]:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, commands[tool])],
            cwd=folder,
            env={**os.environ, "MYPYPATH": f"{platform}:{folder}"},
            capture_output=True,
            text=True,
        )
        found: dict[str, dict[int, str]] = {}
        if tool == "mypy":
            for each in map(json.loads, done.stdout.splitlines()):
                if each["severity"] == "error":
                    found.setdefault(Path(each["file"]).name, {})[each["line"]] = each["message"]
        else:
            for each in json.loads(done.stdout)["generalDiagnostics"]:
                if each["severity"] == "error":
                    line = each["range"]["start"]["line"] + 1
                    found.setdefault(Path(each["file"]).name, {})[line] = each["message"]
        assert found, done.stdout + done.stderr
        return found

    return errors


def test_pyright_passes_the_platform(errors: Errors) -> None:
    assert errors("basedpyright").keys() == {"bad.py"}


@TOOLS
def test_what_is_right_has_the_types_of_its_columns(errors: Errors, tool: str) -> None:
    assert errors(tool).keys() == {"bad.py"}, errors(tool)


@TOOLS
def test_what_is_wrong_is_an_error_on_its_line(errors: Errors, tool: str) -> None:
    marked = {n for n, line in enumerate((USES + BAD).splitlines(), 1) if line.endswith("# error")}
    assert len(marked) > 15 and errors(tool)["bad.py"].keys() == marked, errors(tool)
