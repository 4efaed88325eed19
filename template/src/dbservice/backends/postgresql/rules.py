"""Which changes of a table let PostgreSQL copy it, as far as a revision shows it; SQL written by hand is squawk's to judge."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import StartupError
from ...types import Enum, Numeric, String, Text
from ..online import ChangeRules

_ABOUT_LOCKS = frozenset(
    {
        *(
            "adding-field-with-default",
            "adding-foreign-key-constraint",
            "adding-not-nullable-field",
            "adding-required-field",
        ),
        *(
            "adding-primary-key-constraint",
            "ban-alter-domain-with-add-constraint",
            "ban-concurrent-index-creation-in-transaction",
        ),
        *(
            "ban-drop-column",
            "ban-drop-table",
            "ban-drop-not-null",
            "ban-truncate-cascade",
            "changing-column-type",
        ),
        *(
            "constraint-missing-not-valid",
            "disallowed-unique-constraint",
            "renaming-column",
            "renaming-table",
        ),
        *("require-concurrent-index-creation", "require-concurrent-reindex", "syntax-error"),
    }
)
"""The rules of squawk that are about who must wait, or who breaks; others are about style."""


class PostgreSQLChangeRules(ChangeRules):
    def copies_on_type(self, old: Any, new: Any) -> bool:
        if isinstance(old, String | Enum) and isinstance(new, String | Enum):
            return bool(old.length > new.length)
        if isinstance(old, Numeric) and isinstance(new, Numeric):
            return bool(old.scale != new.scale or old.precision > new.precision)
        return not isinstance(old, String | Enum | Text) if isinstance(new, Text) else repr(old) != repr(new)

    def check_sql(self, statements: Sequence[str]) -> list[tuple[str, str]]:
        if not statements:
            return []
        program = Path(sys.executable).with_name("squawk")
        if not program.exists():
            raise StartupError(
                "squawk, which checks SQL written by hand, is not installed: `make check` does it, from requirements-dev.txt."
            )
        text = "".join(f"{each.strip().rstrip(';')};\n" for each in statements)
        found = subprocess.run(
            [program, "--reporter", "json", "--assume-in-transaction"],
            input=text,
            capture_output=True,
            text=True,
        )
        lines = text.splitlines()
        return [
            (
                each["rule_name"],
                f"runs `{lines[each['line']].strip()}`: {each['message']} {each['help'] or ''}".strip().rstrip(
                    "."
                ),
            )
            for each in json.loads(found.stdout or "[]")
            if each["rule_name"] in _ABOUT_LOCKS
        ]


RULES = PostgreSQLChangeRules()
