"""Revisions written by hand, for what `make revision` never writes: they wait for the test, take long, fail."""

from pathlib import Path

from ...cli_service import CliService

_REVISION = """
import time
from pathlib import Path

import sqlalchemy as sa
from alembic import op

from dbservice import types

revision = {revision!r}
down_revision = {before!r}


def wait_for_test():
    Path(__file__).with_suffix(".reached").touch()
    while not Path(__file__).with_suffix(".go").exists():
        time.sleep(0.02)


def upgrade() -> None:
    {body}


def downgrade() -> None:
    pass
"""


def write_revision(cli_service: CliService, revision: str, before: str | None, *body: str) -> Path:
    """Write a revision whose upgrade runs these lines. `wait_for_test()` among them creates a file that ends in
    `.reached` instead of `.py`, and waits for one that ends in `.go`. The revision's file."""
    path = cli_service.versions / f"{revision}.py"
    path.write_text(_REVISION.format(revision=revision, before=before, body="\n    ".join(body)))
    return path
