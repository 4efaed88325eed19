"""What a revision says of itself, as a name in its file."""

from collections.abc import Mapping
from types import ModuleType

BREAKS_OLDER_CODE = "breaks_older_code"
"""The name: `True` if code that was written for an earlier revision cannot run on the tables that it leaves."""

BREAKS_OLDER_CODE_COMMENT = "True: the version before this one does not start on it, and stops being ready"


def breaks_older_code(revision: ModuleType) -> bool:
    """Whether older code cannot run after the module of a revision; True if it does not say."""
    return bool(getattr(revision, BREAKS_OLDER_CODE, True))


ACCEPTED = "accepted"
"""The name: by rule of `make check`, why the revision may break it: `accepted = {"copies-table": "it has 200 rows"}`."""

COPIES_TABLE = "copies-table"
"""The rule that no statement lets the server copy a table that is in use, which stops its writers."""


def accepted(revision: ModuleType) -> Mapping[str, str]:
    """What the module of a revision accepts, with the reasons."""
    found: Mapping[str, str] = getattr(revision, ACCEPTED, {})
    return found
