"""SQLite alters a table by copying it: what must survive that."""

from contextlib import closing

import pytest

from dbservice.errors import StartupError

from ...cli_service import CliService
from .live_tables import BEFORE, ONE, POSTS, USERS, connected, fill, row_of, rows


@pytest.mark.engines("sqlite")
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


@pytest.mark.engines("sqlite")
def test_a_copied_table_keeps_the_rows_that_refer_to_it(cli_service: CliService) -> None:
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


@pytest.mark.engines("sqlite")
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
    with pytest.raises(StartupError, match="row 1 of posts refers to a row of users that does not exist"):
        cli_service.upgrade()
    assert len(rows(cli_service, "users")) == 3
