"""Which tables the revisions of a service make."""

from pathlib import Path

from dbservice.accounts.history import tables_of_revisions

REVISION = '''
"""Create table of nothing."""
def upgrade():
    op.create_table("first", sa.Column("id", sa.BigInteger()))
    op.rename_table("first", "second")
    op.execute("CREATE TABLE IF NOT EXISTS `third` (id int)")
    op.execute(sa.text("ALTER TABLE third RENAME TO fourth"))
    op.drop_table("fifth")
    op.execute("INSERT INTO x SELECT 1")
'''


def test_tables_of_revisions(tmp_path: Path) -> None:
    (tmp_path / "0001.py").write_text(REVISION)
    (tmp_path / "0002.py").write_text("op.create_table('sixth')\n")
    assert tables_of_revisions(tmp_path) == {"first", "second", "third", "fourth", "sixth"}
    assert tables_of_revisions(tmp_path / "missing") == set()
