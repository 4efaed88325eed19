"""`make check` refuses a revision that stops the writers of a table, or breaks the version before, unless it says why it may."""

import pytest

from dbservice import migrations

from ...cli_service import CliService, CommandLine
from .live_tables import BEFORE, NOTES, make_check_is_content

pytestmark = pytest.mark.engines("sqlite")  # it asks no database

REVISION = """
import sqlalchemy as sa
from alembic import op

from dbservice import types

revision = "0002"
down_revision = "0001_first"
breaks_older_code = {breaks}
accepted = {accepted}


def upgrade() -> None:
    op.create_table("fresh", sa.Column("id", types.Id(), sa.Identity(), nullable=False))
    {body}


def downgrade() -> None:
    pass
"""

REFUSED: dict[str, tuple[str, dict[str, str]]] = {
    "a column is dropped": ('op.drop_column("users", "nick")', {"drops-what-is-read": "*"}),
    "a column is renamed": ('op.alter_column("users", "nick", new_column_name="alias")', {"drops-what-is-read": "*"}),
    "a table is dropped": ('op.drop_table("users")', {"drops-what-is-read": "*"}),
    "a table is renamed": ('op.rename_table("users", "people")', {"drops-what-is-read": "*"}),
    "a required column has no default": (
        'op.add_column("users", sa.Column("a", types.Integer(), nullable=False))',
        {"required-without-default": "*"},
    ),
    "a number becomes longer": (
        'op.alter_column("users", "age", existing_type=types.Integer(), type_=types.BigInteger())',
        {"copies-table": "postgresql mysql mariadb"},
    ),
    "a string becomes shorter": (
        'op.alter_column("users", "nick", existing_type=types.String(20), type_=types.String(10))',
        {"copies-table": "postgresql mysql mariadb"},
    ),
    "a string needs two bytes for its length": (
        'op.alter_column("users", "nick", existing_type=types.String(50), type_=types.String(80))',
        {"copies-table": "mysql mariadb"},
    ),
    "a CHECK is new": (
        'op.create_check_constraint("ck", "users", "age > 0")',
        {"copies-table": "mysql mariadb"},
    ),
    "an index written by hand": (
        'op.execute("CREATE INDEX ix ON users (nick)")',
        {"require-concurrent-index-creation": "postgresql", "copies-table": "mysql mariadb"},
    ),
    "a revision asks the database": ('op.get_bind().execute(sa.text("SELECT 1"))', {"not-checked": "*"}),
}  # fmt: skip

HARMLESS = [
    'op.create_index("ix", "users", ["nick"])',
    'op.create_unique_constraint("uq", "users", ["nick"])',
    'op.create_foreign_key("fk", "posts", "users", ["user_id"], ["id"])',
    'op.alter_column("users", "nick", existing_type=types.String(20), type_=types.String(30))',
    'op.alter_column("users", "nick", existing_type=types.String(20), nullable=False)',
    'op.add_column("users", sa.Column("a", types.Integer(), nullable=False, server_default="1"))',
    'op.execute("UPDATE users SET nick = NULL WHERE id = 1")',
    'op.create_check_constraint("ck", "fresh", "id > 0")',
    'op.drop_column("fresh", "id")',
]


def check(
    cli_service: CliService,
    body: str,
    engine: str,
    *,
    breaks: bool = False,
    accepted: dict[str, str] | None = None,
) -> list[str]:
    (cli_service.folder / "pyproject.toml").write_text(f'[tool.dbservice]\ndatabase = "{engine}"\n')
    text = REVISION.format(body=body, breaks=breaks, accepted=accepted or {})
    (cli_service.versions / "0002.py").write_text(text)
    return migrations.check_revisions(cli_service.service)


@pytest.fixture
def first(cli_service: CliService) -> CliService:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    return cli_service


@pytest.mark.parametrize("name", REFUSED)
def test_a_revision_is_refused_unless_it_says_why(first: CliService, name: str) -> None:
    body, rules = REFUSED[name]
    for engine in ("postgresql", "mysql", "mariadb"):
        broken = [rule for rule, engines in rules.items() if engine in engines or engines == "*"]
        lines = check(first, body, engine)
        assert len(lines) == len(broken), lines
        for rule, line in zip(broken, lines, strict=True):
            assert line.startswith("0002.py ") and f'accepted = {{"{rule}": "..."}}' in line
            assert check(first, body, engine, accepted={rule: "it has 20 rows"}) == []
    if "drops-what-is-read" in rules:  # then the version before does not start on it, and says so
        assert check(first, body, "postgresql", breaks=True) == []


def test_what_blocks_nobody_passes(first: CliService) -> None:
    for body in HARMLESS:
        for engine in ("postgresql", "mysql", "mariadb", "sqlite"):
            assert check(first, body, engine) == [], body


def test_the_writer_of_revisions_says_what_one_costs(
    first: CliService, run: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    (first.folder / "pyproject.toml").write_text('[tool.dbservice]\ndatabase = "mariadb"\n')
    assert run("check-revisions") == (0, "", "")
    first.tables(BEFORE.replace("age = Column(Integer()", "age = Column(BigInteger()") + NOTES)
    text = first.revision("second", again=True)
    said = "changes users.age from Integer() to BigInteger(), and the server copies the table, which stops its writers"
    assert said in " ".join(text.split('"""')[1].split()) and said in caplog.text
    make_check_is_content(first)
    code, out, _ = run("check-revisions")
    assert code == 1 and out.startswith(f"0002_second.py {said}. Write it in steps") and out.count("\n") == 1
    (first.versions / "0002_second.py").write_text(
        text.replace("\n\n\ndef upgrade", '\naccepted = {"copies-table": "small"}\n\n\ndef upgrade')
    )
    assert run("check-revisions") == (0, "", "")
