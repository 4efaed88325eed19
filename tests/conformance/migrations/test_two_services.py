"""Two services in one database whose names begin alike: neither touches the tables that the other's migrations keep."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import Service, migrations
from dbservice.errors import StartupError

from ...cli_service import CliService
from .live_tables import names
from .written_revisions import write_revision

CREATE = 'op.create_table("{}", sa.Column("a", types.Integer()))'


@pytest.mark.engines("mysql", "mariadb")
@pytest.mark.parametrize("other_name", ["demo-half", "demo-journal"])
def test_the_journal_of_one_is_not_the_version_table_of_the_other(
    cli_service: CliService, other_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Service(other_name, sa.MetaData(), root=tmp_path / "other")
    (tmp_path / "other/migrations/versions").mkdir(parents=True)
    module: Any = ModuleType("other_service")
    module.service = other
    monkeypatch.setitem(sys.modules, "other_service", module)
    env = "from dbservice.migrations import run\nfrom other_service import service\n\nrun(service)\n"
    (tmp_path / "other/migrations/env.py").write_text(env)
    theirs = write_revision(cli_service, "0001", None, CREATE.format("theirs"))
    theirs.rename(tmp_path / "other/migrations/versions/0001.py")
    migrations.upgrade(other, cli_service.backend)

    write_revision(cli_service, "0001", None, CREATE.format("ours"), "1 / 0")
    with pytest.raises(StartupError, match="ZeroDivisionError"):
        cli_service.upgrade()
    assert migrations.current(other, cli_service.backend) == "0001"
    write_revision(cli_service, "0001", None, CREATE.format("ours"))
    cli_service.upgrade()
    assert migrations.current(other, cli_service.backend) == "0001"
    assert names(cli_service) == {"ours", "theirs", "alembic_version_demo", other.version_table}
