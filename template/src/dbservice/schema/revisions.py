"""What a revision says of itself, as a name in its file."""

from types import ModuleType

BREAKS_OLDER_CODE = "breaks_older_code"
"""The name. `False`: the version before can run on the tables that the revision leaves. `True`: no older version can. The id of
an earlier revision: no version that is older than that one can."""

BREAKS_OLDER_CODE_COMMENT = "# True if no version before this one can run on the tables afterwards; or the oldest revision whose version can"
"""The line above it in each file."""


def oldest_code(revision: ModuleType) -> str | None:
    """The id of the oldest revision whose code can run after the module of a revision; None if any can. Without a word about
    it in the file, only the code of this one."""
    says = getattr(revision, BREAKS_OLDER_CODE, True)
    if isinstance(says, str):
        return says
    return str(vars(revision)["revision"]) if says else None
