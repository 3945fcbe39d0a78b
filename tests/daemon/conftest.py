"""A store in a schema of the test's own, and a projection that writes down what it was handed."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

import attrs
import pytest
import trio

from flowstore.daemon import Store, open_store
from flowstore.events import in_sequence
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions

PATIENCE = 60
"""Seconds after which something that a test waits for isn't going to happen."""


@attrs.define(eq=False)
class Recorder:
    """Writes a row for each event, in the transaction of its progress.

    The table has no key: an effect that happened twice is there twice. What `apply` was called
    with, rolled back or not, is in `calls`.
    """

    table: str
    consumes: tuple[type, ...] = ()
    name: str = "recorder"
    produces: type | None = None
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    fails: Callable = lambda event: False
    before: Callable | None = None
    calls: list[list[int]] = attrs.field(factory=list)

    async def apply(self, session, streams):
        events = in_sequence(streams)
        self.calls.append([event.sequence for event in events])
        if self.before is not None:
            await self.before(events)
        for event in events:
            insert = f"insert into {self.table} (shard, sequence, stream, version)"
            place = (self.name, event.sequence, str(event.stream_id), event.version)
            session.execute(f"{insert} values (%s, %s, %s, %s)", *place)
            if self.fails(event):
                raise ValueError(f"event {event.sequence} is poison")

    async def teardown(self, session):
        session.execute(f"delete from {self.table} where shard = %s", self.name)


@attrs.frozen
class Table:
    """What recorders wrote."""

    name: str

    async def create(self, store):
        async with store.connection() as connection:
            await connection.execute(
                f"create table {self.name} (place bigint generated always as identity,"
                " shard text, sequence bigint, stream text, version bigint)"
            )

    async def rows(self, store, shard="recorder"):
        """List sequence, stream and version of what a recorder wrote, in the order it wrote."""
        async with store.connection() as connection:
            cursor = await connection.execute(
                f"select sequence, stream, version from {self.name} where shard = %s"
                " order by place",
                (shard,),
            )
            return await cursor.fetchall()

    async def sequences(self, store, shard="recorder"):
        return [sequence for sequence, _, _ in await self.rows(store, shard)]


@pytest.fixture
def options(schema: str) -> StoreOptions:
    return StoreOptions(schema=schema)


@pytest.fixture
def table(schema: str) -> Table:
    return Table(f"{schema}.seen")


@pytest.fixture
async def store(pg_dsn: str, options: StoreOptions, table: Table) -> AsyncIterator[Store]:
    async with open_store(pg_dsn, options) as opened:
        await table.create(opened)
        yield opened


@pytest.fixture
def opening(pg_dsn: str, schema: str) -> Callable[..., AbstractAsyncContextManager[Store]]:
    """Open the test's schema once more: `async with opening() as other`."""

    def open_again(**changes):
        return open_store(pg_dsn, StoreOptions(**{"schema": schema, **changes}))

    return open_again


@pytest.fixture
def make_recorder(table: Table) -> Callable[..., Recorder]:
    def make(*consumes, **more):
        return Recorder(table.name, consumes, **more)

    return make


@pytest.fixture
def recorder(store: Store, make_recorder) -> Recorder:
    """A registered recorder that consumes everything."""
    projection = make_recorder()
    store.options.projections.add(projection)
    return projection


@pytest.fixture
def until():
    """Wait for a shard's status: `await until(daemon, lambda status: status.progress == 3)`."""

    async def wait(daemon, is_it):
        with trio.fail_after(PATIENCE):
            async with aclosing(daemon.watch()) as statuses:
                async for status in statuses:
                    if is_it(status):
                        return status
        raise AssertionError

    return wait
