"""The form: a wrong answer is refused with one sentence and leaves nothing behind, a right one becomes code that needs no
second look. What the stamped service then does is tested elsewhere."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import copier
import httpx
import pytest
import yaml
from copier.errors import UserMessageError
from markdown_it import MarkdownIt

from dbservice.settings import Settings
from dbservice.testing.plugin import fresh_database

ROOT = Path(__file__).parent.parent
ANSWERS = sorted((ROOT / "tests/answers").glob("*.yml"))
OTHERS = {"service_name": "a", "description": "a", "database": "postgresql", "tables": {}, "shared": {}}
OTHERS |= {"schema": "public", "cache": "none", "deploy": [], "ci": "none", "python": "3.13"}

Stamp = Callable[..., Path]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as it lies here, uncommitted changes and all, but without the platform, which no answer changes."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copy(ROOT / "copier.yml", folder)
    shutil.copytree(ROOT / "hooks", folder / "hooks")
    ignore = shutil.ignore_patterns("dbservice", ".*_cache", "__pycache__", ".venv")
    shutil.copytree(ROOT / "template", folder / "template", ignore=ignore)
    return folder


@pytest.fixture
def stamp(template: Path, tmp_path: Path) -> Stamp:
    def stamp(answers: dict[str, Any] | None = None, folder: str = "service", **options: Any) -> Path:
        options = {"defaults": True, "quiet": True, **options}
        copier.run_copy(str(template), tmp_path / folder, data=answers, **options)
        return tmp_path / folder

    return stamp


def run(*command: str | Path, cwd: Path) -> str:
    """What a command says, without a terminal; asserts that it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def is_clean(service: Path) -> None:
    """Assert that formatter, linter and compiler have nothing to say about the service's own files."""
    run("ruff", "format", "--check", "--diff", "--no-cache", ".", cwd=service)
    run("ruff", "check", "--no-cache", ".", cwd=service)
    for path in service.rglob("*.py"):
        compile(path.read_text(), path, "exec")


# --- what is refused

NOTES = {"title": "string(200)"}
AWAY = "x" * 48


def column(value: object, name: object = "c", **more: Any) -> dict[str, Any]:
    return {"tables": {"t": {name: value}, **more}}


# what is answered, and what its sentence must say; of a column it is always "table t, column c" first
COLUMNS: list[tuple[object, str]] = [
    # types
    (None, "it has no type; write string(n)"),
    ("", "it has no type; write string(n)"),
    (5, "it has no type; write string(n)"),
    (["string(5)"], "it has no type; write string(n)"),
    ("varchar(5)", "varchar is not a type; write string(n)"),
    ("String(5)", "String is not a type; write string(n)"),
    ("strings", "strings is not a type; write string(n)"),
    ("optional", "optional is not a type; write string(n)"),
    ("string", "it has no length; write string(n)"),
    ("string()", "it has no length; write string(n)"),
    ("string(0)", "(0) is not a length; write string(n)"),
    ("string(-1)", "(-1) is not a length; write string(n)"),
    ("string(5,5)", "(5,5) is not a length; write string(n)"),
    ("string(16001)", "(16001) is not a length; write string(n) with n from 1 to 16000, or text"),
    ("string(٣)", "(٣) is not a length"),
    ("text(5)", "text takes no arguments; write text"),
    ("integer(11)", "integer takes no arguments; write integer"),
    ("decimal", "it has no precision and scale; write decimal(p,s) with p from 1 to 65 and s from 0 to 30"),
    ("decimal(5)", "write decimal(p,s)"),
    ("decimal(0,0)", "write decimal(p,s)"),
    ("decimal(66,0)", "write decimal(p,s)"),
    ("decimal(40,31)", "write decimal(p,s)"),
    ("decimal(5,6)", "(5,6) is not a precision and scale; write decimal(p,s)"),
    ("decimal(5,2,1)", "write decimal(p,s)"),
    ("enum", "write enum(a,b)"),
    ("enum()", "write enum(a,b)"),
    ("enum(a,)", "write enum(a,b)"),
    ("enum(a,'b')", "write enum(a,b)"),
    ("enum(a," + "x" * 61 + ")", "at most 60 letters"),
    ("enum(" + ",".join(f"v{i}" for i in range(101)) + ")", "1 to 100 values"),
    ("enum(a,b,a)", "it contains a value twice; write enum(a,b)"),
    (
        "enum(a",
        "enum(a has no closing ); write the column in quotes, because YAML ends it at the comma inside braces",
    ),
    ("decimal(12", "decimal(12 has no closing ); write the column in quotes"),
    # modifiers
    ("string(5) uniqe", "string(5) uniqe is not valid; write the type, then any of unique, index"),
    ("unique string(5)", "unique is not a type"),
    ("string(5) not null", "string(5) not null is not valid"),
    ("string(701) unique", "write string(700) or less, or leave unique out"),
    ("string(701) index", "write string(700) or less, or leave index out"),
    ("text unique", "leave unique out, or write string(n)"),
    ("text index", "leave index out, or write string(n)"),
    ("json unique", "not every engine can index json; leave unique out"),
    ("binary index", "not every engine can index binary; leave index out"),
    # foreign keys
    ("-> users", "tables has no table users; write -> t, or bigint for a row of another service"),
    ("->users", "tables has no table users"),
    ("-> t", "write -> t optional"),
    ("-> t optional secret", "a foreign key cannot be secret; leave secret out"),
    ("-> t optional = 1", "a foreign key cannot have a default; leave = 1 out"),
    ("-> t optional =", "a foreign key cannot have a default; leave = out"),
    ("-> T", "-> T is not valid"),
    # defaults
    (
        "integer = 1 secret",
        "a secret cannot have a default, which everybody can read in the code; leave = 1 out",
    ),
    ("boolean = false index", "index comes after =; write boolean index = false"),
    ("enum(a,b) = a optional", "optional comes after =; write enum(a,b) optional = a"),
    ("text = x optional", "optional comes after =; write text optional = x, or the default in JSON quotes"),
    (
        "string(9) index = so  it is unique optional",
        "unique optional comes after =; write string(9) index unique optional = so  it is, or the default in JSON quotes",
    ),
    ("string(5) secret = hello", "leave = hello out"),
    ("string(5) secret =", "leave = out"),
    ("text optional secret =", "leave = out"),
    ("binary = AA==", "binary takes no default"),
    ("boolean = True", "True is not a default for boolean; write true or false"),
    ("boolean = 1", "write true or false"),
    ("integer =", "there is no empty default for integer; write a whole number"),
    ("boolean optional =", "there is no empty default for boolean optional; write true or false"),
    ("enum(a,b) =", "there is no empty default for enum(a,b); write one of a, b"),
    ("json =", "there is no empty default for json; write JSON"),
    ("binary =", "binary takes no default"),
    ("date =", "there is no empty default for date; write a date"),
    ("integer = 2147483648", "write a whole number from -2147483648"),
    ("integer = -2147483649", "write a whole number"),
    ("integer = 1.0", "write a whole number"),
    ("integer = 007", "write a whole number"),
    ("integer = ١", "write a whole number"),
    ("bigint = 9223372036854775808", "write a whole number"),
    ("decimal(4,2) = 100", "write digits like 12.5"),
    ("decimal(4,2) = 0.001", "write digits like 12.5"),
    ("decimal(4,2) = 1e1", "write digits like 12.5"),
    ("decimal(4,2) = -0.00", "write digits like 12.5"),
    ("decimal(4,2) = NaN", "write digits like 12.5"),
    ("float = 1e309", "write a finite number"),
    ("float = inf", "write a finite number"),
    ("float = nan", "write a finite number"),
    ("float = -0.0", "write a finite number"),
    ("date = 2023-02-29", "write a date like"),
    ("date = 2100-02-29", "write a date like"),
    ("date = 0000-01-01", "write a date like"),
    ("date = 2024-13-01", "write a date like"),
    ("date = 2024-1-1", "write a date like"),
    ("date = today", "write a date like"),
    ("time = 24:00:00", "write a time of day"),
    ("time = 12:00", "write a time of day"),
    ("time = 12:00:00.0000001", "write a time of day"),
    ("time = 12:00:00Z", "write a time of day"),
    ("timestamp = 2024-01-31T13:45:00", "write a timestamp with an offset"),
    ("timestamp = 2024-01-31 13:45:00Z", "write a timestamp"),
    ("timestamp = 2024-02-30T13:45:00Z", "write a timestamp"),
    ("timestamp = 0001-01-01T00:00:00+01:00", "write a timestamp"),
    ("timestamp = now", "write a timestamp"),
    ("uuid = 123E4567-E89B-12D3-A456-426614174000", "write a lower-case UUID"),
    ("uuid = 1", "write a lower-case UUID"),
    ("string(3) = four", "write at most 3 printable characters"),
    ('string(3) = "abc', "as JSON if they start with a quote"),
    ('string(3) = "abcd"', "write at most 3 printable characters"),
    ("text = a\tb", "write at most 60 printable characters"),
    ("text = " + "x" * 61, "write at most 60"),
    ("text = " + "漢" * 31, "write at most 60"),
    ("enum(a,b) = c", "c is not a default for enum(a,b); write one of a, b"),
    ("enum(a,b) = A", "write one of a, b"),
    ("json = null", "write JSON on one line"),
    ("json = {a: 1}", "write JSON"),
    ("json = {'a': 1}", "write JSON"),
    ("json = [1, 2", "write JSON"),
    ("json = [1 2]", "write JSON"),
    ("json = [01]", "write JSON"),
    ("json = [NaN]", "write JSON"),
    ("json = [1e999]", "write JSON"),
    ("json = [9223372036854775808]", "write JSON"),
    ('json = {"a": 1,}', "write JSON"),
    ('json = {"a": "\\u0000"}', "write JSON"),
    ("json = " + "[" * 40 + "]" * 39, "write JSON"),
]

NAMES: list[tuple[object, str]] = [
    ("id", "this column is added to every table; leave it out"),
    ("created_at", "leave it out"),
    ("updated_at", "leave it out"),
    ("Email", "contains only lower-case letters, digits and _; write email"),
    ("e-mail", "write e_mail"),
    ("_private", "write private"),
    ("1st", "write st"),
    ("größe", "write gr_e"),
    ("a b", "write a_b"),
    ("a\n", "write a"),
    ("", "write name"),
    (True, "YAML does not read this name as text; write it in quotes"),  # what it makes of `on:`
    (False, "YAML does not read this name as text; write it in quotes"),
    (None, "YAML does not read this name as text; write it in quotes"),
    (5, "write name"),
    ("x" * 59, "have 60 characters together; write at most 59"),
    ("ctid", "write ctid_value"),
    ("xmin", "write xmin_value"),
    ("db_row_id", "write db_row_id_value"),
    ("fts_doc_id", "write fts_doc_id_value"),
]

TABLES: list[tuple[object, str]] = [
    (None, "tables is not a mapping; write the name of each table with its columns under it, or {}"),
    ([], "or {} for a service that owns none"),
    ("notes", "or {} for a service that owns none"),
    ({"Notes": NOTES}, "table Notes: a table name starts with a letter"),
    ({"user-accounts": NOTES}, "write user_accounts"),
    ({"_notes": NOTES}, "write notes"),
    ({"1": NOTES}, "table 1: a table name starts with a letter"),
    ({5: NOTES}, "table 5: a table name starts with a letter"),
    ({True: NOTES}, "table True: YAML does not read this name as text; write it in quotes"),
    ({None: NOTES}, "table None: YAML does not read this name as text; write it in quotes"),
    ({"x" * 49: NOTES}, "the name has 49 characters; write one of at most 48"),
    ({AWAY: {"x" * 12: "text"}}, "have 60 characters together"),
    ({"alembic_version_a": NOTES}, "are reserved for the migrations; write my_alembic_version_a"),
    ({"sqlite_stat": NOTES}, "are reserved for the database; write my_sqlite_stat"),
    ({"pg_stat": NOTES}, "write my_pg_stat"),
    ({"notes": {}}, "table notes: it has no columns; write at least one"),
    ({"notes": None}, "table notes: it has no columns"),
    ({"notes": "title"}, "table notes: it has no columns"),
    # names that would meet in the database or in Python
    (
        {"a": {"b_c": "integer unique"}, "a_b": {"c": "integer unique"}},
        "table a_b, column c: it needs the name uq_a_b_c in the database or in Python, "
        "and so does table a, column b_c; rename one",
    ),
    ({"a": {"b_c": "enum(x)"}, "a_b": {"c": "enum(x)"}}, "table a_b, column c: it needs the name ck_a_b_c"),
    (
        {"a": {"b_c": "-> a optional"}, "a_b": {"c": "-> a"}},
        "table a_b, column c: it needs the name ix_a_b_c",
    ),
    ({"a": NOTES, "pk_a": NOTES}, "table pk_a: it needs the name pk_a"),
    ({"a": NOTES, "a_id_seq": NOTES}, "table a_id_seq: it needs the name a_id_seq"),
    ({"uq_a_b": NOTES, "a": {"b": "integer unique"}}, "table a, column b: it needs the name uq_a_b"),
    ({"class_": NOTES, "class": NOTES}, "table class: it needs the name class_"),
    # what MySQL has no room for
    (
        {"a": {"b": "string(9000)", "c": "string(9001)"}},
        "table a, column c: the columns up to here may take more than 65000 bytes",
    ),
    (
        {"a": {"b": "string(16000)"} | {f"e{i}": "string(64)" for i in range(9)}},
        "table a, column e3: the columns up to here may take",
    ),
    (
        {"a": {f"c{i}": "string(63)" for i in range(32)}},
        "table a, column c31: the columns up to here fill a page",
    ),
    (
        {"a": {f"c{i}": "boolean" for i in range(151)}},
        "table a, column c150: the columns up to here fill a page",
    ),
    ({"a": {f"c{i}": "integer index" for i in range(61)}}, "table a, column c60: it is the 61st index"),
    # foreign keys in a cycle
    (
        {"a": {"b": "-> b"}, "b": {"c": "-> a optional"}},
        "the foreign keys a -> b -> a form a cycle",
    ),
    (
        {"z": {"a": "-> a"}, "a": {"b": "-> b"}, "b": {"c": "-> c"}, "c": {"a": "-> a", "z": "text"}},
        "table c, column a: the foreign keys a -> b -> c -> a form a cycle, so none of these tables can be created first; "
        "leave one out, or write bigint instead of -> a",
    ),
]

EVENTS = {"columns": {"id": "bigint", "kind": "string(5)", "secret": "string(9) secret", "text": "text"}}

REST: list[tuple[dict[str, Any], str]] = [
    ({"service_name": "My_Service"}, "service_name My_Service: it is not lower-case letters and digits"),
    ({"service_name": "My_Service"}, "write my-service"),
    ({"service_name": "a--b"}, "write a-b"),
    ({"service_name": "a-"}, "write a"),
    ({"service_name": "1a"}, "write a"),
    ({"service_name": ""}, "write my-service"),
    ({"service_name": None}, "service_name None: YAML does not read it as text; write it in quotes"),
    ({"service_name": True}, "service_name True: YAML does not read it as text; write it in quotes"),
    ({"service_name": "a" * 25}, "has 25 characters"),
    ({"service_name": "json"}, "already has a package json; write json-service"),
    ({"service_name": "pydantic-settings"}, "write pydantic-setting-service"),
    ({"service_name": "class"}, "write class-service"),
    ({"service_name": "dbservice"}, "write dbservice-service"),
    ({"description": ""}, "description: it is empty or not one printable line"),
    ({"description": None}, "description None: YAML does not read it as text; write it in quotes"),
    ({"description": 5}, "description 5: YAML does not read it as text; write it in quotes"),
    ({"description": "a\nb"}, "not one printable line"),
    ({"description": "   "}, "description: it is empty"),
    ({"description": "a\tb"}, "description: it is empty or not one printable line"),
    ({"description": "a\u2028b"}, "not one printable line"),
    ({"description": "x" * 91}, "write at most 90 characters"),
    ({"description": "漢" * 46}, "write at most 90 characters"),
    (
        {"database": "oracle"},
        "database oracle: there is no such choice; write postgresql or mysql or mariadb or sqlite",
    ),
    ({"database": None}, "database None"),
    ({"cache": "memcached"}, "cache memcached: there is no such choice; write none or valkey or redis"),
    ({"ci": "jenkins"}, "ci jenkins"),
    ({"deploy": "compose"}, "deploy compose: it is not a list"),
    ({"deploy": ["helm"]}, "write [compose, kubernetes]"),
    ({"deploy": None}, "deploy None: it is not a list"),
    ({"python": "3.10"}, 'python 3.10: not every pinned driver has wheels for it; write "3.11"'),
    ({"python": 3.1}, "python 3.1"),
    ({"schema": "My"}, "schema My: a schema name starts with a letter"),
    ({"schema": "x" * 64}, "at most 63"),
    ({"schema": "pg_a"}, "write public, or my_pg_a"),
    ({"schema": "information_schema"}, "PostgreSQL reserves this name"),
    # not YAML
    *(
        (
            {"tables": text},
            "tables: this is not valid YAML; write {a: {b: text}}, close every quote and bracket",
        )
        for text in [
            "a: b: c",
            "{a: {b: text",
            "{a: {b: c: d}}",
            "{a: {b: text}}}",
            "{a: {b: text]}",
            '{a: {b: "text}}',
            'a:\n  b: json = {"c": 1}',
            "{a: {b: json = [1]}}",
            "a: 'b",
            "a:\n  b: {c: d\ne: f",
        ]
    ),
    *(
        ({"shared": text}, "shared: this is not valid YAML")
        for text in ["{", "a: {columns: {b: text}", "a: b: c"]
    ),
    *(
        ({"deploy": text}, "deploy: this is not valid YAML; write [compose, kubernetes]")
        for text in ["[compose", "[compose}", "'compose"]
    ),
    # tables of other services
    ({"shared": []}, "shared is not a mapping"),
    ({"shared": {"Events": EVENTS}}, "table Events: a table name"),
    ({"shared": {"notes": EVENTS}}, "table notes: it is in tables too"),
    ({"shared": {"events": {}}}, "table events: it has no columns"),
    ({"shared": {"events": {"id": "bigint"}}}, "table events: it has no columns"),
    (
        {"shared": {"events": EVENTS | {"acces": "read"}}},
        "table events: acces is not valid; write columns, access or rows",
    ),
    (
        {"shared": {"events": EVENTS | {"access": "write"}}},
        "table events: write is not a kind of access; write read or read-write",
    ),
    ({"shared": {"events": {"columns": {"id": "int"}}}}, "table events, column id: int is not a type"),
    ({"shared": {"events": {"columns": {"Id": "bigint"}}}}, "table events, column Id: a column name"),
    (
        {"shared": {"events": {"columns": {"c": "-> notes"}}}},
        "table events, column c: the foreign key belongs to the service that owns the table; write bigint",
    ),
    (
        {"shared": {"events": {"columns": {"c": "bigint unique"}}}},
        "table events, column c: unique, index and = default belong to the service",
    ),
    (
        {"shared": {"events": {"columns": {"c": "text ="}}}},
        "unique, index and = default belong to the service",
    ),
    (
        {"shared": {"events": {"columns": {"c": "bigint = 5"}}}},
        "table events, column c: unique, index and = default belong to the service that owns the table; write the "
        "type, then optional or secret if they apply",
    ),
    ({"shared": {True: EVENTS}}, "table True: YAML does not read this name as text"),
    (
        {"shared": {"events": {"columns": {"c": "enum(a", "b)": None}}}},
        "table events, column c: enum(a has no closing ); write the column in quotes",
    ),
    ({"shared": {"events": EVENTS | {"rows": ["kind"]}}}, "table events: rows is not a mapping"),
    (
        {"shared": {"events": EVENTS | {"rows": {"kinds": "a"}}}},
        "table events, column kinds of rows: it is not one of the columns",
    ),
    (
        {"shared": {"events": EVENTS | {"rows": {"secret": "a"}}}},
        "table events, column secret of rows: a secret cannot",
    ),
    (
        {"shared": {"events": EVENTS | {"rows": {"text": "a"}}}},
        "table events, column text of rows: text cannot",
    ),
    (
        {"shared": {"events": EVENTS | {"rows": {"kind": "too long"}}}},
        "table events, column kind of rows: too long is not a value of it",
    ),
    (
        {"shared": {"events": EVENTS | {"rows": {"id": "x"}}}},
        "table events, column id of rows: x is not a value of it",
    ),
    (
        {"shared": {"events": EVENTS | {"rows": {"kind": False}}}},  # what YAML makes of {kind: no}
        "table events, column kind of rows: YAML does not read its value as text; write it in quotes",
    ),
]

REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({"tables": {"t": {"c": value}}}, f"table t, column c: .*{re.escape(words)}")
        for value, words in COLUMNS
    ),
    *(
        ({"tables": {"t": {name: "text"}}}, f"table t, column .*: .*{re.escape(words)}")
        for name, words in NAMES
    ),
    *(({"tables": tables}, re.escape(words)) for tables, words in TABLES),
    *((answers, re.escape(words)) for answers, words in REST),
]


@pytest.mark.parametrize(("answers", "sentence"), REFUSED)
def test_a_wrong_answer_is_refused_in_one_sentence(
    stamp: Stamp, tmp_path: Path, answers: Any, sentence: str
) -> None:
    with pytest.raises(UserMessageError, match="(?s)" + sentence) as refused:
        stamp(answers)
    assert re.search("; (write|leave|rename) ", str(refused.value))
    assert not (tmp_path / "service").exists()


TYPED: list[tuple[str, object, str]] = [
    (
        "service_name",
        "json",
        "service_name json: Python or a library already has a package json; write json-service",
    ),
    ("description", "", "description: it is empty"),
    ("tables", {"t": {}}, "table t: it has no columns"),
    ("shared", {"t": {}}, "table t: it has no columns"),
    ("schema", "pg_a", "schema pg_a: PostgreSQL reserves this name"),
    ("python", "3.10", "python 3.10: not every pinned driver"),
]


@pytest.mark.parametrize(("question", "answer", "sentence"), TYPED)
def test_a_wrong_answer_that_is_typed_meets_the_same_sentence(
    stamp: Stamp, question: str, answer: object, sentence: str
) -> None:
    # a default in Copier's own settings is offered, and validated, as if it had been typed
    others = {name: given for name, given in OTHERS.items() if name != question}
    with pytest.raises(ValueError, match=f"Validation error for question '{question}': {sentence}"):
        stamp(others, defaults=False, settings=copier.Settings(defaults={question: answer}))


def test_the_command_ends_with_the_sentence_and_nothing_else(template: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.yml").write_text("tables: {users: {email: varchar(255)}}")
    (tmp_path / "empty").mkdir()
    for folder in ("new", "empty"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "copier",
                "copy",
                "--defaults",
                "--data-file",
                "answers.yml",
                template,
                folder,
            ],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "table users, column email: varchar is not a type; write string(n), text" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "{notes: {body: text}}",
        '{"notes":{"body":"string(20) = it\'s"}}',
        "notes: {body: text, at: timestamp = 2024-01-31T13:45:00Z}",
        'notes:\n  body: json = [1, 2]  # no "flow" {here\n  at: time = 12:00:00\n  \'on\': "json = {\\"a\\": [1]}"\n',
        "a: &a {body: text}\nb: *a",
        "{a: {b: 'enum(a,b)',\n c: [string(5) = x]}}",
        "notes:\n  body: |-\n    text = a: b: {",
    ],
)
def test_what_is_yaml_is_never_called_none(stamp: Stamp, text: str) -> None:
    assert yaml.safe_load(text)
    try:
        stamp({"tables": text})
    except UserMessageError as refused:
        assert "not valid YAML" not in str(refused)


# --- what is stamped


def test_nothing_in_the_form_needs_trust() -> None:
    form = yaml.safe_load((ROOT / "copier.yml").read_text())
    assert not form.keys() & {"_tasks", "_jinja_extensions", "_migrations"}


def test_the_command_needs_neither_a_terminal_nor_trust(template: Path, tmp_path: Path) -> None:
    run("copier", "copy", "--defaults", template, "one", cwd=tmp_path)
    run(
        "copier",
        "copy",
        "--defaults",
        "--data-file",
        ROOT / "tests/answers/auth_user.yml",
        template,
        "two",
        cwd=tmp_path,
    )
    assert (tmp_path / "one/src/one/tables.py").exists()
    assert (tmp_path / "two/src/accounts/tables.py").exists()


WIDTHS = {
    "t" * width: {
        "c" * min(width, 59 - width): f"enum({'a' * 50},{'b' * width}) unique = {'b' * width}",
        "d" * (59 - width): f"decimal(50,0) index = {'1' * width}",
        "e" * (60 - 50 if width > 20 else 9): f"-> {'t' * width} optional",
        "f" * (60 - 50 if width > 20 else 8): 'json = {"a": [1e22, -0.5, "(, ["], "b": {"c": null}}',
        "g": "text = " + ("é" if width % 2 else "'") * (29 if width % 2 else 58),
    }
    for width in [*range(1, 6), *range(12, 48, 3), 48]
}
SHARED = {
    "events": {"columns": {"id": "bigint", "kind": "string(40)", "at": "timestamp", "data": "json optional"}},
    "import": {
        "columns": {
            "id": "bigint",
            "platform": "string(20)",
            "token": "string(255) secret",
            "kind": f"enum({'x' * 60},b)",
        },
        "access": "read-write",
        "rows": {"platform": "twitch", "id": 5, "kind": "b"},
    },
}
RIGHT: dict[str, dict[str, Any]] = {
    **{path.stem: yaml.safe_load(path.read_text()) for path in ANSWERS},
    "widths": {"tables": WIDTHS},
    "shared": {"tables": {}, "shared": SHARED},
    "nothing": {"tables": {}, "ci": "none", "database": "sqlite", "service_name": "abacus"},
    "python names": {
        "tables": {
            name: {"c": "text"}
            for name in [
                "class",
                "metadata",
                "select",
                "l",
                "owned",
                "limit",
                "int",
                "a10",
                "a9",
                "a_b",
                "ab",
            ]
        }
    },
    "description": {"description": "Kunden – für „alle“, it's 漢字 " + "漢" * 22},
}


@pytest.mark.parametrize("answers", RIGHT.values(), ids=RIGHT)
def test_what_is_stamped_is_clean(stamp: Stamp, answers: dict[str, Any]) -> None:
    service = stamp(answers)
    is_clean(service)
    for path in service.rglob("*"):
        assert not re.search(r"[{}%]|\.jinja", str(path.relative_to(service)))
        assert not path.is_file() or not re.search(r"\{%|\{\{ ", path.read_text())


DESCRIPTIONS = [
    """It's "quoted" – „alle“, 漢字 🎉""",
    r"C:\new\table, \" and \\ and \u0041" + "\\",
    "100% of {{ service_name }}, {% raw %}, {# none #}, {0}, %(prog)s, ${HOME}, $(id)",
    "'\"" * 45,
    "'" * 46 + '"' * 44,
    "\\" * 90,
    "  two spaces, then two more  ",
]


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_a_description_is_written_as_it_was_given(stamp: Stamp, description: str) -> None:
    service = stamp({"service_name": "a", "description": description})
    answers = yaml.safe_load((service / ".copier-answers.yml").read_text())
    for folder in (service, stamp({"service_name": "a", "description": answers["description"]}, "again")):
        is_clean(folder)
        assert f"\n\n{description.strip()}\n\n" in (folder / "README.md").read_text()
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["description"] == description
        given = [
            ast.literal_eval(node.value)
            for node in ast.walk(ast.parse((folder / "src/a/service.py").read_text()))
            if isinstance(node, ast.keyword) and node.arg == "description"
        ]
        assert given == [description]


@pytest.mark.parametrize(
    "description",
    [
        "```",
        "~~~ a",
        "# a",
        "> a",
        "- a",
        "+",
        "12) a",
        "---",
        "* * *",
        "[a]: b",
        "<!-- a",
        "<script>",
        "<details>",
        "a <details> b",
        r"a \<details> b",
        r"a \\<details> b",
        "`a` <details> `b`",
        "` <details> b",
        r"\` <details> `",
        "`` ` <details> `` `",
    ],
)
def test_a_description_leaves_the_rest_of_the_readme_as_it_is(stamp: Stamp, description: str) -> None:
    def blocks(description: str, folder: str) -> tuple[str, str, str]:
        service = stamp({"service_name": "a", "description": description}, folder)
        html = MarkdownIt("commonmark").render((service / "README.md").read_text())
        before, start, rest = html.partition("\n<p>")
        return (before, *(start + rest).split("</p>\n", 1))

    before, said, after = blocks(description, "one")
    plain = blocks("plain", "two")
    assert (before, after) == (plain[0], plain[2])
    assert said.startswith("\n<p>") and not re.search("<(?!/?(p|code)>)", said)


def test_code_in_a_description_is_code_in_the_readme(stamp: Stamp) -> None:
    description = "Keeps `Map<key, value>` and *more*"
    assert f"\n\n{description}\n\n" in (stamp({"description": description}) / "README.md").read_text()


def test_the_defaults_are_right_answers(stamp: Stamp) -> None:
    """With --defaults they are not checked, to lose no time."""
    answers = yaml.safe_load((stamp() / ".copier-answers.yml").read_text())
    stamp({name: answer for name, answer in answers.items() if name[0] != "_"}, "again")


def test_the_answers_file_stamps_the_same_again(stamp: Stamp) -> None:
    once = stamp(RIGHT["every_type"] | {"shared": SHARED}, "once")
    answers = yaml.safe_load((once / ".copier-answers.yml").read_text())
    again = stamp({name: answer for name, answer in answers.items() if name[0] != "_"}, "again")
    files = {path.relative_to(once) for path in once.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((once / file).read_bytes() == (again / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("orders", "orders"),
        ("My Cool_App", "my-cool-app"),
        ("2024-app", "app"),
        ("2024", "my-service"),
        ("日本", "my-service"),
        ("json", "json-service"),
        ("x" * 23 + "-" + "y", "x" * 23),
    ],
)
def test_the_folder_gives_the_name(stamp: Stamp, folder: str, name: str) -> None:
    service = stamp(folder=folder)
    assert (service / "src" / name.replace("-", "_") / "service.py").exists()
    stamp({"service_name": name}, "checked")


def test_a_column_says_everything_that_was_answered(stamp: Stamp) -> None:
    tables = {
        "sessions": {
            "user": "-> users unique",
            "seen": "-> users optional",
            "kind": "enum(a,b c) unique = b c",
        },
        "users": {
            "email": " string( 255 )  optional   unique",
            "price": "decimal( 12 , 2 ) = 0",
            "token": "binary optional secret",
            "quoted": r'string(9) = "say \"hi\""',
            "word": "string(9) = unique",
            "words": 'string(9) = "a unique"',
            "choice": "enum(a,a index) = a index",
            "plain": "string(9) index = it's",
            "both": "string(9) unique index",
            "empty": "string(4) =",
            "empty_text": "text optional  =  ",
            "empty_json": 'string(4) unique = ""',
            "empty_index": "string(4) index optional=",
        },
    }
    service = stamp({"service_name": "a", "tables": tables})
    written = (service / "src/a/tables.py").read_text()
    for line in [
        '("user", BigInteger(), ForeignKey("users.id"), nullable=False, unique=True)',
        '("seen", BigInteger(), ForeignKey("users.id"), nullable=True, index=True)',
        '("kind", Enum("a", "b c"), nullable=False, unique=True, default="b c")',
        '("email", String(255), nullable=True, unique=True)',
        '("price", Numeric(12, 2), nullable=False, default="0")',
        '("token", Binary(), nullable=True, info=SECRET)',
        """("quoted", String(9), nullable=False, default='say "hi"')""",
        '("word", String(9), nullable=False, default="unique")',
        '("words", String(9), nullable=False, default="a unique")',
        '("choice", Enum("a", "a index"), nullable=False, default="a index")',
        """("plain", String(9), nullable=False, index=True, default="it's")""",
        '("both", String(9), nullable=False, unique=True)',
        '("empty", String(4), nullable=False, default="")',
        '("empty_text", Text(), nullable=True, default="")',
        '("empty_json", String(4), nullable=False, unique=True, default="")',
        '("empty_index", String(4), nullable=True, index=True, default="")',
    ]:
        assert f"\n    Column{line},\n" in written


def test_a_table_comes_after_those_it_names(stamp: Stamp) -> None:
    tables = {
        "lines": {"order": "-> orders", "item": "-> items"},
        "orders": {"buyer": "-> users", "after": "-> orders optional"},
        "items": {"maker": "-> users optional"},
        "users": {"name": "string(20)"},
    }
    service = stamp({"service_name": "a", "tables": tables})
    migration = (service / "migrations/versions/0001_create_tables.py").read_text()
    order = ["users", "orders", "items", "lines"]
    assert re.findall(r'create_table\(\n +"(\w+)"', migration) == order
    assert re.findall(r'drop_table\("(\w+)"', migration) == order[::-1]
    assert re.findall(r"^(\w+) = owned", (service / "src/a/tables.py").read_text(), re.M) == order


def test_python_keeps_some_names_and_the_database_none(stamp: Stamp) -> None:
    service = stamp(
        {"service_name": "a", "tables": {"class": {"import": "text"}, "items": {"class": "-> class"}}}
    )
    routes = service / "src/a/routes"
    assert (routes / "class_.py").exists()
    assert (routes / "items.py").exists()
    assert 'Router("class")' in (routes / "class_.py").read_text()
    assert 'class_ = owned(\n    metadata,\n    "class",\n' in (service / "src/a/tables.py").read_text()


def test_a_service_that_owns_nothing_has_no_migration(stamp: Stamp) -> None:
    service = stamp({"service_name": "a", "tables": {}, "shared": SHARED})
    assert [path.name for path in (service / "migrations/versions").iterdir()] == [".gitkeep"]
    assert [path.name for path in (service / "src/a/routes").iterdir()] == ["__init__.py"]
    assert "DB_USER=a-rw" in (service / ".env.example").read_text()
    access: dict[str, Any] = {"__name__": "access"}
    code = (service / "src/a/access.py").read_text()
    exec(code[code.index("ACCESS = ") :], access)
    rows = {"platform": "twitch", "id": 5, "kind": "b"}
    assert access["ACCESS"] == {
        "events": {"access": "read", "rows": {}},
        "import": {"access": "read-write", "rows": rows},
    }


@pytest.fixture(scope="module")
def quoted_service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole service, platform included, whose description needs quoting and whose defaults are empty."""
    folder = tmp_path_factory.mktemp("whole")
    whole, service = folder / "template", folder / "service"
    shutil.copytree(template, whole)
    ignore = shutil.ignore_patterns(".*_cache", "__pycache__")
    shutil.copytree(ROOT / "template/src/dbservice", whole / "template/src/dbservice", ignore=ignore)
    answers = {"service_name": "a", "description": QUOTED, "tables": {"notes": EMPTY}}
    copier.run_copy(str(whole), service, data=answers, defaults=True, quiet=True)
    return service


QUOTED = """It's "quoted": C:\\new, {{ service_name }} {0} %s 100%, 漢字"""
EMPTY = {
    "title": "string(200)",
    "mark": "string(4) =",
    "body": "text =",
    "other": "string(4) optional =",
    "code": "string(4) unique =",
}


def test_a_service_with_a_quoted_description_and_empty_defaults_is_clean(quoted_service: Path) -> None:
    is_clean(quoted_service)
    run("mypy", cwd=quoted_service)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mariadb", "mysql"])
def test_an_empty_default_is_the_empty_string(quoted_service: Path, engine: str, tmp_path: Path) -> None:
    service = tmp_path / "service"
    shutil.copytree(quoted_service, service)
    empty = {"mark": "", "body": "", "other": "", "code": ""}
    with fresh_database(engine, tmp_path) as database:
        environ = {**os.environ, **database.environ(), "PYTHONPATH": str(service / "src")}
        command = [sys.executable, "-m", "a"]
        for words in (["migrate"], ["check-migrations"], ["revision", "-m", "nothing"]):
            done = subprocess.run(
                [*command, *words], cwd=service, env=environ, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert [path.name for path in service.glob("migrations/versions/*.py")] == ["0001_create_tables.py"]

        with closing(database.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                "INSERT INTO notes (title, created_at, updated_at) "
                "VALUES ('by hand', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
            )
            cursor.execute(f"SELECT {', '.join(empty)} FROM notes")
            assert cursor.fetchall() in ([("",) * 4], ((("",) * 4),))
            cursor.execute("DELETE FROM notes")
            connection.commit()

        with served(command, service, environ) as client:
            document = client.get("/openapi.json").json()
            assert document["info"]["description"] == QUOTED
            created = client.post("/v1/notes", json={"title": "by the API"})
            assert created.status_code == 201
            assert empty.items() <= created.json().items()
            assert client.get("/v1/notes").json()["items"] == [created.json()]
            assert client.post("/v1/notes", json={"title": "code is unique"}).status_code == 409


@contextmanager
def served(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of the service while `serve` runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([*command, "serve", "--port", port], cwd=folder, env=environ)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None, "the service ended"
            yield client
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_a_shell_can_load_every_line_of_the_settings(stamp: Stamp, engine: str) -> None:
    service = stamp({"service_name": "a-b", "database": engine})
    text = (service / ".env.example").read_text()
    assert "set -a; . ./.env; set +a" in text
    settings = re.sub("^# (?=[A-Z_]+=)", "", text, flags=re.M)
    assert not re.search(r"^[^#\n]*[^#\w=./\n-]", settings, re.M)
    (service / ".env").write_text(re.sub("PASS=$", "PASS=secret", settings, flags=re.M))
    (service / "var").mkdir()
    command = ["env", "-i", "sh", "-c", "set -a; . ./.env; set +a; env -0"]
    done = subprocess.run(command, cwd=service, capture_output=True, text=True, check=True)
    assert not done.stderr
    names = set(re.findall("^([A-Z_]+)=", settings, re.M))
    loaded = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    loaded = {name: value for name, value in loaded.items() if name in names}
    if engine == "sqlite":
        loaded["DB_NAME"] = str(service / loaded["DB_NAME"])
    needed = {name: loaded[name] for name in re.findall("^([A-Z_]+)=", text, re.M)}
    migrates = {name: value for name, value in loaded.items() if name.startswith("MIGRATE_")}
    assert names == loaded.keys()
    assert Settings.load(loaded) == Settings.load(needed | migrates)  # what is commented out is the default


@pytest.mark.parametrize(
    ("ci", "path"), [("github", ".github/workflows/check.yml"), ("gitlab", ".gitlab-ci.yml")]
)
def test_ci_runs_what_a_developer_runs(stamp: Stamp, ci: str, path: str) -> None:
    text = (stamp({"ci": ci, "python": "3.12"}) / path).read_text()
    assert yaml.safe_load(text)
    assert re.search(r"3\.12\b.*make check\b.*make test\b", text, re.S)
    assert (
        len(
            [
                file
                for file in (".github", ".gitlab-ci.yml")
                if (stamp({"ci": "none"}, "none") / file).exists()
            ]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("ci", "path"), [("github", ".github/workflows/check.yml"), ("gitlab", ".gitlab-ci.yml")]
)
def test_ci_has_the_server_that_the_tests_need(stamp: Stamp, ci: str, path: str) -> None:
    said = {
        database: (stamp({"ci": ci, "database": database}, database) / path).read_text()
        for database in ["sqlite", "postgresql", "mariadb", "mysql"]
    }
    assert said["sqlite"] == said["postgresql"]  # a wheel brings PostgreSQL
    assert re.search(r"apt-get install -y .*mariadb-server\b.*make test", said["mariadb"], re.S)
    assert not re.search("mysql", said["mariadb"])
    assert all(map(yaml.safe_load, said.values()))
    job = yaml.safe_load(said["mysql"])
    job = job["jobs"]["check"] if ci == "github" else job["check"]
    services = job["services"].values() if ci == "github" else job["services"]
    assert [service["image"] if ci == "github" else service for service in services] == ["mysql:8.0"]
    variables = job["env"] if ci == "github" else job["variables"]
    host = "127.0.0.1" if ci == "github" else "mysql"
    assert variables["DB_TEST_URL"] == f"mysql://root:test@{host}:3306/mysql"


def test_an_update_leaves_the_services_own_files_alone(template: Path, tmp_path: Path) -> None:
    def git(*words: str | Path, cwd: Path) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        subprocess.run(command, cwd=cwd, check=True, capture_output=True)

    source, service = tmp_path / "source", tmp_path / "service"
    shutil.copytree(template, source)
    git("init", cwd=source)
    git("add", "-A", cwd=source)
    git("commit", "-m", "one", cwd=source)
    git("tag", "1.0.0", cwd=source)
    run("copier", "copy", "--defaults", "--data", f"description={QUOTED}", source, service, cwd=tmp_path)
    git("init", cwd=service)
    git("add", "-A", cwd=service)
    git("commit", "-m", "stamped", cwd=service)
    stamped = {
        path: path.read_bytes() for path in service.rglob("*") if path.is_file() and ".git" not in path.parts
    }

    for path in (source / "template").rglob("*"):
        if path.is_file():
            path.write_text(path.read_text() + "# newer\n")
    git("add", "-A", cwd=source)
    git("commit", "-m", "two", cwd=source)
    git("tag", "1.1.0", cwd=source)
    renamed = subprocess.run(
        [sys.executable, "-m", "copier", "update", "--defaults", "--data", "service_name=other"],
        cwd=service,
        capture_output=True,
        text=True,
    )
    assert renamed.returncode == 1
    assert (
        "service_name other: the service's own files use the name service" in renamed.stderr.splitlines()[-1]
    )
    assert "Traceback" not in renamed.stderr
    assert not subprocess.check_output(["git", "status", "--porcelain"], cwd=service)

    said = run(
        "copier", "update", "--defaults", "--skip-answered", "--data", "service_name=service", cwd=service
    )
    for answer in ("tables", "database", "schema", "description"):
        assert re.search(rf"^ +{answer}\b.* (src/service/|pyproject\.toml)", said, re.M)
    assert yaml.safe_load((service / ".copier-answers.yml").read_text())["description"] == QUOTED
    same = {
        str(path.relative_to(service)) for path, content in stamped.items() if path.read_bytes() == content
    }
    own = r"(\.gitignore|Makefile|README\.md|pyproject\.toml|requirements\.txt|migrations/versions/.*|src/service/.*|tests/.*)"
    assert same == {
        name for name in map(lambda path: str(path.relative_to(service)), stamped) if re.fullmatch(own, name)
    }
