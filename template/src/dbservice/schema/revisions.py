"""What a revision says of itself, as a name in its file."""

from types import ModuleType

BREAKS_OLDER_CODE = "breaks_older_code"
"""The name: `True` if code that was written for an earlier revision cannot run on the tables that it leaves."""

BREAKS_OLDER_CODE_COMMENT = "True: the version before this one does not start on it, and stops being ready"


def breaks_older_code(revision: ModuleType) -> bool:
    """Whether older code cannot run after the module of a revision; True if it does not say."""
    return bool(getattr(revision, BREAKS_OLDER_CODE, True))
