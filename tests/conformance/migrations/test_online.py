"""A table in use is changed in a form that blocks its writers for no longer than a moment, or the change is refused."""

import threading
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import Limits, migrations
from dbservice.errors import StartupError

from ...cli_service import CliService
from ...faults import wait_until
from .live_tables import BEFORE, ONE, change_things, connected, fill, names
from .written_revisions import write_revision

ANY_SIZE = Limits(large_table=1)

CHANGES = {
    "an index": ("nick = Column(String(20), nullable=True", "nick = Column(String(20), nullable=True, index=True"),
    "a unique key": ("nick = Column(String(20), nullable=True", "nick = Column(String(20), nullable=True, unique=True"),
    "a foreign key": ("age = Column(Integer()", 'post_id = Column(BigInteger(), ForeignKey("users.id"), nullable=True); age = Column(Integer()'),
    "a required column": ("nick = Column(String(20), nullable=True", 'nick = Column(String(20), nullable=False, default="x"'),
    "a longer string": ("nick = Column(String(20)", "nick = Column(String(30)"),
    "a new column": ("age = Column(", 'kind = Column(String(9), nullable=False, default="x"); age = Column('),
}  # fmt: skip


@pytest.fixture
def statements(cli_service: CliService, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the migrations execute from now on that changes a table."""
    found: list[str] = []
    original = type(cli_service.backend.migrations).engine

    def engine(self: Any) -> sa.Engine:
        made = original(self)
        sa.event.listen(
            made, "before_cursor_execute", lambda *given: found.append(" ".join(given[2].split()))
        )
        return made

    monkeypatch.setattr(type(cli_service.backend.migrations), "engine", engine)
    return found


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_a_large_table_is_changed_in_place(cli_service: CliService, statements: list[str]) -> None:
    cli_service.options["limits"] = ANY_SIZE
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service, 4)
    change_things(cli_service, "UPDATE users SET nick = email")
    for old, new in CHANGES.values():
        statements.clear()
        cli_service.tables(BEFORE.replace(old, new))
        cli_service.revision("second")
        cli_service.upgrade()
        assert cli_service.differences() == [] and "alembic_journal_demo" not in names(cli_service)
        changed = [each for each in statements if each.startswith(("ALTER", "CREATE")) and "users" in each]
        if cli_service.database.type == "mysql":  # the server would refuse it if it had to stop the writers
            assert changed and all(each.endswith(" LOCK=NONE") for each in changed), changed
        else:
            plain = [
                each
                for each in changed
                if (("CREATE INDEX" in each or "UNIQUE" in each) and "CONCURRENTLY" not in each and "USING" not in each)
                or ("ADD CONSTRAINT" in each and "NOT VALID" not in each and "USING INDEX" not in each)
            ]  # fmt: skip
            assert changed and not plain, plain
        cli_service.migrate_to("0001_first")
        for path in cli_service.versions.glob("0002*"):
            path.unlink()


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_a_change_that_copies_a_large_table_is_refused_unless_accepted(cli_service: CliService) -> None:
    cli_service.options["limits"] = ANY_SIZE
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace("age = Column(Integer()", "age = Column(BigInteger()"))
    text = cli_service.revision("second")
    sentence = r"^`ALTER TABLE .*` lets the server copy users \(0 MB\), and nobody can (read or )?write .* in 0002_second\.py with"
    with pytest.raises(StartupError, match=sentence):
        cli_service.upgrade()
    assert migrations.current(cli_service.service, cli_service.backend) == "0001_first"
    mark = '\naccepted = {"copies-table": "it is small"}\n\n\ndef upgrade'
    (cli_service.versions / "0002_second.py").write_text(text.replace("\n\n\ndef upgrade", mark))
    cli_service.upgrade()
    assert cli_service.differences() == []


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_rows_that_refer_to_nothing_are_found(cli_service: CliService) -> None:
    before = BEFORE.replace('ForeignKey("users.id"), ', "")
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    change_things(cli_service, "UPDATE posts SET user_id = id", "UPDATE posts SET user_id = 99 WHERE id = 2")
    cli_service.tables(BEFORE)
    cli_service.revision("second")
    for _ in range(2):
        with pytest.raises(StartupError, match="fk_posts_user_id"):
            cli_service.upgrade()
        with connected(cli_service) as connection:  # nothing is left that refuses rows of the version before
            assert "fk_posts_user_id" not in [
                each["name"] for each in sa.inspect(connection).get_foreign_keys("posts")
            ]
    change_things(cli_service, "UPDATE posts SET user_id = 1 WHERE id = 2")
    cli_service.upgrade()
    assert cli_service.differences() == []


HELD = """CREATE FUNCTION held(a bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN IF a = 1 THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; RETURN true; END'"""


@pytest.mark.engines("postgresql")
@pytest.mark.parametrize(
    "body",
    [
        'op.create_index("ix", "users", [sa.text("held(id)")])',
        'op.create_check_constraint("ck", "users", "held(id)")',
    ],
)
def test_writers_go_on_while_a_statement_takes_its_time(cli_service: CliService, body: str) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    change_things(cli_service, HELD)
    write_revision(cli_service, "0002", "0001_first", body)
    with closing(cli_service.database.connect()) as holder, closing(cli_service.database.connect()) as writer:
        holder.cursor().execute("SELECT pg_advisory_lock(7)")
        holder.commit()
        migrating = threading.Thread(target=cli_service.upgrade)
        migrating.start()
        cursor = holder.cursor()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: (cursor.execute(waits), cursor.fetchone() == (1,), holder.commit())[1])
        other = writer.cursor()
        other.execute("SET lock_timeout = '5s'")
        other.execute("UPDATE users SET nick = 'written' WHERE id = 2")
        writer.commit()
        assert migrating.is_alive()
        cursor.execute("SELECT pg_advisory_unlock(7)")
        holder.commit()
        migrating.join(60)
    assert migrations.current(cli_service.service, cli_service.backend) == "0002"


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_a_column_is_filled_in_batches(
    cli_service: CliService, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbservice.backends.online._BATCH", 3)
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service, 7)
    cli_service.tables(
        BEFORE.replace(
            "nick = Column(String(20), nullable=True", 'nick = Column(String(20), nullable=False, default="x"'
        )
    )
    text = cli_service.revision("second")
    assert 'backfill("users", "nick", types.String(20).default("x"))' in text
    cli_service.upgrade()
    assert sum(each.startswith("UPDATE") and "nick" in each for each in statements) == 3
    assert cli_service.differences() == []


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_a_lock_that_is_never_free_is_one_sentence(cli_service: CliService) -> None:
    cli_service.options["limits"] = Limits(migration_lock=0.5)
    cli_service.variables["MIGRATE_LOCK_TIMEOUT"] = "0"
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(
        BEFORE.replace("age = Column(", "year = Column(Integer(), nullable=True); age = Column(")
    )
    cli_service.revision("second")
    with closing(cli_service.database.connect()) as reader:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        sentence = r"^The migration waited 0 seconds for tables that are in use, .*\)\.( The statements before it .*)?$"
        with pytest.raises(StartupError, match=sentence) as caught:
            cli_service.upgrade()
    told = cli_service.database.type == "postgresql"
    said = "uses users. Wait" if told else "does not tell this account which sessions"
    assert said in str(caught.value)
    cli_service.upgrade()
    assert cli_service.differences() == []


@pytest.mark.engines("sqlite")
def test_a_migration_waits_for_whoever_writes_to_the_file(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.options["limits"] = Limits(connect=0.1)
    cli_service.tables(BEFORE)
    cli_service.revision("second")
    with closing(cli_service.database.connect()) as writer:
        writer.execute("BEGIN IMMEDIATE")
        migrating = threading.Thread(target=cli_service.upgrade)
        migrating.start()
        migrating.join(0.5)
        assert migrating.is_alive()
        writer.rollback()
        migrating.join(60)
    assert cli_service.differences() == []


def revise(cli_service: CliService, message: str, tables: str, *edits: tuple[str, str]) -> None:
    """`make revision` for these tables, its file edited by hand, and `migrate`."""
    cli_service.tables(tables)
    text = cli_service.revision(message)
    for old, new in edits:
        assert old in text, text
        text = text.replace(old, new, 1)
    (path,) = cli_service.versions.glob(f"*_{message}.py")
    path.write_text(text)
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert migrations.check_revisions(cli_service.service) == []


def test_the_recipe_for_another_name_and_type_of_a_column(cli_service: CliService) -> None:
    (cli_service.folder / "pyproject.toml").write_text('[tool.dbservice]\ndatabase = "mysql"\n')
    one = 'class Users(Table, name="users"): nick = Column(String(20))'
    new = "nickname = Column(String(300)"
    revise(cli_service, "first", one)
    fill(cli_service)
    revise(cli_service, "add", f"{one}; {new}, nullable=True)")
    change_things(cli_service, "UPDATE users SET nickname = 'by the code' WHERE id = 1")
    revise(
        cli_service,
        "contract",
        f'class Users(Table, name="users"): {new}, nullable=True)',
        ("breaks_older_code = True", 'breaks_older_code = "0002_add"\nkeeps = ["users.nick"]'),
        (
            'batch_op.drop_column("nick")',
            'batch_op.alter_column("nick", existing_type=types.String(20), nullable=True)',
        ),
        ("\n\n\ndef downgrade", '\n    backfill("users", "nickname", sa.column("nick"))\n\n\ndef downgrade'),
        (
            "from dbservice import types\n",
            "from dbservice import types\nfrom dbservice.migrations import backfill\n",
        ),
    )
    with connected(cli_service) as connection:
        found = connection.exec_driver_sql("SELECT id, nickname = nick FROM users ORDER BY id").fetchall()
        assert [bool(same) for _, same in found] == [False] + [True] * (len(found) - 1)
    revise(
        cli_service,
        "drop",
        f'class Users(Table, name="users"): {new}, nullable=True)',
        ("= True", '= "0003_contract"'),
    )
    with connected(cli_service) as connection:
        assert "nick" not in [each["name"] for each in sa.inspect(connection).get_columns("users")]
