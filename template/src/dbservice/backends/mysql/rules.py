"""Which changes of a table let MySQL and MariaDB copy it, as far as a revision shows it. Where they differ, the stricter one."""

import re
from collections.abc import Sequence
from typing import Any

from ...schema.revisions import COPIES_TABLE
from ...types import JSON, Binary, Enum, String, Text
from ..online import ChangeRules

_CHANGE = re.compile(
    r"\s*(?:ALTER\s+TABLE|CREATE\s+(?:UNIQUE\s+)?INDEX|OPTIMIZE\s+TABLE|TRUNCATE|LOCK\s+TABLE)", re.IGNORECASE
)
_HARMLESS = re.compile(r"\bLOCK\s*=?\s*NONE\b|\bALGORITHM\s*=?\s*INSTANT\b", re.IGNORECASE)


class MySQLChangeRules(ChangeRules):
    copies_on_check = True

    def copies_on_type(self, old: Any, new: Any) -> bool:
        if isinstance(old, String | Enum) and isinstance(new, String | Enum):
            of_one_byte = [4 * each.length <= 255 for each in (old, new)]  # the length of a value
            return bool(new.length < old.length or of_one_byte[0] != of_one_byte[1])
        return repr(old) != repr(new)

    def copies_on_default(self, column: Any) -> bool:
        return isinstance(column, Text | JSON | Binary)  # its default is an expression

    def check_sql(self, statements: Sequence[str]) -> list[tuple[str, str]]:
        return [
            (
                COPIES_TABLE,
                f"runs `{' '.join(each.split())}` without LOCK=NONE, with which the server refuses to stop the writers",
            )
            for each in statements
            if _CHANGE.match(each) and not _HARMLESS.search(each)
        ]
