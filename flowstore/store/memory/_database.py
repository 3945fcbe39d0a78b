"""Committed rows and transactions over them, isolated as PostgreSQL's READ COMMITTED does it."""

import math
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, Protocol, cast

import attrs
import trio

from flowstore.errors import DatabaseUnavailableError, SchemaError
from flowstore.store._incoming import StreamKey
from flowstore.store._options import StoreOptions
from flowstore.store._signals import Signals
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._event_index import EventIndex
from flowstore.store.memory._row_locks import Place, RowLocks
from flowstore.store.memory._rows import EVENTS, K, Rows, StoredEvent, V
from flowstore.store.memory._steps import Pause

__all__ = ["Lease", "MemoryDatabase", "Transaction", "View"]

_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _no_connection() -> NoReturn:
    raise NotInMemoryError("there is no database here to be notified")


class View(Protocol):
    """Rows as somebody sees them: committed ones, or with a transaction's own over them."""

    def get(self, rows: Rows[K, V], key: K) -> V | None:
        """Give a row; None if there is none."""
        ...

    def scan(self, rows: Rows[K, V]) -> list[tuple[K, V]]:
        """Give all rows of a table with their keys."""
        ...

    def stream(self, stream: StreamKey) -> list[StoredEvent]:
        """Give a stream's events in version order."""
        ...

    async def round_trip(self) -> None:
        """Go to the database and back, before a look at what is there."""
        ...


class MemoryDatabase:
    """Hold what one or several `MemoryStore`s keep, as PostgreSQL would.

    Every transaction sees what is committed at each of its reads, and its own writes over that;
    rows it writes are locked until it ends; its sequence numbers are gone if it is rolled back.

    Args:
        beginning: what its clock shows when it is first asked; from then on the clock goes with
            trio's, which a test may stop, or let jump.
    """

    def __init__(self, beginning: datetime = _BEGINNING) -> None:
        self.locks = RowLocks()
        self.leases: dict[str, Lease] = {}
        self._identity = ""
        self.position = 0
        self.signals = Signals("memory", "memory", _no_connection)
        self._tables: dict[str, dict[Any, Any]] = {}
        self._index = EventIndex()
        self._open: dict[int, Transaction] = {}
        self._begun = 0
        self._latest = self._since = beginning
        self._run: Any = None
        self._origin = 0.0

    def adopt(self, options: StoreOptions) -> None:
        """Let a store in; the first one says what streams are known by.

        Raises:
            SchemaError: streams are known otherwise here.
        """
        self._identity = self._identity or options.stream_identity
        if self._identity != options.stream_identity:
            raise SchemaError(
                f"this database knows streams by stream_identity={self._identity!r}, and these"
                f" options say {options.stream_identity!r}: use another database"
            )

    def now(self) -> datetime:
        """Tell the time; it goes on from where it stood when a new event loop asks."""
        run, seconds = trio.lowlevel.current_trio_token(), trio.current_time()
        if run is not self._run:
            self._run, self._origin, self._since = run, seconds, self._latest
        self._latest = self._since + timedelta(seconds=seconds - self._origin)
        return self._latest

    # -- reading -----------------------------------------------------------------------------

    def get(self, rows: Rows[K, V], key: K) -> V | None:
        """Give a committed row."""
        return cast("V | None", self._table(rows).get(key))

    def scan(self, rows: Rows[K, V]) -> list[tuple[K, V]]:
        """Give a table's committed rows."""
        return list(cast("dict[K, V]", self._table(rows)).items())

    def stream(self, stream: StreamKey) -> list[StoredEvent]:
        """Give a stream's committed events in version order."""
        events = self._table(EVENTS)
        return [events[sequence] for sequence in self._index.of(stream)]

    def between(self, floor: int, mark: int) -> Iterator[StoredEvent]:
        """Yield the committed events of (floor, mark] in the order of their sequence."""
        events = self._table(EVENTS)
        return (events[sequence] for sequence in self._index.between(floor, mark))

    def highest(self) -> int:
        """Give the highest committed sequence; 0 if there is none."""
        return self._index.highest()

    def bound(self) -> int | None:
        """Give the lowest number that an open transaction has published; None if none has."""
        bounds = [each.bound for each in self._open.values() if each.bound is not None]
        return min(bounds, default=None)

    def open_transactions(self) -> "list[Transaction]":
        """List the transactions that are under way, the oldest first."""
        return list(self._open.values())

    def _table(self, rows: Rows[Any, Any]) -> dict[Any, Any]:
        return self._tables.setdefault(rows.name, {})

    # -- transactions ------------------------------------------------------------------------

    def begin(self) -> "Transaction":
        """Begin a transaction; whoever does sees to its end."""
        self._begun += 1
        begun = Transaction(self, self._begun, trio.current_time())
        self._open[begun.number] = begun
        return begun

    async def round_trip(self) -> None:
        """Go to the database and back, before each look at what is committed and each BEGIN.

        It takes no time here. A subclass may let it take some, or fail.
        """
        await trio.lowlevel.checkpoint()

    async def commit(self, transaction: "Transaction", pause: Pause) -> None:
        """Make everything visible at once; from then on no cancellation stops it."""
        await pause("before commit")
        transaction.commit()
        with trio.CancelScope(shield=True):
            await pause("committed")

    @asynccontextmanager
    async def transaction(self, pause: Pause) -> "AsyncGenerator[Transaction]":
        """Run a transaction around the block: committed at its end, rolled back by an error."""
        await self.round_trip()
        begun = self.begin()
        try:
            yield begun
            await self.commit(begun, pause)
        finally:
            begun.rollback()

    def end(self, transaction: "Transaction", written: dict[Place, Any]) -> None:
        """Take a transaction's writes over, and forget it."""
        del self._open[transaction.number]
        for (table, key), value in written.items():
            rows = self._tables.setdefault(table, {})
            if table == EVENTS.name:
                self._index.replace(cast("int", key), rows.get(key), value)
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value


@attrs.define(eq=False)
class Transaction:
    """Gather writes that nobody else sees, and hold the locks that they need.

    Attributes:
        database: what it is a transaction of.
        number: how many began before it, and itself.
        begun: when, by trio's clock.
        bound: what it published before it drew its first number: all of them are above that.
        commits: the claimed shard that it commits a page of; None for none.
        is_over: whether it was committed or rolled back.
    """

    database: MemoryDatabase
    number: int
    begun: float
    bound: int | None = None
    commits: str | None = attrs.field(default=None, init=False)
    is_over: bool = attrs.field(default=False, init=False)
    _written: dict[Place, Any] = attrs.field(factory=dict[Place, Any], init=False)
    # A dict for its order: who waited goes on in an order that can be repeated.
    _held: dict[Place, None] = attrs.field(factory=dict[Place, None], init=False)
    _is_terminated: bool = attrs.field(default=False, init=False)

    # -- reading -----------------------------------------------------------------------------

    def get(self, rows: Rows[K, V], key: K) -> V | None:
        """Give a row as this transaction sees it now."""
        place = (rows.name, key)
        return self._written[place] if place in self._written else self.database.get(rows, key)

    def scan(self, rows: Rows[K, V]) -> list[tuple[K, V]]:
        """Give a table's rows as this transaction sees them now."""
        found = dict(self.database.scan(rows))
        for (table, key), value in self._written.items():
            if table == rows.name:
                found[cast("Any", key)] = value
        return [(key, value) for key, value in found.items() if cast("Any", value) is not None]

    def stream(self, stream: StreamKey) -> list[StoredEvent]:
        """Give a stream's events as this transaction sees them now."""
        found: dict[int, StoredEvent | None] = {
            event.sequence: event for event in self.database.stream(stream)
        }
        for (table, key), event in self._written.items():
            if table == EVENTS.name and (key in found or (event and event.stream == stream)):
                found[cast("int", key)] = event
        return [event for _, event in sorted(found.items()) if event is not None]

    async def round_trip(self) -> None:
        """Go to the database and back.

        Raises:
            DatabaseUnavailableError: the transaction was terminated.
        """
        await self.database.round_trip()
        self._refuse_terminated()

    # -- writing -----------------------------------------------------------------------------

    async def lock(self, rows: Rows[K, Any], key: K, seconds: float = math.inf) -> None:
        """Keep everybody else from writing a row until this transaction ends.

        Raises:
            LockedOutError: it took too long, or would take for ever.
            DatabaseUnavailableError: the transaction was terminated, before or meanwhile.
        """
        self._refuse_terminated()
        place = (rows.name, key)
        await self.database.locks.take(self, place, seconds)
        self._refuse_terminated()
        self._held[place] = None

    def put(self, rows: Rows[K, V], key: K, value: V) -> None:
        """Write a row, which is locked."""
        self._written[rows.name, key] = value

    def delete(self, rows: Rows[K, Any], key: K) -> None:
        """Delete a row, which is locked."""
        self._written[rows.name, key] = None

    def draw(self) -> int:
        """Draw the next sequence number, having published a bound before the first."""
        if self.bound is None:
            self.bound = self.database.position
        self.database.position += 1
        return self.database.position

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Undo what the block did, if it fails: writes, locks and the bound."""
        written, held, bound = dict(self._written), dict(self._held), self.bound
        try:
            yield
        except BaseException:
            self._written, self.bound = written, bound
            self._release(place for place in tuple(self._held) if place not in held)
            raise

    # -- ending ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make what was written visible, then let the locks go.

        Raises:
            DatabaseUnavailableError: the transaction was terminated.
        """
        self._refuse_terminated()
        self._end(self._written)

    def rollback(self) -> None:
        """Forget what was written; nothing if the transaction is over."""
        if not self.is_over:
            self._end({})

    def terminate(self) -> None:
        """Roll back as a server does that loses or ends the connection: all else is refused."""
        if not self.is_over:
            self._is_terminated = True
            self.rollback()
            # Also what it waits for, and what it was handed while its task hasn't gone on yet.
            self.database.locks.forget(self)

    def _refuse_terminated(self) -> None:
        if self._is_terminated:
            raise DatabaseUnavailableError(
                "terminating connection: the transaction was rolled back", sqlstate="57P01"
            )

    def _end(self, written: dict[Place, Any]) -> None:
        self.is_over = True
        self.database.end(self, written)
        self._release(tuple(self._held))

    def _release(self, places: Any) -> None:
        for place in places:
            del self._held[place]
            self.database.locks.release(self, place)


@attrs.frozen
class Lease:
    """Hold who runs a shard.

    Attributes:
        connection: of whoever has the lease; once that is over, nobody has it.
        renewed: when that one last said so.
    """

    connection: Transaction
    renewed: datetime
