"""A view that shows whether it is right, and what tests of rebuilds do with it. No test."""

from uuid import UUID, uuid4

import attrs
import trio
from psycopg import sql

STREAMS = [UUID(int=number) for number in range(1, 8)]
POISON = -7


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Named:
    name: str


@attrs.define
class Total:
    """Remembers what it was made of: an event lost, doubled or out of order shows."""

    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        if counted.by == POISON:
            raise ValueError("poison")
        self.number += counted.by
        self.seen.append(counted.by)


@attrs.define
class Label:
    id: UUID
    name: str = ""

    def apply(self, named: Named) -> None:
        self.name = named.name


async def append(store, *events, to=None):
    async with store.session() as session:
        session.events.append(to or uuid4(), *events)
        await session.save_changes()


async def fill(store, *numbers):
    """Append one number after the other, each in a commit of its own, to the streams in turn."""
    for number in numbers:
        await append(store, Counted(number), to=STREAMS[number % len(STREAMS)])


async def totals(store):
    return await store.session().query(Total, "true order by id")


async def expected(store):
    """Fold every stream by itself."""
    session = store.session()
    found = [await session.events.aggregate_stream(Total, stream) for stream in STREAMS]
    return [total for total in found if total is not None]


async def spoil(store):
    """Make the whole view wrong, and put orphans in it, so that a new one can be told from it."""
    where = sql.Identifier(store.options.schema, "doc_total")
    async with store.connection() as connection:
        await connection.execute(
            sql.SQL("update {} set data = data || '{{\"number\": -1}}'").format(where)
        )
        await connection.execute(
            sql.SQL(
                "insert into {} (tenant_id, id, data) select tenant_id, gen_random_uuid(), data"
                " from {} limit 3"
            ).format(where, where)
        )


async def leftovers(store):
    """List what a rebuild may have left behind: tables, progress, dead letters."""
    schema = store.options.schema
    kept = [sql.Identifier(schema, name) for name in ("progress", "dead_letters")]
    query = sql.SQL(
        "select tablename from pg_tables where schemaname = {} and tablename like 'shadow%'"
        " union all select shard from {} where shard like 'shadow%'"
        " union all select shard from {} where shard like 'shadow%'"
    ).format(sql.Literal(schema), *kept)
    async with store.connection() as connection:
        cursor = await connection.execute(query)
        return await cursor.fetchall()


class Gate:
    """Stops whoever comes until it is opened: `entered` tells that somebody has."""

    def __init__(self):
        self.entered, self.opened = trio.Event(), trio.Event()

    async def wait(self):
        self.entered.set()
        await self.opened.wait()


@attrs.define(eq=False)
class Gated:
    """A projection's twin that waits at a gate before it applies; only to a shadow, unless told."""

    inner: object
    gate: Gate = attrs.field(factory=Gate)
    after: int = 0
    beside_only: bool = True

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def apply(self, session, streams):
        last = max(stream.events[-1].sequence for stream in streams)
        if last > self.after and (is_shadows(session) or not self.beside_only):
            await self.gate.wait()
        await self.inner.apply(session, streams)


def is_shadows(session):
    return type(session).__name__ == "ShadowUnit"


def gate_of(store, **more):
    """Put a gate before a store's first projection."""
    registered = store.options.projections._registered
    gated = Gated(registered[0].projection, **more)
    registered[0] = attrs.evolve(registered[0], projection=gated)
    return gated
