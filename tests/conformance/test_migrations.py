"""Migrations: what a revision says, what it does to tables that hold rows, and who may run one, on every engine."""

import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import Limits, Service, migrations, startup
from dbservice.errors import StartupError
from dbservice.schema import AUTOMATIC
from dbservice.settings import Settings
from dbservice.testing import servers

from .. import sample_service
from ..cli_service import CliService, engines_of, only


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "private_database" in metafunc.fixturenames:
        metafunc.parametrize("private_database", engines_of(metafunc), indirect=True)


@pytest.fixture
def cli_service(
    private_database: servers.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CliService:
    return CliService(tmp_path / "demo", private_database, monkeypatch)


@contextmanager
def connected(cli_service: CliService) -> Iterator[sa.Connection]:
    engine = cli_service.backend.migrations.engine()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def names(cli_service: CliService) -> set[str]:
    with connected(cli_service) as connection:
        return set(sa.inspect(connection).get_table_names())


def fill(cli_service: CliService, count: int = 3) -> None:
    """Rows in every table, parents first; every second one has NULL where it may."""
    with connected(cli_service) as connection:
        for table in cli_service.service.tables.sorted_tables:
            for number in range(count):
                connection.execute(table.insert().values(row_of(table, number)))
        connection.commit()


def row_of(table: sa.Table, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        column_type: Any = column.type
        if column.name in AUTOMATIC[1:]:
            row[column.name] = column_type.from_json("2024-01-31T13:45:00.123456Z")
        elif column.foreign_keys:
            row[column.name] = None if column.nullable else number % 3 + 1
        elif column.name != "id":
            example = column_type.from_json(column_type.example(number))
            row[column.name] = None if column.nullable and number % 2 else example
    return row


def rows(cli_service: CliService, table: str) -> list[dict[str, Any]]:
    found = cli_service.service.tables.tables[table]
    with connected(cli_service) as connection:
        return [dict(row) for row in connection.execute(found.select().order_by(found.c.id)).mappings()]


def seen(cli_service: CliService) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(cli_service, table) for table in cli_service.service.tables.tables}


# --- up, down, up


def test_every_type_goes_up_down_and_up_again(cli_service: CliService) -> None:
    cli_service.use(sample_service.metadata)
    first = cli_service.revision("create the tables")
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {*sample_service.metadata.tables, "alembic_version_demo"}
    cli_service.migrate_to("base")
    assert names(cli_service) == {"alembic_version_demo"}
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert "text(" not in first and "VARCHAR" not in first and "schema=" not in first
    assert cli_service.revision("nothing") == "" and len(list(cli_service.versions.glob("*.py"))) == 1


def test_what_the_migrations_build_holds_what_tables_py_says(cli_service: CliService) -> None:
    """The same CHECKs, keys, defaults and orders as create_all makes."""
    cli_service.use(sample_service.metadata)
    cli_service.revision()
    cli_service.upgrade()
    with connected(cli_service) as connection:
        migrated = shape(connection)
    cli_service.migrate_to("base")
    with connected(cli_service) as connection:
        sample_service.metadata.create_all(connection)
        connection.commit()
        assert shape(connection) == migrated


def shape(connection: sa.Connection) -> Any:
    inspector = sa.inspect(connection)
    found = {}
    for table in sample_service.metadata.tables:
        columns = {
            each["name"]: {**each, "type": repr(each["type"])} for each in inspector.get_columns(table)
        }
        found[table] = (
            columns,
            inspector.get_pk_constraint(table),
            sorted(inspector.get_foreign_keys(table), key=str),
            sorted(inspector.get_unique_constraints(table), key=str),
            sorted(inspector.get_indexes(table), key=str),
            sorted(inspector.get_check_constraints(table), key=str),
            inspector.get_table_options(table),
        )
    return found


# --- others in the same database

ONE = 'users = owned(metadata, "users", Column("email", String(20), nullable=False, unique=True))\n'


def test_tables_of_others_are_neither_touched_nor_mentioned(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        for sql in (
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email VARCHAR(20))",
            "INSERT INTO accounts VALUES (1, 'a@b')",
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
            "INSERT INTO alembic_version VALUES ('theirs')",
            "CREATE TABLE alembic_version_other (version_num VARCHAR(32) NOT NULL)",
            "INSERT INTO alembic_version_other VALUES ('theirs')",
        ):
            connection.exec_driver_sql(sql)
        connection.commit()
    cli_service.tables(ONE)
    assert "accounts" not in cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {
        "users",
        "alembic_version_demo",
        "accounts",
        "alembic_version",
        "alembic_version_other",
    }
    cli_service.migrate_to("base")
    assert cli_service.differences() != []
    with connected(cli_service) as connection:
        assert connection.exec_driver_sql("SELECT email FROM accounts").scalar() == "a@b"
        for table in ("alembic_version", "alembic_version_other"):
            assert connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar() == "theirs"
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version_demo").scalar() == 0


# --- every change, on tables with rows

USERS = """
users = owned(metadata, "users",
    Column("email", String(20), nullable=False, unique=True),
    Column("nick", String(20), nullable=True),
    Column("order", Enum("a", "b"), nullable=False, default="a"),
    Column("balance", Numeric(12, 2), nullable=False, default="1.5"),
    Column("big", Numeric(18, 2), nullable=True),
    Column("age", Integer(), nullable=True),
    Column("about", Text(), nullable=False, default="it's \\\\ é"),
    Column("settings", JSON(), nullable=True, default={"a": [1.5, None, "x'"]}),
    Column("since", Timestamp(), nullable=False, default="2024-01-31T13:45:00.000001Z"),
)
"""
POSTS = """
posts = owned(metadata, "posts",
    Column("user_id", BigInteger(), ForeignKey("users.id"), nullable=False, index=True),
    Column("parent_id", BigInteger(), ForeignKey("posts.id"), nullable=True, index=True),
    Column("title", String(20), nullable=False, index=True),
)
"""
NOTES = """
notes = owned(metadata, "notes",
    Column("post_id", BigInteger(), ForeignKey("posts.id"), nullable=False, index=True),
    Column("kind", Enum("x", "y"), nullable=False, default="y"),
)
"""
BEFORE = USERS + POSTS
CHANGES: dict[str, Any] = {
    "a new column with a default": (
        '    Column("age", ',
        '    Column("active", Boolean(), nullable=False, default=True),\n    Column("age", ',
    ),
    "a new column with a hard default": (
        '    Column("age", ',
        '    Column("key", Text(), nullable=False, default="it\'s \\\\ %s é"),\n    Column("age", ',
    ),
    "a new column with a default of per cent": (
        '    Column("age", ',
        '    Column("rate", String(20), nullable=False, default="100 %s"),\n    Column("age", ',
    ),
    "a new optional column": (
        '    Column("age", ',
        '    Column("limit", JSON(), nullable=True),\n    Column("age", ',
    ),
    "a new unique column": (
        '    Column("age", ',
        '    Column("token", Uuid(), nullable=True, unique=True),\n    Column("age", ',
    ),
    "a new enum column": (
        '    Column("age", ',
        '    Column("group", Enum("x", "long value"), nullable=False, default="x"),\n    Column("age", ',
    ),
    "a new table with names that are too long": (
        "\nposts",
        f'{"t" * 40} = owned(metadata, "{"t" * 40}", Column("{"b" * 40}", Enum("x", "y"), nullable=False, index=True),'
        f'Column("{"c" * 40}", BigInteger(), ForeignKey("users.id"), nullable=False, unique=True))\n\nposts',
    ),
    "a new column that refers to itself": (
        '    Column("age", ',
        '    Column("boss_id", BigInteger(), ForeignKey("users.id"), nullable=True, index=True),\n    Column("age", ',
    ),
    "a new table": ("\nposts", NOTES.replace("post", "user") + "\nposts"),
    "a new table that an old one refers to": (
        '    Column("title", ',
        '    Column("topic_id", BigInteger(), ForeignKey("topics.id"), nullable=True, index=True),\n    Column("title", ',
        'topics = owned(metadata, "topics", Column("name", String(20), nullable=False))\n',
    ),
    "a dropped column": ('    Column("age", Integer(), nullable=True),\n', ""),
    "a dropped unique column": ('    Column("email", String(20), nullable=False, unique=True),\n', ""),
    "a dropped indexed column": ('    Column("title", String(20), nullable=False, index=True),\n', ""),
    "a dropped enum column": ('    Column("order", Enum("a", "b"), nullable=False, default="a"),\n', ""),
    "a dropped foreign key column": (
        '    Column("user_id", BigInteger(), ForeignKey("users.id"), nullable=False, index=True),\n',
        "",
    ),
    "a dropped table": (POSTS, ""),
    "two dropped tables": (BEFORE, 'other = owned(metadata, "other", Column("x", Integer(), nullable=True))\n'),
    "a dropped table that another refers to": (
        USERS + POSTS.replace("\n)", '\n    Column("user_id2", Integer(), nullable=True),\n)'),
        POSTS.replace(
            'Column("user_id", BigInteger(), ForeignKey("users.id"), nullable=False, index=True)',
            'Column("user_id2", Integer(), nullable=True)',
        ),
    ),
    "a new index": ('Column("nick", String(20), nullable=True)', 'Column("nick", String(20), nullable=True, index=True)'),
    "a dropped index": (
        'Column("title", String(20), nullable=False, index=True)',
        'Column("title", String(20), nullable=False)',
    ),
    "a new unique key": ('Column("nick", String(20), nullable=True)', 'Column("nick", String(20), nullable=True, unique=True)'),
    "a dropped unique key": (
        'Column("email", String(20), nullable=False, unique=True)',
        'Column("email", String(20), nullable=False)',
    ),
    "a longer string": ('"email", String(20)', '"email", String(300)'),
    "a shorter string": ('"email", String(20)', '"email", String(15)'),
    "a text instead of a string": ('"nick", String(20)', '"nick", Text()'),
    "a column that becomes optional": ('"email", String(20), nullable=False', '"email", String(20), nullable=True'),
    "a column with a default that becomes optional": (
        '"about", Text(), nullable=False',
        '"about", Text(), nullable=True',
    ),
    "a new enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "c"), '),
    "a new, longer enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "quite long"), '),
    "an enum instead of a string": (
        'Column("order", Enum("a", "b"), nullable=False, default="a")',
        'Column("order", String(10), nullable=False, default="a")',
    ),
    "another default": ('nullable=False, default="a"', 'nullable=False, default="b"'),
    "a dropped default": ('nullable=False, default="1.5"', "nullable=False"),
    "a new default": ('Column("nick", String(20), nullable=True)', 'Column("nick", String(20), nullable=True, default="it\'s %")'),
    "another json default": ('default={"a": [1.5, None, "x\'"]}', 'default={"a": [True]}'),
    "more digits after the point": ("Numeric(12, 2)", "Numeric(14, 4)"),
    "more digits than SQLite has numbers for": ("Numeric(18, 2)", "Numeric(30, 2)"),
    "a bigint instead of an integer": ('"age", Integer()', '"age", BigInteger()'),
    "a decimal instead of an integer": ('"age", Integer()', '"age", Numeric(20, 3)'),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_becomes_a_revision_that_keeps_the_rows(cli_service: CliService, name: str) -> None:
    old, new, *more = CHANGES[name]
    before = old if old.startswith(USERS) else BEFORE
    after = "".join(more) + before.replace(old, new)
    assert before != after
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    original = seen(cli_service)

    cli_service.tables(after)
    # a table that is not in tables.py any more may be anybody's; servers write a default in their own words
    if name != "a dropped table" and (cli_service.database.type == "sqlite" or not name.endswith("default")):
        assert cli_service.differences() != []
    text = cli_service.revision(name)
    assert text and not [word for word in ("VARCHAR", "sa.text", "sa.String", "schema=") if word in text]
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    for table, found in seen(cli_service).items():
        for new_row, old_row in zip(found, original.get(table, []), strict=table in original):
            both = new_row.keys() & old_row.keys()
            assert {key: new_row[key] for key in both} == {key: old_row[key] for key in both}
            default_of = {
                c.name: c.info.get("default") for c in cli_service.service.tables.tables[table].columns
            }
            for key in new_row.keys() - old_row.keys():
                assert new_row[key] == default_of[key]
    the_checks_hold(cli_service)
    if cli_service.database.type == "sqlite":
        make_check_is_content(cli_service)

    if "dropped" in name:  # what is gone does not come back, and a required column cannot be empty
        clear(cli_service)
    cli_service.migrate_to("0001")
    cli_service.tables(before)
    assert cli_service.differences() == []
    if "dropped" not in name:
        assert seen(cli_service) == original
    the_checks_hold(cli_service)


def make_check_is_content(cli_service: CliService) -> None:
    for words in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
        found = subprocess.run(command, capture_output=True, text=True, cwd=cli_service.versions)
        assert found.returncode == 0, found.stdout


def clear(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        for table in reversed(cli_service.service.tables.sorted_tables):
            for column in table.columns:
                if any(key.column.table is table for key in column.foreign_keys):
                    connection.execute(table.update().values({column.name: None}))
            connection.execute(table.delete())
        connection.commit()


def the_checks_hold(cli_service: CliService) -> None:
    """Each enum column takes its values and no other, whoever writes."""
    for table in cli_service.service.tables.sorted_tables:
        for column in table.columns:
            column_type: Any = column.type
            if type(column_type).__name__ != "Enum":
                continue
            with connected(cli_service) as connection:
                name = cli_service.backend.dialect().identifier_preparer.quote
                update = f"UPDATE {name(table.name)} SET {name(column.name)} = "
                connection.execute(table.insert().values(row_of(table, 10) | parents(table)))
                for value in column_type.values:
                    connection.exec_driver_sql(f"{update}'{value}'")
                with pytest.raises((sa.exc.IntegrityError, sa.exc.OperationalError), match=r"(?i)check|4025"):
                    connection.exec_driver_sql(f"{update}'Z'")
                connection.rollback()


def parents(table: sa.Table) -> dict[str, Any]:
    return {column.name: 1 for column in table.columns if column.foreign_keys and not column.nullable}


# --- what `check-migrations` sees

TYPES = (
    *("String(40)", "String(41)", "Text()", "Integer()", "BigInteger()", "Boolean()", "Numeric(12, 2)", "Numeric(12, 3)"),
    *("Numeric(40, 2)", "Float()", "Date()", "Time()", "Timestamp()", "JSON()", "Uuid()", "Binary()", 'Enum("a", "b")'),
    'Enum("a", "c")',
)  # fmt: skip


def typed(shift: int) -> str:
    columns = ", ".join(
        f'Column("c{i}", {TYPES[(i + shift) % len(TYPES)]}, nullable=True)' for i in range(len(TYPES))
    )
    return f'values = owned(metadata, "values", {columns})\n'


def test_every_other_type_is_seen(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        cli_service.tables(typed(0)).tables.create_all(connection)
        connection.commit()
    assert cli_service.differences() == []
    missed = []
    for shift in range(1, len(TYPES)):
        cli_service.tables(typed(shift))
        said = "\n".join(cli_service.differences())
        for i in range(len(TYPES)):
            if f"c{i}" not in re.findall(r"c\d+", said):
                missed.append({TYPES[i], TYPES[(i + shift) % len(TYPES)]})
    same = {"Text()", "JSON()"}  # to MySQL and MariaDB both are LONGTEXT
    assert missed == ([same, same] if cli_service.database.type == "mysql" else [])


def test_the_order_of_enum_values_means_nothing(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.tables(BEFORE.replace('Enum("a", "b")', 'Enum("b", "a")'))
    assert cli_service.revision() == ""


# --- the file of a revision


@only("sqlite")
def test_a_revision_is_right_without_ruff(cli_service: CliService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cli_service.tables(BEFORE)
    assert "op.create_table('users'" in cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []


@only("sqlite")
def test_revisions_are_numbered_and_named_by_their_message(cli_service: CliService) -> None:
    messages = {
        'say "hi"\n\\ and é': "0001_say_hi_and_e",
        "": "0002",
        "日本": "0003",
        "x" * 99: "0004_" + "x" * 27,
    }
    for number, (message, revision) in enumerate(messages.items()):
        cli_service.tables(ONE + ONE.replace("users", f"users{number}"))
        assert cli_service.revision(message)
        assert (cli_service.versions / f"{revision}.py").is_file()
    cli_service.upgrade()
    assert migrations.current(cli_service.service, cli_service.backend) == "0004_" + "x" * 27
    cli_service.migrate_to("0002")
    assert migrations.current(cli_service.service, cli_service.backend) == "0002"
    cli_service.migrate_to("0003")
    cli_service.migrate_to("head")
    assert migrations.current(cli_service.service, cli_service.backend) == migrations.head(
        cli_service.service
    )


@only("sqlite")
@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            "))",
            '), Column("phone", String(9), nullable=False))',
            r"^users\.phone is required and has no default: .* one revision later\.$",
        ),
        (
            '"email"',
            '"mail"',
            r"^users\.mail is required and has no default: .* If it is users\.email renamed, ",
        ),
    ],
    ids=["new", "renamed"],
)
def test_a_required_column_without_a_default_is_refused(
    cli_service: CliService, before: str, after: str, sentence: str
) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    cli_service.tables(ONE.replace(before, after))
    with pytest.raises(StartupError, match=sentence):
        cli_service.revision()
    assert len(list(cli_service.versions.glob("*.py"))) == 1


# --- what goes wrong is one sentence


@only("sqlite")
def test_two_revisions_that_both_come_last_are_named(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    for name in ("here", "there"):
        text = (cli_service.versions / "0001_first.py").read_text()
        text = text.replace('"0001_first"', f'"0002_{name}"').replace("= None", '= "0001_first"', 1)
        (cli_service.versions / f"0002_{name}.py").write_text(text)
    works: list[Callable[[], Any]] = [
        cli_service.upgrade,
        cli_service.revision,
        lambda: migrations.head(cli_service.service),
    ]
    for work in works:
        with pytest.raises(StartupError, match="0002_here and 0002_there both come last: set down_revision"):
            work()


BROKEN = {
    'op.execute("SELECT nonsense FROM nowhere")': "0002_broken.py, line 13, the database said: ",
    "raise ValueError('what now')": "0002_broken.py, line 13: ValueError: what now.",
    "op.drop_table('users')\n    op.add_column('nowhere', sa.Column('a', types.Nonsense()))": (
        "0002_broken.py, line 14: AttributeError: "
    ),
    "this is no Python": "0002_broken.py, line 13: SyntaxError: ",
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_revision_that_fails_is_one_sentence_and_leaves_nothing(cli_service: CliService, body: str) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    (cli_service.versions / "0002_broken.py").write_text(
        f"""
import sqlalchemy as sa
from alembic import op

from dbservice import types

revision = "0002_broken"
down_revision = "0001_first"


def upgrade() -> None:
    op.execute("CREATE TABLE half (id INTEGER)")
    {body}


def downgrade() -> None:
    pass
"""
    )
    code, out, err = cli_service.run("migrate")
    assert (code, out) == (1, "") and BROKEN[body] in err
    assert [line for line in err.splitlines() if "info" not in line] == err.splitlines()[-1:]
    (cli_service.versions / "0002_broken.py").unlink()
    if cli_service.database.type != "mysql" or "no Python" in body:  # whose DDL cannot be taken back
        assert names(cli_service) == {"users", "alembic_version_demo"}
    assert migrations.current(cli_service.service, cli_service.backend) == "0001_first"


@pytest.mark.parametrize(
    "change",
    [
        ('"age", Integer(), nullable=True', '"age", Integer(), nullable=False'),
        ('Enum("a", "b")', 'Enum("a")'),
    ],
    ids=["null", "enum"],
)
def test_rows_that_stand_against_a_change_are_one_sentence(
    cli_service: CliService, change: tuple[str, str]
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    before = seen(cli_service)
    cli_service.tables(BEFORE.replace(*change))
    cli_service.revision()
    pattern = r"^The migration stopped at 0002_change.py, line \d+, the database said: [^\n]+$"
    with pytest.raises(StartupError, match=pattern):
        cli_service.upgrade()
    assert (
        seen(cli_service) == before
        and migrations.current(cli_service.service, cli_service.backend) == "0001_first"
    )


# --- one at a time


def test_two_at_once_take_turns(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cli_service.use(sample_service.metadata)
    cli_service.revision()
    caplog.clear()
    with ThreadPoolExecutor(2) as both:
        with cli_service.backend.migrations.lock("migrate demo", 1):
            done = [both.submit(cli_service.upgrade) for _ in range(2)]
            time.sleep(1.5)
            assert [each.done() for each in done] == [False, False] and names(cli_service) == set()
        for each in done:
            each.result(timeout=60)
    assert len([line for line in caplog.messages if line.startswith("Running upgrade")]) == 1
    assert cli_service.differences() == []


def test_two_processes_at_once_both_end_well(cli_service: CliService) -> None:
    cli_service.use(sample_service.metadata)
    cli_service.revision()
    both = [cli_service.start("migrate") for _ in range(2)]
    said = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sum("Running upgrade" in err for _, err in said) == 1


def test_a_lock_that_is_held_too_long_is_one_sentence(cli_service: CliService) -> None:
    cli_service.options["limits"] = Limits(lock=1)
    cli_service.tables(ONE)
    cli_service.revision()
    with cli_service.backend.migrations.lock("migrate demo", 1), pytest.raises(StartupError) as caught:
        cli_service.upgrade()
    assert str(caught.value) == "Another migration of demo has held the lock for 1 seconds: wait for it."
    cli_service.upgrade()


@only("postgresql", "mariadb", "mysql")  # a file is one service's
def test_another_service_does_not_wait(cli_service: CliService) -> None:
    cli_service.options["limits"] = Limits(lock=1)
    cli_service.tables(ONE)
    cli_service.revision()
    with migrations.environment.locked(
        Service("other", sa.MetaData(), root=cli_service.folder), cli_service.backend
    ):
        cli_service.upgrade()


def test_a_timeout_inside_a_migration_is_not_the_lock_s(
    cli_service: CliService, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_service.tables(ONE)
    cli_service.revision()

    def slow(*_: Any) -> None:
        raise TimeoutError("something else")

    monkeypatch.setattr("alembic.command.upgrade", slow)
    with pytest.raises(TimeoutError, match="something else"):
        cli_service.upgrade()


@only("postgresql")
def test_a_table_in_use_does_not_make_everybody_wait(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace('"nick", String(20)', '"nick", String(30)'))
    cli_service.revision()
    with closing(cli_service.database.connect()) as reader, closing(cli_service.database.connect()) as second:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = threading.Thread(target=cli_service.upgrade)
        migrating.start()
        time.sleep(1)
        assert migrating.is_alive()
        cursor = second.cursor()
        cursor.execute("SET statement_timeout = '5s'")
        cursor.execute("SELECT * FROM users")  # waits behind the migration, which gives up first
        second.rollback()
        reader.rollback()
        migrating.join(timeout=20)
        assert not migrating.is_alive()
    assert cli_service.differences() == []


@only("mysql", "mariadb")
def test_a_table_in_use_is_waited_for(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace('"nick", String(20)', '"nick", String(30)'))
    cli_service.revision("second")
    with closing(cli_service.database.connect()) as reader, ThreadPoolExecutor(1) as other:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = other.submit(cli_service.upgrade)
        deadline = time.monotonic() + 20
        while "tried again" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.1)
        reader.rollback()
        migrating.result(timeout=20)
    assert "tried again: the tables are in use by others" in caplog.messages
    assert cli_service.differences() == [] and "alembic_version_demo_half" not in names(cli_service)


@only("postgresql")
def test_a_schema_of_its_own_is_made(cli_service: CliService) -> None:
    cli_service.options["schema"] = "their own"
    cli_service.tables(ONE)
    cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {"users", "alembic_version_demo"}
    with closing(cli_service.database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename IN ('users', 'alembic_version_demo')"
        )
        assert cursor.fetchall() == [("their own",), ("their own",)]
    cli_service.migrate_to("base")
    cli_service.upgrade()


# --- SQLite, which alters a table by copying it


@only("sqlite")
def test_an_id_is_never_used_twice(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    cli_service.upgrade()
    fill(cli_service, 5)
    with connected(cli_service) as connection:
        connection.exec_driver_sql("DELETE FROM users WHERE id > 3")
        connection.commit()
    cli_service.tables(ONE.replace("20", "30"))
    cli_service.revision()
    cli_service.upgrade()
    with connected(cli_service) as connection:
        table = cli_service.service.tables.tables["users"]
        made = connection.execute(table.insert().values(row_of(table, 9))).inserted_primary_key
        assert made is not None and made[0] == 6
        connection.execute(table.delete().where(table.c.id == 6))
        connection.commit()
    cli_service.migrate_to("base")
    cli_service.upgrade()
    fill(cli_service, 1)
    assert rows(cli_service, "users")[0]["id"] == 1


@only("sqlite")
def test_a_copied_table_keeps_what_others_say_of_it(cli_service: CliService) -> None:
    """Dropping a parent would delete its children, or be refused."""
    cascade = POSTS.replace('ForeignKey("users.id")', 'ForeignKey("users.id", ondelete="CASCADE")')
    cli_service.tables(USERS + cascade)
    cli_service.revision()
    cli_service.upgrade()
    fill(cli_service)
    before = rows(cli_service, "posts")
    cli_service.tables(USERS.replace("20", "30") + cascade)
    cli_service.revision()
    cli_service.upgrade()
    assert rows(cli_service, "posts") == before
    with closing(cli_service.backend.connect()) as connection:
        connection.execute("DELETE FROM users WHERE id = 1")
        assert connection.execute("SELECT count(*) FROM posts WHERE user_id = 1").fetchone() == (0,)


@only("sqlite")
def test_a_revision_that_breaks_a_foreign_key_is_refused(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    (cli_service.versions / "0002.py").write_text(
        """
from alembic import op

revision, down_revision = "0002", "0001_first"


def upgrade():
    op.execute("DELETE FROM users")
"""
    )
    with pytest.raises(StartupError, match="row 1 of posts names a row of users that is not there"):
        cli_service.upgrade()
    assert len(rows(cli_service, "users")) == 3


# --- MySQL, which takes back no DDL: a revision that stopped goes on where it stopped


def change_things(cli_service: CliService, *statements: str) -> None:
    with connected(cli_service) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


@pytest.mark.parametrize(
    "way", ["an enum loses a value", "a unique after a new column", "a dropped column before"]
)
def test_a_revision_that_failed_goes_on_when_the_cause_is_mended(cli_service: CliService, way: str) -> None:
    change, mend = {
        "an enum loses a value": (('Enum("a", "b")', 'Enum("a")'), "UPDATE users SET {order} = 'a'"),
        "a unique after a new column": (
            (
                '"about", Text(), nullable=False, default="it\'s \\\\ é"),',
                '"about", String(20), nullable=False, default="x", unique=True),\n    Column("new", Date(), nullable=True),',
            ),
            "UPDATE users SET about = email",
        ),
        "a dropped column before": (
            ('nullable=True),\n    Column("order"', 'nullable=True),\n    Column("new", Date(), nullable=True),\n    Column("order"'),
            "DELETE FROM posts WHERE id > 1",
        ),
    }[way]  # fmt: skip
    before = BEFORE.replace('"about", Text()', '"about", String(20)') if "unique" in way else BEFORE
    after = BEFORE.replace(*change)
    assert after != BEFORE
    if "dropped" in way:  # in another table, whose revision comes first
        before = (
            BEFORE
            + 'archive = owned(metadata, "archive", Column("x", Integer(), nullable=True), Column("y", Integer(), nullable=True))\n'
        )
        after = (
            after + 'archive = owned(metadata, "archive", Column("x", Integer(), nullable=True))\n'
        ).replace(
            '"title", String(20), nullable=False, index=True',
            '"title", String(20), nullable=False, unique=True',
        )
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    if "unique" in way:
        change_things(cli_service, "UPDATE users SET about = 'same'")
    if "dropped" in way:
        change_things(cli_service, "UPDATE posts SET title = 'same'")
    cli_service.tables(after)
    cli_service.revision("second")
    for _ in range(2):
        with pytest.raises(StartupError, match="the database said") as caught:
            cli_service.upgrade()
        goes_on = "stays done" in str(caught.value) and "goes on from there" in str(caught.value)
        assert goes_on == (cli_service.database.type == "mysql"), caught.value
        assert migrations.current(cli_service.service, cli_service.backend) == "0001_first"
    with connected(cli_service) as connection:
        quote = connection.dialect.identifier_preparer.quote
    change_things(cli_service, mend.format(order=quote("order")))
    cli_service.upgrade()
    assert cli_service.differences() == []
    the_checks_hold(cli_service)
    assert not [name for name in names(cli_service) if "half" in name]
    clear(cli_service)
    cli_service.migrate_to("base")
    cli_service.upgrade()
    assert cli_service.differences() == []


REVISION = """
import sqlalchemy as sa
from alembic import op

from dbservice import types

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
    {body}


def downgrade() -> None:
    op.drop_table("half")
"""


def write_revision(cli_service: CliService, revision: str, before: str | None, *body: str) -> None:
    text = REVISION.format(revision=revision, before=before, body="\n    ".join(body))
    (cli_service.versions / f"{revision}.py").write_text(text)


def test_what_a_failed_revision_wrote_is_written_once(cli_service: CliService) -> None:
    write = 'op.execute("INSERT INTO half (a) VALUES (1)")'
    body = ['op.create_table("half", sa.Column("a", types.Integer()))', write, write]
    write_revision(
        cli_service,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        write + " # two",
        "1 / 0",
    )
    for _ in range(2):
        with pytest.raises(StartupError, match="ZeroDivisionError: division by zero"):
            cli_service.upgrade()
    # mended in the file: what was done is passed over, what is new is done
    write_revision(
        cli_service,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        'op.execute("INSERT INTO half VALUES (2, 2)")',
    )
    cli_service.upgrade()
    with connected(cli_service) as connection:
        assert connection.exec_driver_sql("SELECT a, b FROM half ORDER BY a").fetchall() == [
            (1, None),
            (1, None),
            (2, 2),
        ]
    assert names(cli_service) == {"half", "alembic_version_demo"}


@only("mysql", "mariadb")
def test_what_no_revision_says_any_more_is_named(
    cli_service: CliService, caplog: pytest.LogCaptureFixture
) -> None:
    write_revision(cli_service, "0001", None, "pass")
    cli_service.upgrade()
    write_revision(
        cli_service, "0002", "0001", 'op.create_table("half", sa.Column("a", types.Integer()))', "1 / 0"
    )
    with pytest.raises(StartupError, match="ZeroDivisionError"):
        cli_service.upgrade()
    (cli_service.versions / "0002.py").unlink()
    caplog.clear()
    cli_service.upgrade()
    assert caplog.messages == [
        "a revision stopped half-way and is not there any more: what it did stands in alembic_version_demo_half"
    ]
    write_revision(cli_service, "0002", "0001", 'op.create_table("whole", sa.Column("a", types.Integer()))')
    cli_service.upgrade()
    said = [message for message in caplog.messages if "stays done" in message]
    assert len(said) == 1 and "CREATE TABLE `half`" in said[0] and "\n" not in said[0]
    assert names(cli_service) == {"half", "whole", "alembic_version_demo"}


def test_the_table_of_another_service_is_never_taken_for_ours(cli_service: CliService) -> None:
    change_things(cli_service, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    cli_service.tables(ONE)
    cli_service.revision("first")
    for _ in range(3):
        with pytest.raises(StartupError, match=r"(?i)already exists"):
            cli_service.upgrade()
    assert names(cli_service) - {"alembic_version_demo"} == {"users"}
    with connected(cli_service) as connection:
        assert [each["name"] for each in sa.inspect(connection).get_columns("users")] == ["id"]


@only("mysql", "mariadb")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_migration_that_is_killed_goes_on(
    cli_service: CliService, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after a statement of which nobody can say whether it was done."""
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    engine = cli_service.backend
    made = engine.migrations.engine()
    monkeypatch.setattr(engine, "sqlalchemy", lambda: made)

    def kill(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "INDEX `ix_posts_title`" in statement:
            cursor.connection._force_close()
            raise KeyboardInterrupt

    sa.event.listen(made, f"{moment}_cursor_execute", kill)
    with pytest.raises(KeyboardInterrupt):
        migrations.upgrade(cli_service.service, engine)
    assert (
        "posts" in names(cli_service) and migrations.current(cli_service.service, cli_service.backend) is None
    )
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {"users", "posts", "alembic_version_demo"}


# --- what the version table says


def test_only_a_missing_version_table_means_that_there_are_no_tables(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    assert checked(cli_service) == "The database has no tables of demo yet: run `make migrate` first."
    change_things(cli_service, "CREATE TABLE alembic_version_demo (something_else INTEGER)")
    assert re.fullmatch(
        r"Cannot read the table alembic_version_demo, the database said: [^\n]*version_num[^\n]*: "
        r"let the account of DB_USER read it\.",
        checked(cli_service),
    )


@only("postgresql", "mysql", "mariadb")
def test_an_account_that_may_not_read_the_version_table_is_told_so(
    cli_service: CliService, request: pytest.FixtureRequest
) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    server = servers.find(request.node.callspec.params["private_database"])
    name, database = f"blind_{secrets.token_hex(5)}", cli_service.database.name
    if cli_service.database.type == "postgresql":
        server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'Blind-1-pw'")
        grants = (
            f'GRANT CONNECT ON DATABASE "{database}" TO {name}',
            f"GRANT USAGE ON SCHEMA public TO {name}",
            f"GRANT INSERT ON users TO {name}",
        )
        change_things(cli_service, *grants)
    else:
        server.query(f"CREATE USER {name} IDENTIFIED BY 'Blind-1-pw'")
        server.query(f"GRANT INSERT ON `{database}`.users TO {name}")
    environ = {**cli_service.environ, "DB_USER": name, "DB_PASS": "Blind-1-pw"}
    try:
        with pytest.raises(StartupError) as caught:
            startup.checked_revision(cli_service.service, cli_service.service.backend(Settings.load(environ)))
        assert re.fullmatch(
            r"Cannot read the table alembic_version_demo, the database said: [^\n]* denied [^\n]*alembic_version_demo[^\n]*:"
            r" let the account of DB_USER read it\.",
            str(caught.value),
        )
    finally:
        if cli_service.database.type == "postgresql":
            change_things(
                cli_service, *(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ") for grant in grants)
            )
        server.query(f"DROP {'ROLE' if cli_service.database.type == 'postgresql' else 'USER'} {name}")


def checked(cli_service: CliService) -> str:
    with pytest.raises(StartupError) as caught:
        startup.checked_revision(cli_service.service, cli_service.backend)
    return str(caught.value)


@only("sqlite")
@pytest.mark.parametrize("to", ["base", "head", "0001_first", None])
def test_a_revision_that_the_code_does_not_know_is_one_sentence(
    cli_service: CliService, to: str | None
) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    change_things(cli_service, "UPDATE alembic_version_demo SET version_num = '0009_theirs'")
    code, out, err = cli_service.run("migrate", *(["--to", to] if to else []))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "The database is at revision 0009_theirs, which this code does not know: deploy the code that it belongs to."
    )
    assert "Traceback" not in err


@only("sqlite")
@pytest.mark.parametrize("to", ["", "nonsense", "+7", "base:head", "0"])
def test_a_revision_that_there_is_not_is_one_sentence(cli_service: CliService, to: str) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(ONE.replace("20", "30"))
    cli_service.revision("second")
    code, out, err = cli_service.run("migrate", "--to", to)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1 and "Traceback" not in err, err


# --- what `make revision` says


@only("sqlite")
def test_what_a_revision_drops_is_said(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    cli_service.tables(BEFORE + NOTES.replace("post", "user"))
    cli_service.revision("first")
    caplog.clear()
    cli_service.tables(
        BEFORE.replace(
            'Column("email", String(20), nullable=False', 'Column("mail", String(30), nullable=True'
        )
        .replace('Column("nick"', 'Column("nickname"')
        .replace('    Column("big", Numeric(18, 2), nullable=True),\n', "")
    )
    text = cli_service.revision("second")
    said = [
        "drops the table notes with all its rows",
        "drops users.email with what it holds",
        "drops users.big with what it holds",
        "drops users.nick with what it holds; if it was renamed to nickname, write batch_op.alter_column('nick',"
        " new_column_name='nickname') in place of the two lines",
    ]
    for sentence in said:
        assert sum(sentence in message for message in caplog.messages) == 1, caplog.messages
        assert sentence in " ".join(text.split("import")[0].split())
    make_check_is_content(cli_service)


RENAMED = {
    "plain": ('Column("nick", String(20), nullable=True)', 'Column("nickname", String(20), nullable=True)'),
    "with its type": (
        'Column("nick", String(20), nullable=True)',
        'Column("nickname", String(20), nullable=True)',
    ),
    "with a default": ('Column("about", ', 'Column("story", '),
    "unique": (
        '"email", String(20), nullable=False, unique',
        '"mail", String(20), nullable=True, unique',
        '"mail", String(20), nullable=False, unique',
    ),
    "an enum": ('Column("order", ', 'Column("group", '),
    "indexed": (
        'Column("title", String(20), nullable=False',
        'Column("head", String(20), nullable=True',
        'Column("head", String(20), nullable=False',
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_what_is_said_of_a_renamed_column_works(
    cli_service: CliService, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    old_name, new_name = (re.findall(r'"(\w+)"', part)[0] for part in RENAMED[name][:2])
    table = "posts" if name == "indexed" else "users"
    before = rows(cli_service, table)
    cli_service.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][1]))
    text = cli_service.revision("second")
    advice = re.search(r"write (batch_op\.alter_column\(.*\)) in place", "\n".join(caplog.messages))
    assert advice
    head, _, rest = text.partition("def upgrade")
    up, _, down = rest.partition("def downgrade")
    lines = iter(up.splitlines())
    kept = []
    for line in lines:  # without the lines that add and drop, however they are broken
        if re.search(r"batch_op\.(add|drop)_column\(", line):
            while line.count("(") > line.count(")"):
                line += next(lines)
            if "add_column" in line:
                typed = ", existing_type=types.String(20)" if name == "with its type" else ""
                kept.append(f"        {advice[1][:-1]}{typed})")
            continue
        kept.append(line)
    up = "\n".join(kept)
    (cli_service.versions / "0002_second.py").write_text(f"{head}def upgrade{up}\n\n\ndef downgrade{down}")
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][-1]))
    assert cli_service.differences() == []
    the_checks_hold(cli_service)
    after = rows(cli_service, table)
    assert [row[new_name] for row in after] == [row[old_name] for row in before]


OTHER_KINDS = [("String(20)", "Integer()"), ("Integer()", "String(20)"), ("Timestamp()", "Date()"), ("Numeric(12, 2)", "Integer()"),
    ("Numeric(12, 2)", "Numeric(12, 1)"), ("Text()", "JSON()"), ("Boolean()", "Integer()"), ("Uuid()", "String(40)"), ("Integer()", "Float()")]  # fmt: skip


@only("sqlite")
@pytest.mark.parametrize("types", OTHER_KINDS, ids=" to ".join)
def test_a_column_of_another_kind_is_refused(cli_service: CliService, types: tuple[str, str]) -> None:
    cli_service.tables(f'a = owned(metadata, "a", Column("b", {types[0]}, nullable=True))')
    cli_service.revision()
    cli_service.tables(f'a = owned(metadata, "a", Column("b", {types[1]}, nullable=True))')
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == (
        f"a.b is {types[0]} and cannot become {types[1]}: add a column of another name, fill it, and drop a.b one revision later."
    )
    assert len(list(cli_service.versions.glob("*.py"))) == 1


SAME_KINDS = [("String(20)", "Text()"), ("Text()", "String(30)"), ("Integer()", "BigInteger()"), ("BigInteger()", "Integer()"),
    ("Integer()", "Numeric(12, 2)"), ("Numeric(12, 2)", "Numeric(24, 3)"), ("String(20)", 'Enum("example 0", "example 1", "example 2")')]  # fmt: skip


@pytest.mark.parametrize("types", SAME_KINDS, ids=" to ".join)
def test_a_column_of_the_same_kind_keeps_what_it_holds(
    cli_service: CliService, types: tuple[str, str]
) -> None:
    cli_service.tables(f'a = owned(metadata, "a", Column("b", {types[0]}, nullable=False))')
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    before = seen(cli_service)
    cli_service.tables(f'a = owned(metadata, "a", Column("b", {types[1]}, nullable=False))')
    cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert seen(cli_service) == before
    cli_service.migrate_to("0001_first")


@only("sqlite")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"email", String(20)', '"email", String(3)'), r"users\.email holds a value that String\(3\) does not take: must have at most 3 characters, has \d+"),
        (('"age", Integer()', '"age", Numeric(2, 2)'), r"users\.age holds a value that Numeric\(2, 2\) does not take: must have at most 0 digits before the point"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_said(
    cli_service: CliService, change: tuple[str, str], said: str
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    cli_service.tables(BEFORE.replace(*change))
    cli_service.revision()
    with pytest.raises(StartupError, match=rf"line \d+, the database said: {said}\.$"):
        cli_service.upgrade()


BECOMES_REQUIRED = {
    "a string": ('"nick", String(20), nullable=True', '"nick", String(20), nullable=False, default="it\'s %s \\\\\\\\ é"'),
    "a number": ('"age", Integer(), nullable=True', '"age", Integer(), nullable=False, default=7'),
    "a longer string": ('"nick", String(20), nullable=True', '"nick", String(40), nullable=False, default="' + "x" * 30 + '"'),
    "json": ('"settings", JSON(), nullable=True', '"settings", JSON(), nullable=False'),
    "an awkward name": ('"big", Numeric(18, 2), nullable=True', '"big", Numeric(20, 4), nullable=False, default="1.2345"'),
    "an enum with a new value": ('"order", Enum("a", "b"), nullable=True', '"order", Enum("a", "b", "c"), nullable=False'),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES_REQUIRED)
def test_a_column_that_becomes_required_is_filled_with_its_default(
    cli_service: CliService, name: str
) -> None:
    old, new = BECOMES_REQUIRED[name]
    before, after = BEFORE, BEFORE
    if name == "an enum with a new value":
        before = BEFORE.replace(
            'Enum("a", "b"), nullable=False, default="a"', 'Enum("a", "b"), nullable=True'
        )
        after = before
        new += ', default="c"'
    after = after.replace(old, new)
    assert after != before
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service, 4)
    original = rows(cli_service, "users")
    column = re.findall(r'"(\w+)"', old)[0]
    assert None in [row[column] for row in original]
    cli_service.tables(after)
    cli_service.revision("second")
    make_check_is_content(cli_service)
    cli_service.upgrade()
    assert cli_service.differences() == []
    default = cli_service.service.tables.tables["users"].c[column].info["default"]
    for new_row, old_row in zip(rows(cli_service, "users"), original, strict=True):
        assert new_row == {**old_row, column: default if old_row[column] is None else old_row[column]}
    the_checks_hold(cli_service)
    if name in ("a string", "a number", "json"):  # what is in there now fits into what was
        cli_service.migrate_to("0001_first")
        cli_service.tables(before)
        assert cli_service.differences() == []


def test_a_column_that_becomes_required_again_on_the_way_back_is_filled(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.tables(BEFORE.replace('"about", Text(), nullable=False', '"about", Text(), nullable=True'))
    cli_service.revision("second")
    cli_service.upgrade()
    fill(cli_service)
    cli_service.migrate_to("0001_first")
    assert [row["about"] for row in rows(cli_service, "users")][1] == "it's \\ é"


@only("sqlite")
@pytest.mark.filterwarnings("error")
def test_tables_that_refer_to_each_other_are_refused(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.upgrade()
    cli_service.tables(
        BEFORE.replace(
            'Column("age", ',
            'Column("post_id", BigInteger(), ForeignKey("posts.id"), nullable=True, index=True), Column("age", ',
        )
    )
    sentence = (
        "The foreign keys of posts and users go round, so that no table can come first: make one of them a plain "
        "BigInteger() column without a ForeignKey."
    )
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == sentence


@only("sqlite")
def test_a_foreign_key_to_nothing_is_refused(cli_service: CliService) -> None:
    cli_service.tables(POSTS)
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == "posts.user_id refers to users.id, which tables.py does not have."
