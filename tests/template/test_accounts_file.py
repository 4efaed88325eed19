"""`deploy/sql/accounts.sql` as it is stamped: what `grants` of the stamped service prints."""

from typing import Any

import pytest
import yaml
from sqlalchemy import MetaData

from dbservice import Service
from dbservice.accounts import commands
from dbservice.settings import Settings

from .conftest import ROOT, Stamp
from .test_stamping import SHARED, loaded, module


def answers_of(name: str) -> dict[str, Any]:
    answers: dict[str, Any] = yaml.safe_load((ROOT / f"tests/answers/{name}.yml").read_text())
    return answers


LONG = "t" * 48
COLUMNS = {
    "a_string": ("string(60)", 'it\'s \\\\ a "ü" -- `y` % $$ ; /* {'),
    "quoted": ("string(60)", '"\\"quotes\\""'),
    "digits": ("string(9)", 12),
    "an_enum": ("enum(a,B,c-d,1.5)", 1.5),
    "an_integer": ("integer", -2147483648),
    "a_bigint": ("bigint", 9223372036854775807),
    "a_boolean": ("boolean", True),
    "another": ("boolean", False),
    "a_decimal": ("decimal(12,2)", -12.5),
    "whole": ("decimal(18,0)", "12345"),
    "nothing": ("decimal(5,5)", 0),
    "a_date": ("date", "2024-02-29"),
    "a_time": ("time", "23:59:59"),
    "precise": ("time", "23:59:59.5"),
    "a_timestamp": ("timestamp", "2024-01-01T03:45:00+05:30"),
    "a_moment": ("timestamp", "2024-01-31T13:45:00.25Z"),
    "a_uuid": ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
}
TYPES = {name: column for name, (column, _) in COLUMNS.items()}
ROWS = {name: value for name, (_, value) in COLUMNS.items()}
ANSWERS: dict[str, dict[str, Any]] = {
    "default": {},
    **{
        name: answers_of(name)
        for name in ("backend_api", "connector", "analytics", "twitch_trigger", "every_type")
    },
    "names": {
        "service_name": "a-b-" + "c" * 20,
        "tables": {
            LONG: {"order": "text"},
            "order": {"a": "text"},
            "a_b": {"c": "text"},
            "a2": {"b": "text"},
        },
        "shared": {
            "select": {"columns": {"id": "bigint", "from": "text"}},
            "u" * 48: {"columns": {"id": "bigint", "kind": "string(9)"}, "rows": {"kind": "x"}},
            "v" * 35 + "_v" * 6: {
                "columns": {"id": "bigint", "kind": "string(9)"},
                "rows": {"kind": "x"},
                "access": "read-write",
            },
        },
        "schema": "a_schema",
    },
    "types of rows": {
        "tables": {},
        "shared": {"things": {"columns": TYPES, "rows": ROWS, "access": "read-write"}, **SHARED},
    },
}
ENGINES = ("postgresql", "mysql")


@pytest.mark.parametrize(
    ("name", "engine"), [("default", "mariadb"), *((name, engine) for name in ANSWERS for engine in ENGINES)]
)
def test_it_is_what_grants_prints(stamp: Stamp, name: str, engine: str) -> None:
    answers = {"service_name": "a-b", **ANSWERS[name], "database": engine}
    stamped = stamp(answers)
    package = answers["service_name"].replace("-", "_")
    tables = loaded(stamped / f"src/{package}/tables.py").get("Table")
    access = loaded(stamped / f"src/{package}/access.py").values() if answers.get("shared") else ()
    service = Service(
        answers["service_name"],
        tables.__metadata__ if tables else MetaData(),
        access=module(*(each for each in access if hasattr(each, "__access__"))),
        schema=answers.get("schema", "public"),
        root=stamped,
    )
    environ = {"DB_TYPE": "postgresql" if engine == "postgresql" else "mysql"}
    environ |= dict.fromkeys(("DB_NAME", "DB_USER", "DB_PASS"), "-")
    printed = commands.script(service, service.backend(Settings.load(environ)))
    assert (stamped / "deploy/sql/accounts.sql").read_text() == printed


def test_sqlite_has_none(stamp: Stamp) -> None:
    assert not (stamp({"database": "sqlite"}) / "deploy/sql").exists()
