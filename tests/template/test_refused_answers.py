"""The form: a wrong answer is refused with one sentence and leaves nothing behind."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from copier.errors import UserMessageError

from .conftest import Stamp

OTHERS = {"service_name": "a", "description": "a", "database": "postgresql", "tables": {}, "shared": {}}


OTHERS |= {"schema": "public", "cache": "none", "deploy": [], "ci": "none", "python": "3.13"}


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
    ({"class_": NOTES, "class": NOTES}, "table class: it needs the name Class"),
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


def test_copier_prints_the_sentence_and_nothing_else(template: Path, tmp_path: Path) -> None:
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
def test_valid_yaml_is_never_reported_as_invalid(stamp: Stamp, text: str) -> None:
    assert yaml.safe_load(text)
    try:
        stamp({"tables": text})
    except UserMessageError as refused:
        assert "no YAML" not in str(refused)
