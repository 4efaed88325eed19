"""What a log says of an error: words of the program, of the statement and of servers, and no value."""

import asyncio
import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from dbservice.redaction import describe, redact, redact_sql, redacted_exception, redacted_text

from ..assertions import SECRET


@pytest.mark.parametrize(
    ("sql", "redacted"),
    [
        ("SELECT a FROM t WHERE b = 'geheim'", "SELECT a FROM t WHERE b = ?"),
        (
            "INSERT INTO t VALUES ('it''s geheim', 12, -1.5e10, .5, 'x')",
            "INSERT INTO t VALUES (?, ?, -?, ?, ?)",
        ),
        ("SELECT 'cut off geheim", "SELECT ?"),
        ("SELECT E'it\\'s geheim', x'00ff', N'geheim', 0xFF", "SELECT ?, ?, ?, ?"),
        ("SELECT $$geheim$$, $tag$geheim's$tag$, $1, %s, :name", "SELECT ?, ?, $1, %s, :name"),
        ('SELECT "it\'s", `it\'s`, t_1.c2 FROM "t 1"', 'SELECT "it\'s", `it\'s`, t_1.c2 FROM "t 1"'),
        ("SELECT 1 -- geheim\nFROM t /* geheim */", "SELECT ? ? FROM t ?"),
        ("SELECT a\n  FROM t", "SELECT a FROM t"),
    ],
)
def test_sql_keeps_its_names_and_loses_its_literals(sql: str, redacted: str) -> None:
    assert redact_sql(sql) == redacted


def test_what_a_quotation_mark_means_depends_on_the_engine() -> None:
    assert redact_sql('SELECT `a` FROM t WHERE b = "geheim"', "'\"") == "SELECT `a` FROM t WHERE b = ?"


@pytest.mark.parametrize(
    ("message", "redacted"),
    [
        (
            'column "nick" of relation "users" does not exist',
            'column "nick" of relation "users" does not exist',
        ),
        ("Unknown column 'nick' in 'field list'", "Unknown column 'nick' in 'field list'"),
        ("Table 'users' doesn't exist", "Table 'users' doesn't exist"),
        ("no such column: nick", "no such column: nick"),
        ("Duplicate entry 'it's geheim' for key 'users.nick'", "Duplicate entry '…' for key 'users.nick'"),
        ('invalid input syntax for type integer: "not null"', 'invalid input syntax for type integer: "…"'),
        ("no geheim-4711, geheim@example.com or 17 here", "no … or … here"),
        ("value\ntoo   long", "value too long"),
    ],
)
def test_a_message_keeps_the_words_of_servers_and_of_the_statement(message: str, redacted: str) -> None:
    assert redact(message, {"users", "nick", "here"}) == redacted


def fail(value: Any) -> Any:
    raise ValueError(f"the bank has refused {value} for now")


class Nothing:
    found: Any = None


NOTHING: Any = Nothing()
ROW: dict[str, str] = {}


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (fail, "ValueError: the bank has refused … for now"),
        (lambda value: ROW["email"], "KeyError: 'email'"),
        (lambda value: ROW[value], "KeyError: '…'"),
        (lambda value: int(value), "ValueError: invalid literal for int() with base …: '…'"),
        (lambda value: 1 + value, "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
        (lambda value: NOTHING.found.rows, "AttributeError: 'NoneType' object has no attribute 'rows'"),
        (lambda value: NOTHING.fuond, "AttributeError: 'Nothing' object has no attribute 'fuond'"),
        (lambda value: getattr(Nothing, value), "AttributeError: type object 'Nothing' has no attribute '…'"),
        (lambda value: os.stat(f"/{value}/x"), "FileNotFoundError: [Errno 2] No such file or directory: '…'"),
        (lambda value: value.encode("ascii") + nowhere, "NameError: name 'nowhere' is not defined"),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_an_exception_keeps_the_words_of_the_program(work: Callable[[str], Any], text: str) -> None:
    with pytest.raises(Exception) as caught:
        work(SECRET)
    assert describe(caught.value) == text


def test_an_exception_keeps_its_name_its_place_and_its_causes() -> None:
    with pytest.raises(Exception) as caught:
        try:
            fail(SECRET)
        except ValueError as error:
            raise LookupError(SECRET) from error
    shown = "".join(traceback.format_exception(redacted_exception(caught.value)))
    assert SECRET not in shown
    for words in ("ValueError: the bank has refused … for now", "LookupError: …", "in fail", "direct cause"):
        assert words in shown


async def test_a_group_shows_its_members() -> None:
    async def fail_later() -> None:
        fail(SECRET)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_later())
    shown = "".join(traceback.format_exception(redacted_exception(caught.value)))
    assert "ValueError: the bank has refused … for now" in shown and SECRET not in shown


def test_an_exception_that_cannot_be_written_has_no_text() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    assert redacted_text(Odd()) == "" and describe(Odd()) == "Odd"
