"""The read path: statements compiled once per engine, run on a bounded set of held `databases` connections.

Each slot holds one `databases` connection open, so a read costs neither a checkout nor a reset; readers wait in line
(first come, first served), and the slot of a connection that was cancelled, timed out or lost is given on when that
connection is gone: no slot is ever lost, and the server never has more connections than slots. `transaction()` and `iterate()` of `databases` are never used: they leak."""

import asyncio
import contextlib
import functools
import inspect
import logging
import typing
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

import sqlalchemy as sa
from databases import Database

from .engines.interface import Convert, Engine, Fault
from .errors import BadValue, NotFound, Unavailable
from .expressions import refuse_differences
from .schema import Page, Row
from .types import BigInteger, ColumnType, Integer

P = ParamSpec("P")
R = TypeVar("R", bound=Row)
Statement: TypeAlias = sa.Select[*tuple[Any, ...]]
"""What a function that `query` decorates answers: a SELECT of any columns."""
Encoder = tuple[str, Any, Callable[[Any], Any] | None, Callable[[Any], Any] | None]
logger = logging.getLogger(__name__)


class Query(Generic[P, R]):
    """A SELECT, its parameters `P` and the row `R` that it answers; `query` makes one. Compiled at its first use with an
    engine, then never again."""

    def __init__(
        self,
        row: type[R],
        statement: Statement,
        parameters: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        names = [column.key for column in statement.selected_columns]
        if tuple(names) != row.columns():
            raise TypeError(
                f"{row.__name__} has the columns {list(row.columns())}, the statement selects {names}"
            )
        refuse_differences(statement)
        self.row, self.statement = row, statement
        self.parameters, self.defaults = tuple(parameters), dict(defaults or {})
        self._compiled: dict[str, _Compiled] = {}

    def for_engine(self, engine: Engine) -> "_Compiled":
        return self._compiled.get(engine.name) or self._compiled.setdefault(
            engine.name, _Compiled(self.statement, self.defaults, engine)
        )

    def by_name(self, arguments: Sequence[Any], values: dict[str, Any]) -> dict[str, Any]:
        """The values of a call, by parameter. Raises TypeError for too many arguments, or for a name that comes twice."""
        named = dict(zip(self.parameters, arguments, strict=False))
        if len(arguments) > len(self.parameters) or named.keys() & values.keys():
            raise TypeError(
                f"the query takes {list(self.parameters)}, not {len(arguments)} arguments and {sorted(values)}"
            )
        return named | values


@overload
def query(row: type[R]) -> Callable[[Callable[P, Statement]], Query[P, R]]: ...
@overload
def query(row: type[R], statement: Statement) -> Query[..., R]: ...
def query(row: type[R], statement: Statement | None = None) -> Any:
    """A read that routes run: a statement that selects the columns of `row`, in its order.

    `@query(UserRow)` over a function that answers the statement: it runs once, here, with a placeholder for each of its
    parameters, so that no `if` can depend on one; the call `reads.one(user_by_id, id=5)` is checked against its signature.
    `query(UserRow, statement)` takes a statement whose parameters are `bindparam`s.

    Raises TypeError where the columns differ, or where the engines would not compute the statement alike."""
    return Query(row, statement) if statement is not None else functools.partial(_decorated, row)


def _decorated(row: type[R], function: Callable[P, Statement]) -> Query[P, R]:
    parameters = inspect.signature(function).parameters
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # of what is imported for type checkers only; in_() knows a list by itself
        hints = {}
    placeholders: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__name__}: write every parameter by its name, instead of *{name}")
        many = typing.get_origin(hints.get(name)) in (list, Sequence)
        placeholders[name] = sa.bindparam(name, expanding=many)
    signature = inspect.signature(function).bind(**placeholders)
    try:
        statement = function(*signature.args, **signature.kwargs)
    except TypeError as error:
        if "Boolean value of this clause" not in str(error):
            raise
        raise TypeError(
            f"{function.__name__}: its parameters are placeholders here and have no values; write one query for each case"
        ) from error
    used = {each.key for each in sa.sql.visitors.iterate(statement) if isinstance(each, sa.BindParameter)}
    if unused := parameters.keys() - used:
        raise TypeError(f"{function.__name__}: the statement does not use {', '.join(sorted(unused))}")
    defaults = {
        name: each.default for name, each in parameters.items() if each.default is not inspect.Parameter.empty
    }
    made: Query[P, R] = Query(row, statement, tuple(parameters), defaults)
    made.__doc__ = function.__doc__
    return made


class _Compiled:
    def __init__(self, statement: Statement, defaults: Mapping[str, Any], engine: Engine) -> None:
        compiled = statement.compile(dialect=engine.compiler())
        self.sql = str(compiled)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        self._encoders: list[Encoder] = []
        self.names: set[str] = set()
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            if bind.expanding:
                raise TypeError("an IN list has no fixed text: use several queries, or a join")
            if bind.required:
                self.names.add(bind.key)
            column_type = bind.type if isinstance(bind.type, ColumnType) else None
            encode = engine.to_driver(column_type) if column_type else None
            check = column_type.parameter if column_type else None
            self._encoders.append((bind.key, defaults.get(bind.key, bind.effective_value), check, encode))
        self._required = self.names - defaults.keys()
        decoders = ((i, _decoder(column, engine)) for i, column in enumerate(statement.selected_columns))
        self._decoders = [(i, decode) for i, decode in decoders if decode is not None]

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """The driver's arguments, in order. Raises TypeError for a missing or unknown name, BadValue for a bad value."""
        if values.keys() != self.names and not self._required <= values.keys() <= self.names:
            raise TypeError(f"the query takes {sorted(self.names)}, not {sorted(values)}")
        arguments = []
        for key, fixed, check, encode in self._encoders:
            value = values.get(key, fixed)
            if check is not None and value is not None:
                try:
                    value = check(value)  # MySQL would take 0 for equal to almost every string
                except ValueError as error:
                    raise BadValue(key, str(error)) from None
                if encode is not None:
                    value = encode(value)
            arguments.append(value)
        return arguments

    def rows(self, row: type[R], records: Sequence[Sequence[Any]]) -> list[R]:
        if not self._decoders:
            return [row(*record) for record in records]
        answer = []
        for record in records:
            values = list(record)
            for i, decode in self._decoders:
                if values[i] is not None:
                    values[i] = decode(values[i])
            answer.append(row(*values))
        return answer


def _decoder(column: sa.ColumnElement[Any], engine: Engine) -> Convert | None:
    """What makes the driver's value of a selected column the Python value; of what is computed, drivers answer whole
    numbers and truth in types of their own."""
    column_type = column.type
    decode = engine.from_driver(column_type) if isinstance(column_type, ColumnType) else None
    while isinstance(column, sa.Label):
        column = column.element
    if isinstance(column, sa.Column):
        return decode
    if isinstance(column_type, sa.Boolean):
        return bool
    if not isinstance(column_type, Integer | BigInteger | sa.Integer):
        return decode

    def whole(value: Any) -> int:
        value = decode(value) if decode else value
        if isinstance(value, float):  # SQLite's, of what 64 bits do not hold
            raise BadValue("a computed value", "is a whole number of more than 64 bits")
        return int(value)

    return whole


class _Slot:
    """One place in the pool: a `databases` connection, entered, or none yet."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.raw: Any = None
        self.opening: asyncio.Future[None] | None = None


class ReadPool:
    """Runs queries, at most `settings.reads` at a time. Used by routes as `reads: Reads`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.size = engine.settings.reads
        self._database = Database(engine.read_url(), **engine.read_options())
        self._waiting: deque[asyncio.Future[_Slot]] = deque()
        self._free = [_Slot() for _ in range(self.size)]
        self._renewing: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Make the pool usable and prove it with one connection. Raises the driver's exception; may be called again."""
        await self._database.connect()
        slot = self._free[-1]
        try:
            await self._open(slot)
            await self.engine.fetch(slot.raw, "SELECT 1", (), self.engine.limits.statement)
        except BaseException:
            await self._close(slot)
            raise

    async def stop(self) -> None:
        """Let the reads that run come to their end, then close every connection."""
        limits = self.engine.limits
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.statement + limits.connect):
                for _ in range(self.size):
                    slot = self._free.pop() if self._free else await self._turn(None)
                    await self._close(slot)
        with contextlib.suppress(TimeoutError):  # `databases` would wait for ever for a read that still runs
            async with asyncio.timeout(limits.connect):
                await self._database.disconnect()

    @property
    def in_use(self) -> int:
        """Slots that a read holds now."""
        return self.size - len(self._free)

    async def one(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The one row. Raises NotFound when there is none, RuntimeError when there are several."""
        rows = await self.all(query, *args, **kwargs)
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise RuntimeError(
                f"one() got several rows: {len(rows)} of {query.row.__name__}; select by what is unique, or use first()"
            )
        raise NotFound("There is no such row.")

    async def first(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The first row, or None."""
        rows = await self.all(query, *args, **kwargs)
        return rows[0] if rows else None

    async def all(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Every row of the answer: give the statement a limit."""
        compiled = query.for_engine(self.engine)
        values = query.by_name(args, kwargs) if args else kwargs
        records = await self._run(compiled.sql, compiled.arguments(values))
        return compiled.rows(query.row, records)

    async def page(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> Page[R]:
        """A page of a query whose parameter `limit` bounds it and whose first column is the key it is ordered by; `next`
        is the key to go on after, or None at the end. Raises TypeError for a query without `limit`."""
        values: dict[str, Any] = query.by_name(args, kwargs) if args else kwargs
        limit = values.get("limit", query.defaults.get("limit"))
        if not isinstance(limit, int):
            raise TypeError(
                "page() needs a query with a parameter `limit`, a whole number, which bounds its rows: .limit(limit)"
            )
        values["limit"] = limit + 1
        compiled = query.for_engine(self.engine)
        rows = compiled.rows(query.row, await self._run(compiled.sql, compiled.arguments(values)))
        if len(rows) <= limit:
            return Page(rows, None)
        del rows[limit:]
        return Page(rows, getattr(rows[-1], query.row.__struct_fields__[0]))

    async def plain(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of a fixed statement without parameters, as the driver gives them."""
        return await self._run(sql, ())

    async def healthy(self) -> bool:
        """Whether the database answers and its node takes work."""
        return self.engine.healthy(await self._run(self.engine.health_statement, ()))

    async def _run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Sequence[Any]]:
        slot = self._free.pop() if self._free else await self._turn(self.engine.limits.acquire)
        limit = self.engine.limits.statement
        fresh = slot.raw is None
        try:
            if fresh:
                await self._open(slot)
            try:
                rows = await self.engine.fetch(slot.raw, sql, arguments, limit)
            except Exception as error:
                # a held connection whose server went away while nobody looked: a read may simply be run again
                if fresh or isinstance(error, TimeoutError) or self.engine.fault(error) is not Fault.LOST:
                    raise
                await self._close(slot)
                await self._open(slot)
                rows = await self.engine.fetch(slot.raw, sql, arguments, limit)
        except BaseException as error:
            # whatever state the driver is in, the next reader gets a new connection
            task = asyncio.ensure_future(self._renew(slot))
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)
            if isinstance(error, Exception) and (problem := self._problem(error)) is not error:
                raise problem from error
            raise
        self._give_on(slot)
        return rows

    async def _turn(self, seconds: float | None) -> _Slot:
        """The next slot that comes free, first come, first served. Raises Unavailable after so long."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Slot] = loop.create_future()
        self._waiting.append(turn)
        patience = loop.call_later(seconds, _give_up, turn) if seconds is not None else None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_on(turn.result())  # it came in the same moment
            raise
        finally:
            if patience is not None:
                patience.cancel()

    def _give_on(self, slot: _Slot) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(slot)
                return
        self._free.append(slot)

    def _problem(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            return Unavailable("The database took too long to answer.")
        match self.engine.fault(error):
            case Fault.VALUE:
                return BadValue("a parameter", "does not fit its column")
            case Fault.OTHER | Fault.READ_ONLY:
                return error
            case fault:
                logger.warning("read failed: %s (%s)", fault.value, type(error).__name__)
                return Unavailable(
                    "The database does not answer."
                    if fault is not Fault.TIMEOUT
                    else "The database took too long to answer."
                )

    async def _open(self, slot: _Slot) -> None:
        # `databases` keeps one connection per task: a task of its own gives this slot one of its own
        async def enter() -> None:
            async with asyncio.timeout(self.engine.limits.connect):
                slot.connection = await self._database.connection().__aenter__()
                slot.raw = slot.connection.raw_connection
                await self.engine.open_reader(slot.raw)

        slot.opening = asyncio.ensure_future(enter())
        await asyncio.shield(slot.opening)  # who is cancelled here leaves nothing half open

    async def _renew(self, slot: _Slot) -> None:
        try:
            if slot.opening is not None:
                await asyncio.wait([slot.opening])
            await self._close(slot)
        finally:
            self._give_on(_Slot())

    async def _close(self, slot: _Slot) -> None:
        if slot.connection is not None:
            try:
                async with asyncio.timeout(self.engine.limits.connect):
                    await self.engine.abort_reader(slot.raw)
            except Exception as error:
                logger.warning("a read connection did not close cleanly: %s", type(error).__name__)
            try:
                async with asyncio.timeout(self.engine.limits.connect):
                    await slot.connection.__aexit__()
            except Exception as error:
                logger.warning("a read connection was not given back cleanly: %s", type(error).__name__)
        slot.connection = slot.raw = None


def _give_up(turn: "asyncio.Future[_Slot]") -> None:
    if not turn.done():
        turn.set_exception(Unavailable("Too many reads are waiting for a connection."))
