"""A migration that fails reports one sentence, and is rolled back where the engine can."""

from collections.abc import Callable
from typing import Any

import pytest

from dbservice import migrations
from dbservice.errors import StartupError

from ...cli_service import CliService, CommandLine
from .live_tables import BEFORE, ONE, fill, names, seen


@pytest.mark.engines("sqlite")
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
        with pytest.raises(StartupError, match="0002_here and 0002_there are both heads: set down_revision"):
            work()


BROKEN = {
    'op.execute("SELECT nonsense FROM nowhere")': "0002_broken.py, line 13: database error: ",
    "raise ValueError('what now')": "0002_broken.py, line 13: ValueError: what now.",
    "op.drop_table('users')\n    op.add_column('nowhere', sa.Column('a', types.Nonsense()))": (
        "0002_broken.py, line 14: AttributeError: "
    ),
    "this is no Python": "0002_broken.py, line 13: SyntaxError: ",
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_revision_that_fails_is_one_sentence_and_leaves_nothing(
    cli_service: CliService, run: CommandLine, body: str
) -> None:
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
    code, out, err = run("migrate")
    assert (code, out) == (1, "") and BROKEN[body] in err
    assert [line for line in err.splitlines() if "info" not in line] == err.splitlines()[-1:]
    (cli_service.versions / "0002_broken.py").unlink()
    if cli_service.database.type != "mysql" or "no Python" in body:  # whose DDL cannot be taken back
        assert names(cli_service) == {"users", "alembic_version_demo"}
    assert migrations.current(cli_service.service, cli_service.backend) == "0001_first"


@pytest.mark.parametrize(
    "change",
    [
        ("age = Column(Integer(), nullable=True", "age = Column(Integer(), nullable=False"),
        ('Enum("a", "b")', 'Enum("a")'),
    ],
    ids=["null", "enum"],
)
def test_rows_that_violate_a_change_are_one_sentence(
    cli_service: CliService, change: tuple[str, str]
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    before = seen(cli_service)
    cli_service.tables(BEFORE.replace(*change))
    cli_service.revision()
    pattern = r"^The migration failed at 0002_change.py, line \d+: database error: [^\n]+$"
    with pytest.raises(StartupError, match=pattern):
        cli_service.upgrade()
    assert (
        seen(cli_service) == before
        and migrations.current(cli_service.service, cli_service.backend) == "0001_first"
    )


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('email = Column(String(20)', 'email = Column(String(3)'), r"users\.email holds a value that String\(3\) cannot hold: must have at most 3 characters, has \d+"),
        (('age = Column(Integer()', 'age = Column(Numeric(2, 2)'), r"users\.age holds a value that Numeric\(2, 2\) cannot hold: must have at most 0 digits before the point"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_the_new_type_is_named(
    cli_service: CliService, change: tuple[str, str], said: str
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    cli_service.tables(BEFORE.replace(*change))
    cli_service.revision()
    with pytest.raises(StartupError, match=rf"line \d+: database error: {said}\.$"):
        cli_service.upgrade()
