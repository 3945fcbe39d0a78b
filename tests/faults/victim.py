"""What faults befall: writers, a daemon with three shards, and one query that judges."""

import itertools
import os
import random
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import attrs
import trio

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store
from flowstore.errors import DatabaseError
from flowstore.events import in_sequence
from flowstore.postgres import Connection

SCHEMA = "faults"
STREAMS = 8
SHARD_NAMES = ("recorder 3", "recorder 7", "Total")
PAUSES = (0, 0.02, 0.05, 0.1, 0.2)
"""Seconds between two appends of a writer: the daemon is to keep up, so that both are interrupted."""
POISON = "poison"
LAG = 60
PATIENCE = 300
"""Seconds in which all that was appended is applied, on however busy a machine."""
SETTINGS = DaemonSettings(slow_polling_time=0.05, retry_time=0.02)

TABLES = f"""
create table {SCHEMA}.seen (
    place bigint generated always as identity, tx xid8 default pg_current_xact_id(),
    shard text, sequence bigint, stream uuid, version bigint
);
create table {SCHEMA}.acknowledged (number text)"""

VERDICT = f"""
with seen as (
    select
        s.*,
        lag(sequence) over (partition by shard order by place) as sequence_before,
        lag(tx) over (partition by shard order by place) as tx_before,
        lag(version) over (partition by shard, stream order by place) as version_before
    from {SCHEMA}.seen s
),
events as (select e.*, data->>'number' as number from {SCHEMA}.events e),
good as (select * from events where number not like '%{POISON}'),
shards as (select * from (values ('recorder 3'), ('recorder 7')) as s (shard)),
totals as (select stream_id, count(*) as n, max(version) as version from events group by stream_id)
select
    (select count(*) from events) as stored,
    (select count(*) - count(distinct number) from events) as stored_twice,
    (
        select count(*) from {SCHEMA}.acknowledged a
        where not exists (select from events e where e.number = a.number)
    ) as forgotten,
    (
        select count(*) from good e cross join shards n
        where not exists (select from seen s where s.shard = n.shard and s.sequence = e.sequence)
    ) as lost,
    (select count(*) - count(distinct (shard, sequence)) from seen) as doubled,
    (select count(*) from seen where sequence <= sequence_before) as out_of_sequence,
    (select count(*) from seen where tx < tx_before) as out_of_transaction,
    (
        select count(*) from seen s
        where version <= version_before or exists (
            select from good e
            where e.stream_id = s.stream and e.version > s.version_before and e.version < s.version
        )
    ) as out_of_version,
    (
        select count(*) from totals t full join {SCHEMA}.doc_total d on d.id = t.stream_id
        where d.data->>'number' is distinct from t.n::text
            or d.data->>'version' is distinct from t.version::text
    ) as wrong_documents,
    (
        select count(*) from (
            (
                select n.shard, e.sequence from events e cross join shards n
                where e.number like '%{POISON}'
                except all select shard, sequence from {SCHEMA}.dead_letters
            )
            union all
            (
                select shard, sequence from {SCHEMA}.dead_letters
                except all select n.shard, e.sequence from events e cross join shards n
                where e.number like '%{POISON}'
            )
        ) as letters
    ) as wrong_letters
"""


SOON = 5.0
"""Seconds in which a daemon goes on by itself, on a machine that isn't overloaded."""


@attrs.define
class Patience:
    """Count the seconds that a machine with nothing else to do would have needed, if asked often.

    A second in which four wait for two processors counts as half a one, and a look that comes late,
    because nobody was let run, as one that came in time.
    """

    left: float
    _before: float = attrs.field(factory=trio.current_time)

    def is_left(self):
        now = trio.current_time()
        self.left -= min(now - self._before, 0.1) / max(1.0, runnable() / os.cpu_count())
        self._before = now
        return self.left > 0


def runnable():
    """Count what runs on this machine, or waits for a processor."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    except OSError:
        return os.getloadavg()[0]


@attrs.frozen
class Happened:
    number: str


@attrs.define
class Total:
    """Counts a stream's events; in `version` stands that of the last one."""

    id: UUID
    number: int = 0
    version: int = 0

    def apply(self, happened: Happened) -> None:
        self.number += 1


@attrs.frozen
class Verdict:
    """What the query found."""

    stored: int
    stored_twice: int
    forgotten: int
    lost: int
    doubled: int
    out_of_sequence: int
    out_of_transaction: int
    out_of_version: int
    wrong_documents: int
    wrong_letters: int

    def check(self):
        wrong = {name: n for name, n in attrs.asdict(self).items() if n and name != "stored"}
        assert not wrong, (wrong, self)


@attrs.define
class Recorder:
    """Writes each event down in the transaction of its progress; some it can't bear."""

    page_size: int
    committed: object = None
    consumes = ()
    produces = None

    @property
    def name(self):
        return f"recorder {self.page_size}"

    @property
    def async_options(self):
        return AsyncOptions(page_size=self.page_size)

    def apply(self, session, streams):
        if self.committed is not None:
            session.after_commit(self.committed)
        for event in in_sequence(streams):
            if event.data.number.endswith(POISON):
                raise ValueError(event.data.number)
            insert = f"insert into {SCHEMA}.seen (shard, sequence, stream, version)"
            place = (self.name, event.sequence, event.stream_id, event.version)
            session.execute(f"{insert} values (%s, %s, %s, %s)", *place)


def make_options(committed=None):
    options = StoreOptions(schema=SCHEMA)
    options.events.add_types(Happened)
    options.projections.add(Recorder(3, committed))
    options.projections.add(Recorder(7))
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    return options


@asynccontextmanager
async def opened(dsn, committed=None):
    async with open_store(dsn, make_options(committed)) as store:
        yield store


async def prepare(dsn):
    """Make the schema, and the tables of those who judge."""
    async with opened(dsn) as store, store.connection() as connection:
        for statement in TABLES.split(";"):
            await connection.execute(statement)


async def judge(dsn, acknowledged):
    """Ask whether anything went wrong, once everything was applied."""
    async with await Connection.connect(dsn) as connection:
        await connection.execute(
            f"insert into {SCHEMA}.acknowledged select unnest(%s::text[])", (list(acknowledged),)
        )
        return Verdict(*await (await connection.execute(VERDICT)).fetchone())


async def progress(dsn):
    """Tell how far shards have come."""
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(f"select shard, sequence from {SCHEMA}.progress")
        return dict(await cursor.fetchall())


async def sessions(dsn):
    """List who is connected and what they do, for somebody who looks for the reason of a standstill."""
    query = """
        select pid, state, wait_event, clock_timestamp() - xact_start, left(query, 80)
        from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"""
    async with await Connection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchall()


async def highest(dsn):
    """Give the highest sequence that is visible."""
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(f"select coalesce(max(sequence), 0) from {SCHEMA}.events")
        return (await cursor.fetchone())[0]


# -- writers -------------------------------------------------------------------------------------


@attrs.define
class Writer:
    """Appends to streams that others append to as well, and insists until it is done.

    A commit whose outcome is unknown is tried again, or given up for good: then one or none is there.
    It waits for shards that are far behind: faults are to meet them at work, not writers alone.
    """

    name: str
    dice: random.Random
    told: object
    poison: float = 0.02
    gives_up: bool = False
    daemon: object = None
    refused: int = 0
    trouble: str | None = None

    async def write(self, store, count=None):
        for number in itertools.count() if count is None else range(count):
            async with store.session() as session:
                numbers = self.queue(session, number)
                if await self.insist(session):
                    self.told(numbers)
            await trio.sleep(self.dice.choice(PAUSES))
            while self.is_far_ahead():  # noqa: ASYNC110 - of the slowest, now and then
                await trio.sleep(0.05)

    def is_far_ahead(self):
        return self.daemon is not None and max(each.lag for each in self.daemon.statuses()) > LAG

    def queue(self, session, number):
        numbers = []
        for stream in self.dice.sample(range(STREAMS), self.dice.randint(1, 3)):
            for part in range(self.dice.randint(1, 3)):
                ending = POISON if self.dice.random() < self.poison else "good"
                numbers.append(f"{self.name}/{number}/{stream}/{part} {ending}")
                session.events.append(UUID(int=stream), Happened(numbers[-1]))
        return numbers

    async def insist(self, session):
        while True:
            try:
                await session.save_changes()
            except DatabaseError as error:  # any other error is a failure
                self.refused += 1
                self.trouble = error.sqlstate
                if self.gives_up:
                    return False
                await trio.sleep(0.05)
            else:
                self.trouble = None
                return True


# -- a scene -------------------------------------------------------------------------------------


@attrs.define
class Scene:
    """A store with writers and a daemon in this process, and a look at it that no fault disturbs.

    Attributes:
        daemon: it runs, under faults.
        acknowledged: what writers were told is stored.
        writers: they append; some insist, and some give up what failed.
    """

    dsn: str
    daemon: object
    acknowledged: list
    writers: list
    _writing: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _written: trio.Event = attrs.field(factory=trio.Event)

    async def write(self, store):
        """Write until the end."""
        with self._writing:
            async with trio.open_nursery() as nursery:
                for writer in self.writers:
                    nursery.start_soon(writer.write, store)
        self._written.set()

    async def goes_on(self, seconds=SOON):
        """Wait until each shard has moved, or is at the end, and a writer was told of an append.

        How long it took is given back. Whoever looks on the daemon's behalf asks the server directly.
        """
        places = {status.name: status.progress for status in self.daemon.statuses()}
        before = len(self.acknowledged)
        end = await highest(self.dsn)
        begun = trio.current_time()

        def is_told():
            # Shards that are far behind are waited for, which is no standstill.
            return len(self.acknowledged) > before or self.writers[0].is_far_ahead()

        def stands():
            return [
                status
                for status in self.daemon.statuses()
                if status.progress <= places[status.name] and status.progress < end
            ]

        patience = Patience(seconds)
        while not is_told() or stands():
            assert patience.is_left(), (stands(), end, len(self.acknowledged) - before)
            await trio.sleep(0.02)
        return trio.current_time() - begun

    async def end(self):
        """Have no more appended, let the daemon come to the end, and judge."""
        self._writing.cancel()
        with trio.fail_after(PATIENCE):
            await self._written.wait()
            await self.daemon.wait_for_non_stale_results()
        assert [status.state for status in self.daemon.statuses()] == ["running"] * len(SHARD_NAMES)
        return await judge(self.dsn, self.acknowledged)

    def refused(self):
        """Count what writers were refused."""
        return sum(writer.refused for writer in self.writers)

    def is_full(self):
        """Tell whether a writer or a shard is being refused for want of room."""
        reasons = [status.reason for status in self.daemon.statuses()]
        return any(writer.trouble == "53100" for writer in self.writers) or any(
            "space left" in reason for reason in reasons
        )

    async def tells(self, shard, reason):
        """Wait until a shard's status names a reason."""
        patience = Patience(SOON)
        while not any(
            status.name == shard and reason in status.reason for status in self.daemon.statuses()
        ):
            assert patience.is_left(), self.daemon.statuses()
            await trio.sleep(0.02)

    async def let_through(self, *_):
        """Let a message through."""


@asynccontextmanager
async def scene(dsn, direct, settings=SETTINGS, writers=4):
    """Run writers and a daemon for the block.

    Args:
        dsn: where they find the server.
        direct: where the server is.
        settings: the daemon's.
        writers: how many.
    """
    acknowledged = []
    crew = [
        Writer(f"writer {number}", random.Random(number), acknowledged.extend, gives_up=number % 2)
        for number in range(writers)
    ]
    async with opened(dsn) as store, store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            for writer in crew:
                writer.daemon = daemon
            at = Scene(direct, daemon, acknowledged, crew)
            nursery.start_soon(at.write, store)
            await at.goes_on()
            yield at
            nursery.cancel_scope.cancel()
