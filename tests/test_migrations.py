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
from dbservice.schema import MANAGED_COLUMNS
from dbservice.settings import Settings
from dbservice.testing import servers

from . import specimen
from .tiny import Tiny, engines_of, only


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "private_database" in metafunc.fixturenames:
        metafunc.parametrize("private_database", engines_of(metafunc), indirect=True)


@pytest.fixture
def tiny(private_database: servers.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    return Tiny(tmp_path / "tiny", private_database, monkeypatch)


@contextmanager
def connected(tiny: Tiny) -> Iterator[sa.Connection]:
    engine = tiny.engine.sqlalchemy()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def names(tiny: Tiny) -> set[str]:
    with connected(tiny) as connection:
        return set(sa.inspect(connection).get_table_names())


def fill(tiny: Tiny, count: int = 3) -> None:
    """Rows in every table, parents first; every second one has NULL where it may."""
    with connected(tiny) as connection:
        for table in tiny.service.tables.sorted_tables:
            for number in range(count):
                connection.execute(table.insert().values(row_of(table, number)))
        connection.commit()


def row_of(table: sa.Table, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        column_type: Any = column.type
        if column.name in MANAGED_COLUMNS[1:]:
            row[column.name] = column_type.from_json("2024-01-31T13:45:00.123456Z")
        elif column.foreign_keys:
            row[column.name] = None if column.nullable else number % 3 + 1
        elif column.name != "id":
            example = column_type.from_json(column_type.example(number))
            row[column.name] = None if column.nullable and number % 2 else example
    return row


def rows(tiny: Tiny, table: str) -> list[dict[str, Any]]:
    found = tiny.service.tables.tables[table]
    with connected(tiny) as connection:
        return [dict(row) for row in connection.execute(found.select().order_by(found.c.id)).mappings()]


def seen(tiny: Tiny) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(tiny, table) for table in tiny.service.tables.tables}


# --- up, down, up


def test_every_type_goes_up_down_and_up_again(tiny: Tiny) -> None:
    tiny.use(specimen.metadata)
    first = tiny.revise("create the tables")
    tiny.upgrade()
    assert tiny.differences() == []
    assert names(tiny) == {*specimen.metadata.tables, "alembic_version_tiny"}
    tiny.move("base")
    assert names(tiny) == {"alembic_version_tiny"}
    tiny.upgrade()
    assert tiny.differences() == []
    assert "text(" not in first and "VARCHAR" not in first and "schema=" not in first
    assert tiny.revise("nothing") == "" and len(list(tiny.versions.glob("*.py"))) == 1


def test_what_the_migrations_build_holds_what_tables_py_says(tiny: Tiny) -> None:
    """The same CHECKs, keys, defaults and orders as create_all makes."""
    tiny.use(specimen.metadata)
    tiny.revise()
    tiny.upgrade()
    with connected(tiny) as connection:
        migrated = shape(connection)
    tiny.move("base")
    with connected(tiny) as connection:
        specimen.metadata.create_all(connection)
        connection.commit()
        assert shape(connection) == migrated


def shape(connection: sa.Connection) -> Any:
    inspector = sa.inspect(connection)
    found = {}
    for table in specimen.metadata.tables:
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

ONE = 'class Users(Table, name="users"): email = Column(String(20), nullable=False, unique=True)\n'


def test_tables_of_others_are_neither_touched_nor_mentioned(tiny: Tiny) -> None:
    with connected(tiny) as connection:
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
    tiny.tables(ONE)
    assert "accounts" not in tiny.revise()
    tiny.upgrade()
    assert tiny.differences() == []
    assert names(tiny) == {
        "users",
        "alembic_version_tiny",
        "accounts",
        "alembic_version",
        "alembic_version_other",
    }
    tiny.move("base")
    assert tiny.differences() != []
    with connected(tiny) as connection:
        assert connection.exec_driver_sql("SELECT email FROM accounts").scalar() == "a@b"
        for table in ("alembic_version", "alembic_version_other"):
            assert connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar() == "theirs"
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version_tiny").scalar() == 0


# --- every change, on tables with rows

USERS = """
class Users(Table, name="users"):
    email = Column(String(20), nullable=False, unique=True)
    nick = Column(String(20), nullable=True)
    order = Column(Enum("a", "b"), nullable=False, default="a")
    balance = Column(Numeric(12, 2), nullable=False, default="1.5")
    big = Column(Numeric(18, 2), nullable=True)
    age = Column(Integer(), nullable=True)
    about = Column(Text(), nullable=False, default="it's \\\\ é")
    settings = Column(JSON(), nullable=True, default={"a": [1.5, None, "x'"]})
    since = Column(Timestamp(), nullable=False, default="2024-01-31T13:45:00.000001Z")
"""
POSTS = """
class Posts(Table, name="posts"):
    user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)
    parent_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=True, index=True)
    title = Column(String(20), nullable=False, index=True)
"""
NOTES = """
class Notes(Table, name="notes"):
    post_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=False, index=True)
    kind = Column(Enum("x", "y"), nullable=False, default="y")
"""
BEFORE = USERS + POSTS
CHANGES: dict[str, Any] = {
    "a new column with a default": (
        '    age = Column(',
        '    active = Column(Boolean(), nullable=False, default=True)\n    age = Column(',
    ),
    "a new column with a hard default": (
        '    age = Column(',
        '    key = Column(Text(), nullable=False, default="it\'s \\\\ %s é")\n    age = Column(',
    ),
    "a new column with a default of per cent": (
        '    age = Column(',
        '    rate = Column(String(20), nullable=False, default="100 %s")\n    age = Column(',
    ),
    "a new optional column": (
        '    age = Column(',
        '    limit = Column(JSON(), nullable=True)\n    age = Column(',
    ),
    "a new unique column": (
        '    age = Column(',
        '    token = Column(Uuid(), nullable=True, unique=True)\n    age = Column(',
    ),
    "a new enum column": (
        '    age = Column(',
        '    group = Column(Enum("x", "long value"), nullable=False, default="x")\n    age = Column(',
    ),
    "a new table with names that are too long": (
        "\nclass Posts",
        f'class T(Table, name="{"t" * 40}"): {"b" * 40} = Column(Enum("x", "y"), nullable=False, index=True);'
        f' {"c" * 40} = Column(BigInteger(), ForeignKey("users.id"), nullable=False, unique=True)\n\nclass Posts',
    ),
    "a new column that refers to itself": (
        '    age = Column(',
        '    boss_id = Column(BigInteger(), ForeignKey("users.id"), nullable=True, index=True)\n    age = Column(',
    ),
    "a new table": ("\nclass Posts", NOTES.replace("post", "user") + "\nclass Posts"),
    "a new table that an old one refers to": (
        '    title = Column(',
        '    topic_id = Column(BigInteger(), ForeignKey("topics.id"), nullable=True, index=True)\n    title = Column(',
        'class Topics(Table, name="topics"): name = Column(String(20), nullable=False)\n',
    ),
    "a dropped column": ('    age = Column(Integer(), nullable=True)\n', ""),
    "a dropped unique column": ('    email = Column(String(20), nullable=False, unique=True)\n', ""),
    "a dropped indexed column": ('    title = Column(String(20), nullable=False, index=True)\n', ""),
    "a dropped enum column": ('    order = Column(Enum("a", "b"), nullable=False, default="a")\n', ""),
    "a dropped foreign key column": (
        '    user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)\n',
        "",
    ),
    "a dropped table": (POSTS, ""),
    "two dropped tables": (BEFORE, 'class Other(Table, name="other"): x = Column(Integer(), nullable=True)\n'),
    "a dropped table that another refers to": (
        USERS + POSTS + "    user_id2 = Column(Integer(), nullable=True)\n",
        POSTS.replace(
            'user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)',
            'user_id2 = Column(Integer(), nullable=True)',
        ),
    ),
    "a new index": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, index=True)'),
    "a dropped index": (
        'title = Column(String(20), nullable=False, index=True)',
        'title = Column(String(20), nullable=False)',
    ),
    "a new unique key": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, unique=True)'),
    "a dropped unique key": (
        'email = Column(String(20), nullable=False, unique=True)',
        'email = Column(String(20), nullable=False)',
    ),
    "a longer string": ('email = Column(String(20)', 'email = Column(String(300)'),
    "a shorter string": ('email = Column(String(20)', 'email = Column(String(15)'),
    "a text instead of a string": ('nick = Column(String(20)', 'nick = Column(Text()'),
    "a column that becomes optional": ('email = Column(String(20), nullable=False', 'email = Column(String(20), nullable=True'),
    "a column with a default that becomes optional": (
        'about = Column(Text(), nullable=False',
        'about = Column(Text(), nullable=True',
    ),
    "a new enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "c"), '),
    "a new, longer enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "quite long"), '),
    "an enum instead of a string": (
        'order = Column(Enum("a", "b"), nullable=False, default="a")',
        'order = Column(String(10), nullable=False, default="a")',
    ),
    "another default": ('nullable=False, default="a"', 'nullable=False, default="b"'),
    "a dropped default": ('nullable=False, default="1.5"', "nullable=False"),
    "a new default": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, default="it\'s %")'),
    "another json default": ('default={"a": [1.5, None, "x\'"]}', 'default={"a": [True]}'),
    "more digits after the point": ("Numeric(12, 2)", "Numeric(14, 4)"),
    "more digits than SQLite has numbers for": ("Numeric(18, 2)", "Numeric(30, 2)"),
    "a bigint instead of an integer": ('age = Column(Integer()', 'age = Column(BigInteger()'),
    "a decimal instead of an integer": ('age = Column(Integer()', 'age = Column(Numeric(20, 3)'),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_becomes_a_revision_that_keeps_the_rows(tiny: Tiny, name: str) -> None:
    old, new, *more = CHANGES[name]
    before = old if old.startswith(USERS) else BEFORE
    after = "".join(more) + before.replace(old, new)
    assert before != after
    tiny.tables(before)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    original = seen(tiny)

    tiny.tables(after)
    # a table that is not in tables.py any more may be anybody's; servers write a default in their own words
    if name != "a dropped table" and (tiny.database.type == "sqlite" or not name.endswith("default")):
        assert tiny.differences() != []
    text = tiny.revise(name)
    assert text and not [word for word in ("VARCHAR", "sa.text", "sa.String", "schema=") if word in text]
    tiny.upgrade()
    assert tiny.differences() == [] and tiny.revise("nothing") == ""
    for table, found in seen(tiny).items():
        for new_row, old_row in zip(found, original.get(table, []), strict=table in original):
            both = new_row.keys() & old_row.keys()
            assert {key: new_row[key] for key in both} == {key: old_row[key] for key in both}
            default_of = {c.name: c.info.get("default") for c in tiny.service.tables.tables[table].columns}
            for key in new_row.keys() - old_row.keys():
                assert new_row[key] == default_of[key]
    the_checks_hold(tiny)
    if tiny.database.type == "sqlite":
        make_check_is_content(tiny)

    if "dropped" in name:  # what is gone does not come back, and a required column cannot be empty
        clear(tiny)
    tiny.move("0001")
    tiny.tables(before)
    assert tiny.differences() == []
    if "dropped" not in name:
        assert seen(tiny) == original
    the_checks_hold(tiny)


def make_check_is_content(tiny: Tiny) -> None:
    for words in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
        found = subprocess.run(command, capture_output=True, text=True, cwd=tiny.versions)
        assert found.returncode == 0, found.stdout


def clear(tiny: Tiny) -> None:
    with connected(tiny) as connection:
        for table in reversed(tiny.service.tables.sorted_tables):
            for column in table.columns:
                if any(key.column.table is table for key in column.foreign_keys):
                    connection.execute(table.update().values({column.name: None}))
            connection.execute(table.delete())
        connection.commit()


def the_checks_hold(tiny: Tiny) -> None:
    """Each enum column takes its values and no other, whoever writes."""
    for table in tiny.service.tables.sorted_tables:
        for column in table.columns:
            column_type: Any = column.type
            if type(column_type).__name__ != "Enum":
                continue
            with connected(tiny) as connection:
                name = tiny.engine.compiler().identifier_preparer.quote
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
    columns = "; ".join(
        f"c{i} = Column({TYPES[(i + shift) % len(TYPES)]}, nullable=True)" for i in range(len(TYPES))
    )
    return f'class Values(Table, name="values"): {columns}\n'


def test_every_other_type_is_seen(tiny: Tiny) -> None:
    with connected(tiny) as connection:
        tiny.tables(typed(0)).tables.create_all(connection)
        connection.commit()
    assert tiny.differences() == []
    missed = []
    for shift in range(1, len(TYPES)):
        tiny.tables(typed(shift))
        said = "\n".join(tiny.differences())
        for i in range(len(TYPES)):
            if f"c{i}" not in re.findall(r"c\d+", said):
                missed.append({TYPES[i], TYPES[(i + shift) % len(TYPES)]})
    same = {"Text()", "JSON()"}  # to MySQL and MariaDB both are LONGTEXT
    assert missed == ([same, same] if tiny.database.type == "mysql" else [])


def test_the_order_of_enum_values_means_nothing(tiny: Tiny) -> None:
    tiny.tables(BEFORE)
    tiny.revise()
    tiny.tables(BEFORE.replace('Enum("a", "b")', 'Enum("b", "a")'))
    assert tiny.revise() == ""


# --- the file of a revision


@only("sqlite")
def test_a_revision_is_right_without_ruff(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tiny.tables(BEFORE)
    assert "op.create_table('users'" in tiny.revise()
    tiny.upgrade()
    assert tiny.differences() == []


@only("sqlite")
def test_revisions_are_numbered_and_named_by_their_message(tiny: Tiny) -> None:
    messages = {
        'say "hi"\n\\ and é': "0001_say_hi_and_e",
        "": "0002",
        "日本": "0003",
        "x" * 99: "0004_" + "x" * 27,
    }
    for number, (message, revision) in enumerate(messages.items()):
        tiny.tables(ONE + ONE.replace("users", f"users{number}"))
        assert tiny.revise(message)
        assert (tiny.versions / f"{revision}.py").is_file()
    tiny.upgrade()
    assert migrations.reached(tiny.service, tiny.engine) == "0004_" + "x" * 27
    tiny.move("0002")
    assert migrations.reached(tiny.service, tiny.engine) == "0002"
    tiny.move("0003")
    tiny.move("head")
    assert migrations.reached(tiny.service, tiny.engine) == migrations.expected(tiny.service)


@only("sqlite")
@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            ")\n",
            "); phone = Column(String(9), nullable=False)\n",
            r"^users\.phone is required and has no default: .* one revision later\.$",
        ),
        (
            "email",
            "mail",
            r"^users\.mail is required and has no default: .* If it is users\.email renamed, ",
        ),
    ],
    ids=["new", "renamed"],
)
def test_a_required_column_without_a_default_is_refused(
    tiny: Tiny, before: str, after: str, sentence: str
) -> None:
    tiny.tables(ONE)
    tiny.revise()
    tiny.tables(ONE.replace(before, after))
    with pytest.raises(StartupError, match=sentence):
        tiny.revise()
    assert len(list(tiny.versions.glob("*.py"))) == 1


# --- what goes wrong is one sentence


@only("sqlite")
def test_two_revisions_that_both_come_last_are_named(tiny: Tiny) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    for name in ("here", "there"):
        text = (tiny.versions / "0001_first.py").read_text()
        text = text.replace('"0001_first"', f'"0002_{name}"').replace("= None", '= "0001_first"', 1)
        (tiny.versions / f"0002_{name}.py").write_text(text)
    works: list[Callable[[], Any]] = [tiny.upgrade, tiny.revise, lambda: migrations.expected(tiny.service)]
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
def test_a_revision_that_fails_is_one_sentence_and_leaves_nothing(tiny: Tiny, body: str) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    tiny.upgrade()
    (tiny.versions / "0002_broken.py").write_text(
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
    code, out, err = tiny.run("migrate")
    assert (code, out) == (1, "") and BROKEN[body] in err
    assert [line for line in err.splitlines() if "info" not in line] == err.splitlines()[-1:]
    (tiny.versions / "0002_broken.py").unlink()
    if tiny.database.type != "mysql" or "no Python" in body:  # whose DDL cannot be taken back
        assert names(tiny) == {"users", "alembic_version_tiny"}
    assert migrations.reached(tiny.service, tiny.engine) == "0001_first"


@pytest.mark.parametrize(
    "change",
    [
        ("age = Column(Integer(), nullable=True", "age = Column(Integer(), nullable=False"),
        ('Enum("a", "b")', 'Enum("a")'),
    ],
    ids=["null", "enum"],
)
def test_rows_that_stand_against_a_change_are_one_sentence(tiny: Tiny, change: tuple[str, str]) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    before = seen(tiny)
    tiny.tables(BEFORE.replace(*change))
    tiny.revise()
    pattern = r"^The migration stopped at 0002_change.py, line \d+, the database said: [^\n]+$"
    with pytest.raises(StartupError, match=pattern):
        tiny.upgrade()
    assert seen(tiny) == before and migrations.reached(tiny.service, tiny.engine) == "0001_first"


# --- one at a time


def test_two_at_once_take_turns(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tiny.use(specimen.metadata)
    tiny.revise()
    caplog.clear()
    with ThreadPoolExecutor(2) as both:
        with tiny.engine.lock("migrate tiny", 1):
            done = [both.submit(tiny.upgrade) for _ in range(2)]
            time.sleep(1.5)
            assert [each.done() for each in done] == [False, False] and names(tiny) == set()
        for each in done:
            each.result(timeout=60)
    assert len([line for line in caplog.messages if line.startswith("Running upgrade")]) == 1
    assert tiny.differences() == []


def test_two_processes_at_once_both_end_well(tiny: Tiny) -> None:
    tiny.use(specimen.metadata)
    tiny.revise()
    both = [tiny.start("migrate") for _ in range(2)]
    said = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sum("Running upgrade" in err for _, err in said) == 1


def test_a_lock_that_is_held_too_long_is_one_sentence(tiny: Tiny) -> None:
    tiny.options["limits"] = Limits(lock=1)
    tiny.tables(ONE)
    tiny.revise()
    with tiny.engine.lock("migrate tiny", 1), pytest.raises(StartupError) as caught:
        tiny.upgrade()
    assert str(caught.value) == "Another migration of tiny has held the lock for 1 seconds: wait for it."
    tiny.upgrade()


@only("postgresql", "mariadb", "mysql")  # a file is one service's
def test_another_service_does_not_wait(tiny: Tiny) -> None:
    tiny.options["limits"] = Limits(lock=1)
    tiny.tables(ONE)
    tiny.revise()
    with migrations._locked(Service("other", sa.MetaData(), root=tiny.folder), tiny.engine):
        tiny.upgrade()


def test_a_timeout_inside_a_migration_is_not_the_lock_s(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.tables(ONE)
    tiny.revise()

    def slow(*_: Any) -> None:
        raise TimeoutError("something else")

    monkeypatch.setattr("alembic.command.upgrade", slow)
    with pytest.raises(TimeoutError, match="something else"):
        tiny.upgrade()


@only("postgresql")
def test_a_table_in_use_does_not_make_everybody_wait(tiny: Tiny) -> None:
    tiny.tables(BEFORE)
    tiny.revise()
    tiny.upgrade()
    tiny.tables(BEFORE.replace("nick = Column(String(20)", "nick = Column(String(30)"))
    tiny.revise()
    with closing(tiny.database.connect()) as reader, closing(tiny.database.connect()) as second:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = threading.Thread(target=tiny.upgrade)
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
    assert tiny.differences() == []


@only("mysql", "mariadb")
def test_a_table_in_use_is_waited_for(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.upgrade()
    tiny.tables(BEFORE.replace("nick = Column(String(20)", "nick = Column(String(30)"))
    tiny.revise("second")
    with closing(tiny.database.connect()) as reader, ThreadPoolExecutor(1) as other:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = other.submit(tiny.upgrade)
        deadline = time.monotonic() + 20
        while "tried again" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.1)
        reader.rollback()
        migrating.result(timeout=20)
    assert "tried again: the tables are in use by others" in caplog.messages
    assert tiny.differences() == [] and "alembic_version_tiny_half" not in names(tiny)


@only("postgresql")
def test_a_schema_of_its_own_is_made(tiny: Tiny) -> None:
    tiny.options["schema"] = "their own"
    tiny.tables(ONE)
    tiny.revise()
    tiny.upgrade()
    assert tiny.differences() == []
    assert names(tiny) == {"users", "alembic_version_tiny"}
    with closing(tiny.database.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename IN ('users', 'alembic_version_tiny')"
        )
        assert cursor.fetchall() == [("their own",), ("their own",)]
    tiny.move("base")
    tiny.upgrade()


# --- SQLite, which alters a table by copying it


@only("sqlite")
def test_an_id_is_never_used_twice(tiny: Tiny) -> None:
    tiny.tables(ONE)
    tiny.revise()
    tiny.upgrade()
    fill(tiny, 5)
    with connected(tiny) as connection:
        connection.exec_driver_sql("DELETE FROM users WHERE id > 3")
        connection.commit()
    tiny.tables(ONE.replace("20", "30"))
    tiny.revise()
    tiny.upgrade()
    with connected(tiny) as connection:
        table = tiny.service.tables.tables["users"]
        made = connection.execute(table.insert().values(row_of(table, 9))).inserted_primary_key
        assert made is not None and made[0] == 6
        connection.execute(table.delete().where(table.c.id == 6))
        connection.commit()
    tiny.move("base")
    tiny.upgrade()
    fill(tiny, 1)
    assert rows(tiny, "users")[0]["id"] == 1


@only("sqlite")
def test_a_copied_table_keeps_what_others_say_of_it(tiny: Tiny) -> None:
    """Dropping a parent would delete its children, or be refused."""
    cascade = POSTS.replace('ForeignKey("users.id")', 'ForeignKey("users.id", ondelete="CASCADE")')
    tiny.tables(USERS + cascade)
    tiny.revise()
    tiny.upgrade()
    fill(tiny)
    before = rows(tiny, "posts")
    tiny.tables(USERS.replace("20", "30") + cascade)
    tiny.revise()
    tiny.upgrade()
    assert rows(tiny, "posts") == before
    with closing(tiny.engine.connect()) as connection:
        connection.execute("DELETE FROM users WHERE id = 1")
        assert connection.execute("SELECT count(*) FROM posts WHERE user_id = 1").fetchone() == (0,)


@only("sqlite")
def test_a_revision_that_breaks_a_foreign_key_is_refused(tiny: Tiny) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    (tiny.versions / "0002.py").write_text(
        """
from alembic import op

revision, down_revision = "0002", "0001_first"


def upgrade():
    op.execute("DELETE FROM users")
"""
    )
    with pytest.raises(StartupError, match="row 1 of posts names a row of users that is not there"):
        tiny.upgrade()
    assert len(rows(tiny, "users")) == 3


# --- MySQL, which takes back no DDL: a revision that stopped goes on where it stopped


def change_things(tiny: Tiny, *statements: str) -> None:
    with connected(tiny) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


@pytest.mark.parametrize(
    "way", ["an enum loses a value", "a unique after a new column", "a dropped column before"]
)
def test_a_revision_that_failed_goes_on_when_the_cause_is_mended(tiny: Tiny, way: str) -> None:
    change, mend = {
        "an enum loses a value": (('Enum("a", "b")', 'Enum("a")'), "UPDATE users SET {order} = 'a'"),
        "a unique after a new column": (
            (
                'about = Column(Text(), nullable=False, default="it\'s \\\\ é")',
                'about = Column(String(20), nullable=False, default="x", unique=True)\n    new = Column(Date(), nullable=True)',
            ),
            "UPDATE users SET about = email",
        ),
        "a dropped column before": (
            ('nullable=True)\n    order = Column(', 'nullable=True)\n    new = Column(Date(), nullable=True)\n    order = Column('),
            "DELETE FROM posts WHERE id > 1",
        ),
    }[way]  # fmt: skip
    before = (
        BEFORE.replace("about = Column(Text()", "about = Column(String(20)") if "unique" in way else BEFORE
    )
    after = BEFORE.replace(*change)
    assert after != BEFORE
    if "dropped" in way:  # in another table, whose revision comes first
        before = (
            BEFORE
            + 'class Archive(Table, name="archive"): x = Column(Integer(), nullable=True); y = Column(Integer(), nullable=True)\n'
        )
        after = (
            after + 'class Archive(Table, name="archive"): x = Column(Integer(), nullable=True)\n'
        ).replace(
            "title = Column(String(20), nullable=False, index=True",
            "title = Column(String(20), nullable=False, unique=True",
        )
    tiny.tables(before)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    if "unique" in way:
        change_things(tiny, "UPDATE users SET about = 'same'")
    if "dropped" in way:
        change_things(tiny, "UPDATE posts SET title = 'same'")
    tiny.tables(after)
    tiny.revise("second")
    for _ in range(2):
        with pytest.raises(StartupError, match="the database said") as caught:
            tiny.upgrade()
        goes_on = "stays done" in str(caught.value) and "goes on from there" in str(caught.value)
        assert goes_on == (tiny.database.type == "mysql"), caught.value
        assert migrations.reached(tiny.service, tiny.engine) == "0001_first"
    with connected(tiny) as connection:
        quote = connection.dialect.identifier_preparer.quote
    change_things(tiny, mend.format(order=quote("order")))
    tiny.upgrade()
    assert tiny.differences() == []
    the_checks_hold(tiny)
    assert not [name for name in names(tiny) if "half" in name]
    clear(tiny)
    tiny.move("base")
    tiny.upgrade()
    assert tiny.differences() == []


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


def write_revision(tiny: Tiny, revision: str, before: str | None, *body: str) -> None:
    text = REVISION.format(revision=revision, before=before, body="\n    ".join(body))
    (tiny.versions / f"{revision}.py").write_text(text)


def test_what_a_failed_revision_wrote_is_written_once(tiny: Tiny) -> None:
    write = 'op.execute("INSERT INTO half (a) VALUES (1)")'
    body = ['op.create_table("half", sa.Column("a", types.Integer()))', write, write]
    write_revision(
        tiny,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        write + " # two",
        "1 / 0",
    )
    for _ in range(2):
        with pytest.raises(StartupError, match="ZeroDivisionError: division by zero"):
            tiny.upgrade()
    # mended in the file: what was done is passed over, what is new is done
    write_revision(
        tiny,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        'op.execute("INSERT INTO half VALUES (2, 2)")',
    )
    tiny.upgrade()
    with connected(tiny) as connection:
        assert connection.exec_driver_sql("SELECT a, b FROM half ORDER BY a").fetchall() == [
            (1, None),
            (1, None),
            (2, 2),
        ]
    assert names(tiny) == {"half", "alembic_version_tiny"}


@only("mysql", "mariadb")
def test_what_no_revision_says_any_more_is_named(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    write_revision(tiny, "0001", None, "pass")
    tiny.upgrade()
    write_revision(tiny, "0002", "0001", 'op.create_table("half", sa.Column("a", types.Integer()))', "1 / 0")
    with pytest.raises(StartupError, match="ZeroDivisionError"):
        tiny.upgrade()
    (tiny.versions / "0002.py").unlink()
    caplog.clear()
    tiny.upgrade()
    assert caplog.messages == [
        "a revision stopped half-way and is not there any more: what it did stands in alembic_version_tiny_half"
    ]
    write_revision(tiny, "0002", "0001", 'op.create_table("whole", sa.Column("a", types.Integer()))')
    tiny.upgrade()
    said = [message for message in caplog.messages if "stays done" in message]
    assert len(said) == 1 and "CREATE TABLE `half`" in said[0] and "\n" not in said[0]
    assert names(tiny) == {"half", "whole", "alembic_version_tiny"}


def test_the_table_of_another_service_is_never_taken_for_ours(tiny: Tiny) -> None:
    change_things(tiny, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    tiny.tables(ONE)
    tiny.revise("first")
    for _ in range(3):
        with pytest.raises(StartupError, match=r"(?i)already exists"):
            tiny.upgrade()
    assert names(tiny) - {"alembic_version_tiny"} == {"users"}
    with connected(tiny) as connection:
        assert [each["name"] for each in sa.inspect(connection).get_columns("users")] == ["id"]


@only("mysql", "mariadb")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_migration_that_is_killed_goes_on(tiny: Tiny, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before or after a statement of which nobody can say whether it was done."""
    tiny.tables(BEFORE)
    tiny.revise("first")
    engine = tiny.engine
    made = engine.sqlalchemy()
    monkeypatch.setattr(engine, "sqlalchemy", lambda: made)

    def kill(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "INDEX `ix_posts_title`" in statement:
            cursor.connection._force_close()
            raise KeyboardInterrupt

    sa.event.listen(made, f"{moment}_cursor_execute", kill)
    with pytest.raises(KeyboardInterrupt):
        migrations.upgrade(tiny.service, engine)
    assert "posts" in names(tiny) and migrations.reached(tiny.service, tiny.engine) is None
    tiny.upgrade()
    assert tiny.differences() == []
    assert names(tiny) == {"users", "posts", "alembic_version_tiny"}


# --- what the version table says


def test_only_a_missing_version_table_means_that_there_are_no_tables(tiny: Tiny) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    assert checked(tiny) == "The database has no tables of tiny yet: run `make migrate` first."
    change_things(tiny, "CREATE TABLE alembic_version_tiny (something_else INTEGER)")
    assert re.fullmatch(
        r"Cannot read the table alembic_version_tiny, the database said: [^\n]*version_num[^\n]*: "
        r"let the account of DB_USER read it\.",
        checked(tiny),
    )


@only("postgresql", "mysql", "mariadb")
def test_an_account_that_may_not_read_the_version_table_is_told_so(
    tiny: Tiny, request: pytest.FixtureRequest
) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    tiny.upgrade()
    server = servers.find(request.node.callspec.params["private_database"])
    name, database = f"blind_{secrets.token_hex(5)}", tiny.database.name
    if tiny.database.type == "postgresql":
        server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'Blind-1-pw'")
        grants = (
            f'GRANT CONNECT ON DATABASE "{database}" TO {name}',
            f"GRANT USAGE ON SCHEMA public TO {name}",
            f"GRANT INSERT ON users TO {name}",
        )
        change_things(tiny, *grants)
    else:
        server.query(f"CREATE USER {name} IDENTIFIED BY 'Blind-1-pw'")
        server.query(f"GRANT INSERT ON `{database}`.users TO {name}")
    environ = {**tiny.environ, "DB_USER": name, "DB_PASS": "Blind-1-pw"}
    try:
        with pytest.raises(StartupError) as caught:
            startup.checked_revision(tiny.service, tiny.service.engine(Settings.load(environ)))
        assert re.fullmatch(
            r"Cannot read the table alembic_version_tiny, the database said: [^\n]* denied [^\n]*alembic_version_tiny[^\n]*:"
            r" let the account of DB_USER read it\.",
            str(caught.value),
        )
    finally:
        if tiny.database.type == "postgresql":
            change_things(
                tiny, *(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ") for grant in grants)
            )
        server.query(f"DROP {'ROLE' if tiny.database.type == 'postgresql' else 'USER'} {name}")


def checked(tiny: Tiny) -> str:
    with pytest.raises(StartupError) as caught:
        startup.checked_revision(tiny.service, tiny.engine)
    return str(caught.value)


@only("sqlite")
@pytest.mark.parametrize("to", ["base", "head", "0001_first", None])
def test_a_revision_that_the_code_does_not_know_is_one_sentence(tiny: Tiny, to: str | None) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    tiny.upgrade()
    change_things(tiny, "UPDATE alembic_version_tiny SET version_num = '0009_theirs'")
    code, out, err = tiny.run("migrate", *(["--to", to] if to else []))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "The database is at revision 0009_theirs, which this code does not know: deploy the code that it belongs to."
    )
    assert "Traceback" not in err


@only("sqlite")
@pytest.mark.parametrize("to", ["", "nonsense", "+7", "base:head", "0"])
def test_a_revision_that_there_is_not_is_one_sentence(tiny: Tiny, to: str) -> None:
    tiny.tables(ONE)
    tiny.revise("first")
    tiny.upgrade()
    tiny.tables(ONE.replace("20", "30"))
    tiny.revise("second")
    code, out, err = tiny.run("migrate", "--to", to)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1 and "Traceback" not in err, err


# --- what `make revision` says


@only("sqlite")
def test_what_a_revision_drops_is_said(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    tiny.tables(BEFORE + NOTES.replace("post", "user"))
    tiny.revise("first")
    caplog.clear()
    tiny.tables(
        BEFORE.replace("email = Column(String(20), nullable=False", "mail = Column(String(30), nullable=True")
        .replace("nick = Column(", "nickname = Column(")
        .replace("    big = Column(Numeric(18, 2), nullable=True)\n", "")
    )
    text = tiny.revise("second")
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
    make_check_is_content(tiny)


RENAMED = {
    "plain": ("nick = Column(String(20), nullable=True)", "nickname = Column(String(20), nullable=True)"),
    "with its type": (
        "nick = Column(String(20), nullable=True)",
        "nickname = Column(String(20), nullable=True)",
    ),
    "with a default": ("about = Column(", "story = Column("),
    "unique": (
        "email = Column(String(20), nullable=False, unique",
        "mail = Column(String(20), nullable=True, unique",
        "mail = Column(String(20), nullable=False, unique",
    ),
    "an enum": ("order = Column(", "group = Column("),
    "indexed": (
        "title = Column(String(20), nullable=False",
        "head = Column(String(20), nullable=True",
        "head = Column(String(20), nullable=False",
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_what_is_said_of_a_renamed_column_works(
    tiny: Tiny, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    old_name, new_name = (part.split(" = ")[0] for part in RENAMED[name][:2])
    table = "posts" if name == "indexed" else "users"
    before = rows(tiny, table)
    tiny.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][1]))
    text = tiny.revise("second")
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
    (tiny.versions / "0002_second.py").write_text(f"{head}def upgrade{up}\n\n\ndef downgrade{down}")
    tiny.upgrade()
    tiny.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][-1]))
    assert tiny.differences() == []
    the_checks_hold(tiny)
    after = rows(tiny, table)
    assert [row[new_name] for row in after] == [row[old_name] for row in before]


OTHER_KINDS = [("String(20)", "Integer()"), ("Integer()", "String(20)"), ("Timestamp()", "Date()"), ("Numeric(12, 2)", "Integer()"),
    ("Numeric(12, 2)", "Numeric(12, 1)"), ("Text()", "JSON()"), ("Boolean()", "Integer()"), ("Uuid()", "String(40)"), ("Integer()", "Float()")]  # fmt: skip


@only("sqlite")
@pytest.mark.parametrize("types", OTHER_KINDS, ids=" to ".join)
def test_a_column_of_another_kind_is_refused(tiny: Tiny, types: tuple[str, str]) -> None:
    tiny.tables(f'class A(Table, name="a"): b = Column({types[0]}, nullable=True)')
    tiny.revise()
    tiny.tables(f'class A(Table, name="a"): b = Column({types[1]}, nullable=True)')
    with pytest.raises(StartupError) as caught:
        tiny.revise()
    assert str(caught.value) == (
        f"a.b is {types[0]} and cannot become {types[1]}: add a column of another name, fill it, and drop a.b one revision later."
    )
    assert len(list(tiny.versions.glob("*.py"))) == 1


SAME_KINDS = [("String(20)", "Text()"), ("Text()", "String(30)"), ("Integer()", "BigInteger()"), ("BigInteger()", "Integer()"),
    ("Integer()", "Numeric(12, 2)"), ("Numeric(12, 2)", "Numeric(24, 3)"), ("String(20)", 'Enum("example 0", "example 1", "example 2")')]  # fmt: skip


@pytest.mark.parametrize("types", SAME_KINDS, ids=" to ".join)
def test_a_column_of_the_same_kind_keeps_what_it_holds(tiny: Tiny, types: tuple[str, str]) -> None:
    tiny.tables(f'class A(Table, name="a"): b = Column({types[0]}, nullable=False)')
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    before = seen(tiny)
    tiny.tables(f'class A(Table, name="a"): b = Column({types[1]}, nullable=False)')
    tiny.revise()
    tiny.upgrade()
    assert tiny.differences() == []
    assert seen(tiny) == before
    tiny.move("0001_first")


@only("sqlite")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('email = Column(String(20)', 'email = Column(String(3)'), r"users\.email holds a value that String\(3\) does not take: must have at most 3 characters, has \d+"),
        (('age = Column(Integer()', 'age = Column(Numeric(2, 2)'), r"users\.age holds a value that Numeric\(2, 2\) does not take: must have at most 0 digits before the point"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_said(tiny: Tiny, change: tuple[str, str], said: str) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny)
    tiny.tables(BEFORE.replace(*change))
    tiny.revise()
    with pytest.raises(StartupError, match=rf"line \d+, the database said: {said}\.$"):
        tiny.upgrade()


BECOMES_REQUIRED = {
    "a string": ('nick = Column(String(20), nullable=True', 'nick = Column(String(20), nullable=False, default="it\'s %s \\\\\\\\ é"'),
    "a number": ('age = Column(Integer(), nullable=True', 'age = Column(Integer(), nullable=False, default=7'),
    "a longer string": ('nick = Column(String(20), nullable=True', 'nick = Column(String(40), nullable=False, default="' + "x" * 30 + '"'),
    "json": ('settings = Column(JSON(), nullable=True', 'settings = Column(JSON(), nullable=False'),
    "an awkward name": ('big = Column(Numeric(18, 2), nullable=True', 'big = Column(Numeric(20, 4), nullable=False, default="1.2345"'),
    "an enum with a new value": ('order = Column(Enum("a", "b"), nullable=True', 'order = Column(Enum("a", "b", "c"), nullable=False'),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES_REQUIRED)
def test_a_column_that_becomes_required_is_filled_with_its_default(tiny: Tiny, name: str) -> None:
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
    tiny.tables(before)
    tiny.revise("first")
    tiny.upgrade()
    fill(tiny, 4)
    original = rows(tiny, "users")
    column = old.split(" = ")[0]
    assert None in [row[column] for row in original]
    tiny.tables(after)
    tiny.revise("second")
    make_check_is_content(tiny)
    tiny.upgrade()
    assert tiny.differences() == []
    default = tiny.service.tables.tables["users"].c[column].info["default"]
    for new_row, old_row in zip(rows(tiny, "users"), original, strict=True):
        assert new_row == {**old_row, column: default if old_row[column] is None else old_row[column]}
    the_checks_hold(tiny)
    if name in ("a string", "a number", "json"):  # what is in there now fits into what was
        tiny.move("0001_first")
        tiny.tables(before)
        assert tiny.differences() == []


def test_a_column_that_becomes_required_again_on_the_way_back_is_filled(tiny: Tiny) -> None:
    tiny.tables(BEFORE)
    tiny.revise("first")
    tiny.tables(
        BEFORE.replace("about = Column(Text(), nullable=False", "about = Column(Text(), nullable=True")
    )
    tiny.revise("second")
    tiny.upgrade()
    fill(tiny)
    tiny.move("0001_first")
    assert [row["about"] for row in rows(tiny, "users")][1] == "it's \\ é"


@only("sqlite")
@pytest.mark.filterwarnings("error")
def test_tables_that_refer_to_each_other_are_refused(tiny: Tiny) -> None:
    tiny.tables(BEFORE)
    tiny.revise()
    tiny.upgrade()
    tiny.tables(
        BEFORE.replace(
            "age = Column(",
            'post_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=True, index=True); age = Column(',
        )
    )
    sentence = (
        "The foreign keys of posts and users go round, so that no table can come first: make one of them a plain "
        "BigInteger() column without a ForeignKey."
    )
    with pytest.raises(StartupError) as caught:
        tiny.revise()
    assert str(caught.value) == sentence


@only("sqlite")
def test_a_foreign_key_to_nothing_is_refused(tiny: Tiny) -> None:
    tiny.tables(POSTS)
    with pytest.raises(StartupError) as caught:
        tiny.revise()
    assert str(caught.value) == "posts.user_id refers to users.id, which tables.py does not have."


# --- constraints of several columns, and tables without what most have

ARGUMENTS = """
class Users(Table, name="users"):
    nick = Column(String(20), nullable=True)
    team = Column(Integer(), index=True)
    balance = Column(Numeric(12, 2), default="0")
    kind = Column(Enum("a", "b"))
    class_ = Column(String(3), name="class")
    __table_args__ = (
        UniqueConstraint("nick", "team"), UniqueConstraint("nick", "class"), Index(None, "team", "nick"),
        CheckConstraint("balance >= 0", name="balance"), CheckConstraint("nick <> 'x'", name="nick"),
    )

class Roles(BareTable, name="roles", metadata=Table.__metadata__):
    user_id = Column(BigInteger(), ForeignKey("users.id"), primary_key=True)
    role = Column(String(20), primary_key=True)

class Tokens(Timestamps, BareTable, name="tokens", metadata=Table.__metadata__):
    id = Column(Uuid(), primary_key=True)
"""


def test_every_constraint_is_in_the_first_revision_and_is_no_difference(tiny: Tiny) -> None:
    table = tiny.tables(ARGUMENTS).tables.tables["users"]
    text = tiny.revise("first")
    every: list[Any] = [*table.constraints, *table.indexes]
    assert not [each.name for each in every if f'"{each.name}"' not in text]
    assert not re.search(r"\bclass_\b", text)  # what Python calls a column is no business of the database
    make_check_is_content(tiny)
    tiny.upgrade()
    assert tiny.differences() == []
    assert tiny.revise("second") == ""
    tiny.move("base")
    assert names(tiny) == {"alembic_version_tiny"}
