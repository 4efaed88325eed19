"""SQL written by hand: one statement at a time, and literals for its placeholders."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_HOLE = r"%(?:\((?P<name>\w+)\)s|s|%|)"


class Lexer:
    """Finds what an engine reads as code: `skipped` matches its strings, quoted names and comments, `refused` what begins
    one that cannot be told apart for certain."""

    def __init__(self, skipped: str, refused: str) -> None:
        rest = f"(?P<skipped>{skipped})|(?P<refused>{refused})"
        self._ends = re.compile(f"{rest}|(?P<end>;)", re.VERBOSE | re.DOTALL)
        self._holes = re.compile(f"{rest}|(?P<hole>{_HOLE})", re.VERBOSE | re.DOTALL)

    def check_single(self, sql: str) -> None:
        """Raise TypeError unless `sql` is a single statement; a semicolon may end it."""
        for found in self._ends.finditer(sql):
            if found["refused"]:
                raise TypeError(
                    f"the SQL is not certain to be one statement, because of {found['refused']!r}: use placeholders for"
                    " values, and close every quotation mark and comment"
                )
            if found["end"] and sql[found.end() :].strip("; \t\r\n"):
                raise TypeError("send one statement at a time: this SQL goes on after a semicolon")

    def with_literals(self, sql: str, values: Any, literal: Callable[[Any], str]) -> str:
        """`sql` with literals instead of `%s` (`values` is a sequence) or `%(name)s` (a mapping), and `%` instead of `%%`.
        Raises TypeError when the two do not match."""
        check_placeholder_values(values)
        literals: Any = (
            {name: literal(value) for name, value in values.items()}
            if isinstance(values, Mapping)
            else [literal(value) for value in values]
        )
        position = 0

        def filled(found: re.Match[str]) -> str:
            nonlocal position
            text = found[0]
            if not found["hole"]:
                if re.search(r"%(?:s|\()", text.replace("%%", "")):
                    raise TypeError(f"a placeholder needs no quotation marks around it: {text}")
                return text.replace("%%", "%")
            if text == "%%":
                return "%"
            if text == "%":
                raise TypeError("write %% for a percent sign in SQL with placeholders")
            try:
                if found["name"] is not None:
                    return str(literals[found["name"]])
                position += 1
                return str(literals[position - 1])
            except (LookupError, TypeError):
                raise TypeError(f"there is no value for the placeholder {text}") from None

        filled_in = self._holes.sub(filled, sql)
        if isinstance(literals, list) and position != len(literals):
            raise TypeError(f"the SQL has {position} placeholders for {len(literals)} values")
        return filled_in


def check_placeholder_values(values: Any) -> None:
    """Raise TypeError unless `values` is a mapping, or a sequence that is no text."""
    if not isinstance(values, Mapping | Sequence) or isinstance(values, str | bytes | bytearray):
        raise TypeError("give the values of placeholders as a list, or as a dict by name")
