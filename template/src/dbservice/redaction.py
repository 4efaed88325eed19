"""What a log says of an error: its kind, place, statement and words, and no value, since a value may be a secret.

A word of an exception's text is shown if the program itself contains it (the functions of the traceback, the statement) or
if servers and Python use it in their own messages; every other word and number becomes `…`."""

import builtins
import os
import re
import traceback
from errno import errorcode
from types import CodeType, TracebackType

from .backends.interface import Backend

_ATTRIBUTE = "_dbservice_statement"


class FailedStatement:
    """A statement that failed, and what is known of the error. `sql` may hold values, and belongs into no log."""

    def __init__(self, backend: Backend, sql: str, error: BaseException) -> None:
        self.sql, self._quotes = sql, backend.string_quotes
        s = backend.settings
        hosts = f"{s.db_host},{s.db_read_host}".split(",")
        self._names = (s.db_name, s.db_user, *hosts, backend.schema)
        self.code, self.message = backend.error_details(error)
        self.kind, self.constraint = backend.classify_error(error), backend.constraint_name(error)

    @property
    def statement(self) -> str:
        """Its SQL, with `?` instead of each literal."""
        return redact_sql(self.sql, self._quotes)

    def known_words(self) -> set[str]:
        """The words that are no values."""
        return _words(self.statement, self.constraint, *self._names)

    def fields(self) -> dict[str, str]:
        """What a record of the log carries beside its message."""
        found = {
            "error_kind": self.kind.name.lower(),
            "error_code": self.code,
            "constraint": self.constraint,
            "statement": self.statement,
        }
        return {name: value for name, value in found.items() if value}


def remember_statement(error: BaseException, backend: Backend, sql: str) -> None:
    """Let the log know of the statement `sql` that raised `error`."""
    setattr(error, _ATTRIBUTE, FailedStatement(backend, sql, error))


def failed_statement(error: BaseException | None) -> FailedStatement | None:
    """The statement that raised `error` or one of its causes."""
    for _ in range(_DEPTH):
        if error is None:
            return None
        if found := getattr(error, _ATTRIBUTE, None):
            return found  # type: ignore[no-any-return]
        error = error.__cause__ or error.__context__
    return None


def log_fields(error: BaseException | None) -> dict[str, str]:
    """What a record of the log carries of the statement that raised `error` or one of its causes."""
    found = failed_statement(error)
    return found.fields() if found else {}


def redacted_exception(error: BaseException, depth: int = 8) -> Exception:
    """An exception of the same name, place and causes, whose text holds no value."""
    kind, text = type(error), redacted_text(error)
    about = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    copy: Exception
    if isinstance(error, BaseExceptionGroup):
        members = [redacted_exception(each, depth - 1) for each in error.exceptions[:_MOST]]
        copy = type(kind.__name__, (ExceptionGroup,), about)(text, members)
    else:
        copy = type(kind.__name__, (Exception,), about)(*filter(None, [text]))
    if depth > 0:
        copy.__cause__ = error.__cause__ and redacted_exception(error.__cause__, depth - 1)
        copy.__context__ = error.__context__ and redacted_exception(error.__context__, depth - 1)
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)


def describe(error: BaseException) -> str:
    """The name of an exception and its redacted text, in one line."""
    text = redacted_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def redacted_text(error: BaseException) -> str:
    """The text of `error` in one line, with `…` instead of what may be a value."""
    known = _words(*_code_words(error.__traceback__))
    if found := getattr(error, _ATTRIBUTE, None):
        text, code = found.message, f" [{found.code}]" if found.code else ""
        known |= found.known_words()
    else:
        text, code = _text(error), ""
    return (redact(text, known) + code).strip()


def redact(text: str, known: set[str]) -> str:
    """`text` in one line, with `…` instead of each word that is neither in `known` nor one of servers' and Python's own
    messages; between quotation marks only those in `known` count."""

    def replaced(found: re.Match[str]) -> str:
        quote, inside, word = found.groups()
        if word is not None:
            return word if word.lower() in known or word.lower() in _VOCABULARY else "…"
        if quote is None:  # the number of an error of the system
            return found[0]
        shown = all(each.lower() in known | _NEUTRAL for each in _WORD.findall(inside))
        return f"{quote}{inside if shown else '…'}{quote}"

    text = _QUOTED_OR_WORD.sub(replaced, " ".join(text.split())[:_LONGEST])
    return re.sub(r"…(?:[^\w\"'`…]*…)+", "…", text)


def redact_sql(sql: str, string_quotes: str = "'") -> str:
    """`sql` in one line, with `?` instead of each literal. `string_quotes` are the quotation marks of its strings."""

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        return name if name and name[0] not in string_quotes else "?"

    sql = " ".join(_LITERAL.sub(replaced, sql).split())
    return sql if len(sql) <= _LONGEST else f"{sql[:_LONGEST]}…"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of somebody else's may have a faulty __str__
        return ""


def _code_words(trace: TracebackType | None) -> list[str]:
    """Names, constant texts and types in the functions that the traceback went through."""
    words: list[str] = []
    for frame, _ in traceback.walk_tb(trace):
        code: CodeType = frame.f_code
        words += [*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars]
        words += [each for each in code.co_consts if isinstance(each, str)]
        used = [frame.f_globals[name] for name in code.co_names if name in frame.f_globals]
        words += [type(each).__name__ for each in (*used, *frame.f_locals.values())]
    return words


def _words(*texts: str) -> set[str]:
    return {word.lower() for text in texts for word in _WORD.findall(text) if not word.isdigit()}


_DEPTH = 16
_MOST = 20
_LONGEST = 1000
_WORD = re.compile(r"\w+")
_QUOTED_OR_WORD = re.compile(r"""\[Errno \d+\]|(?<!\w)(["'`])(.*?)\1(?!\w)|(\w+)""", re.DOTALL)
_LITERAL = re.compile(
    r"""
    \(current_setting\('dbservice\.secrets'\)::json->>\d+\)    # a value that PostgreSQL was sent before the statement
    | (?P<name>"(?:[^"]|"")*" | `(?:[^`]|``)*`)       # a name, or on MySQL a string
    | \b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)             # a string with backslashes
    | (?:\b[xXbBnN])?'(?:[^']|'')*(?:'|\Z)
    | \$(?P<tag>(?:[a-zA-Z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | /\*.*?(?:\*/|\Z) | --[^\n]*
    | (?<![\w$])(?:0[xX][0-9a-fA-F]+ | (?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)
    """,
    re.VERBOSE | re.DOTALL,
)
_TYPES = [name for name, value in vars(builtins).items() if isinstance(value, type)]
_NEUTRAL = _words("NoneType field list where clause on having order group statement", *_TYPES)
"""What Python and MySQL put between quotation marks beside names."""
_VOCABULARY = _words(
    *(os.strerror(number) for number in errorcode),
    *(name for name in vars(builtins)),
    """
    a after aggregate ago all already alter ambiguous an and any appear are argument arguments array as at attempt attribute
    authentication authorization away base be because been before being between bigint binary blob boolean by bytea cached call
    callable called can cannot case cast certificate char character check class clause client closed cluster code coerced
    collation column columns command commit concurrent conflicting conflicts connect connection connections constraint
    contains context conversion corresponds could create current cursor data database date datetime deadlock decimal default deferred
    defined definition delete denied depends did dimensions directory disabled disk division do does doesn done double
    duplicate during each either element empty encoding end engine entry errno error errors event exceeded exceeds exclusive exist exists
    expected expecting expression failed failure fatal few field fields file find for foreign format found from full function
    functions get given global got gone grant greatest group had has have host id identifier if implemented implicit import
    in incomplete incorrect index indexes input insert instance instead int integer interrupted into invalid is isn isolation
    it item items iterable iterator its join json jsonb key keys keyword language length level limit line list literal
    localhost lock locked log long longer lost malformed manual mariadb match max maximum memory message method mismatch missing mode
    module more most must mysql name named names near needs no non none nonetype not null number numeric object of offset
    on once one only open operand operands operation operator option or order other out outer packet parameter parameters
    parse part partition password permission permissions plan position positional prepared postgresql primary privilege privileges procedure
    protocol query range reached read readonly recursive reference referenced references relation release remaining repeated
    require required reserved reset result return returned returns right role roles rollback row rows run running savepoint schema
    second select sequence serializable serialize server session set shutdown shutting size slots smallint snapshot some
    space specified started state statement statements string sub subquery sqlite subscriptable support supported supports
    syntax system t table tables takes temporary terminating text than that the there this time timeout timestamp to token
    too transaction trigger tries trying tuple type types unable unclosed undefined unexpected unhandled unhashable unique unknown
    unpack unrecognized unsupported update uploaded use used user using uuid valid value values varchar varying version view
    violates waiting was were when where which while with within without would write wrong you your
    """,
)
"""The words of servers' and Python's messages."""
