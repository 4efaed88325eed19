"""What a revision says of itself, as a name in its file."""

from collections.abc import Mapping, Sequence
from types import ModuleType

BREAKS_OLDER_CODE = "breaks_older_code"
"""The name. `False`: the version before can run on the tables that the revision leaves. `True`: no older version can. The id of
an earlier revision: no version that is older than that one can."""

BREAKS_OLDER_CODE_COMMENT = "# True if no version before this one can run on the tables afterwards; or the oldest revision whose version can"
"""The line above it in each file."""

ACCEPTED = "accepted"
"""The name: by rule of `make check`, why the revision may break it: `accepted = {"copies-table": "it has 200 rows"}`."""

KEEPS = "keeps"
"""The name: columns that `tables.py` does not have any more and a later revision drops, so that the version before can still
read and write them: `keeps = ["users.nick"]`."""

COPIES_TABLE = "copies-table"
"""The rule that no statement lets the server copy a table that is in use, which stops its writers."""

DROPS_WHAT_IS_READ = "drops-what-is-read"
"""The rule that a revision which drops or renames a table or a column does not say that older code can run on it."""

REQUIRED_WITHOUT_DEFAULT = "required-without-default"
"""The rule that a new column of a table that is in use is optional or has a default."""

NOT_CHECKED = "not-checked"
"""The rule that a revision can be checked without a database: it reads nothing from one."""


def oldest_code(revision: ModuleType) -> str | None:
    """The id of the oldest revision whose code can run after the module of a revision; None if any can. Without a word about
    it in the file, only the code of this one."""
    says = getattr(revision, BREAKS_OLDER_CODE, True)
    if isinstance(says, str):
        return says
    return str(vars(revision)["revision"]) if says else None


def accepted(revision: ModuleType) -> Mapping[str, str]:
    """What the module of a revision accepts, with the reasons."""
    found: Mapping[str, str] = getattr(revision, ACCEPTED, {})
    return found


def keeps(revision: ModuleType) -> Sequence[str]:
    """The columns that the module of a revision keeps for the version before, each as table.column."""
    found: Sequence[str] = getattr(revision, KEEPS, ())
    return found
