"""Rebuilds by several processes, any of which is killed at random moments: the old view or the new one.

One process rebuilds whenever it is told to, each time from a view that is wrong as a whole.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import attrs
import psycopg
import pytest

MODULES = Path(__file__).parents[1] / "daemon"
STREAMS, EVENTS = 7, 210
PATIENCE = 300
"""Seconds, on however busy a machine."""
PROGRAM = f"""
import logging
import sys
from uuid import UUID

import trio
from workers_domain import Counted, Total

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store
from flowstore.errors import RebuildError

async def publish(store):
    for stream in range({STREAMS}):
        async with store.session() as session:
            if await session.events.fetch_stream_state(UUID(int=stream)) is None:
                events = [Counted(number) for number in range(stream, {EVENTS}, {STREAMS})]
                session.events.start_stream(UUID(int=stream), *events)
                await session.save_changes()

async def spoil(store):
    async with store.connection() as connection:
        await connection.execute(
            "update crews.doc_total set data = data || '{{\\"number\\": -1}}'"
        )

async def main(dsn):
    options = StoreOptions(schema="crews")
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    settings = DaemonSettings(span_bytes=1, retry_time=0.01)  # a commit a page
    async with open_store(dsn, options) as store, store.build_projection_daemon(settings) as daemon:
        await publish(store)
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        print("ready", flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            await spoil(store)
            print("spoilt", flush=True)
            try:
                await daemon.rebuild(Total, workers=2)
            except RebuildError as error:
                print("failed", error, flush=True)
            else:
                print("done", flush=True)

# The tests' server is told to forget, which a daemon warns of, and connections are ended on purpose.
logging.getLogger("flowstore.daemon").setLevel(logging.CRITICAL)
trio.run(main, sys.argv[1])
"""
HOLD = 4711
HOLDABLE = f"""
create or replace function crews.hold() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared({HOLD});
    return new;
end $$;
create or replace trigger hold before update on crews.progress for each row
    when (new.shard like 'shadow %' and new.sequence > old.sequence) execute function crews.hold()
"""
"""Lets workers be held up in the middle of a commit, each in its first one at the latest."""


@attrs.define
class Life:
    """A process that rebuilds, and all those that it starts."""

    process: subprocess.Popen
    mark: bytes

    @classmethod
    def begin(cls, dsn):
        mark = f"FLOWSTORE_CREW={uuid4()}"
        name, _, value = mark.partition("=")
        path = os.pathsep.join([str(MODULES), *sys.path])
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, name: value, "PYTHONPATH": path},
            start_new_session=True,
        )
        life = cls(process, mark.encode())
        life.hears("ready")
        with psycopg.connect(dsn) as connection:
            connection.execute(HOLDABLE)
        return life

    def rebuild(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.hears("spoilt")

    def hears(self, *beginnings):
        line = self.process.stdout.readline()
        assert line.startswith(beginnings), (
            line,
            self.process.poll() and self.process.stderr.read(),
        )
        return line

    def workers(self):
        return [pid for pid in self.pids() if pid != self.process.pid]

    def pids(self):
        """List the processes that have the mark, and are more than a name."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def wait_for_workers(self):
        until(lambda: len(self.workers()) == 2)

    def end(self):
        self.process.kill()
        _, errors = self.process.communicate()
        until(lambda: not self.pids())
        return errors


@contextmanager
def at_work(dsn, life):
    """Rebuild, and hold both workers for the block, each in the middle of a commit."""
    waiting = """
        select count(*) = 2 from pg_locks
        where locktype = 'advisory' and objid = %s and not granted
            and database = (select oid from pg_database where datname = current_database())"""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (HOLD,))
        life.rebuild()
        until(lambda: connection.execute(waiting, (HOLD,)).fetchone()[0])
        yield


def until(is_it):
    deadline = time.monotonic() + PATIENCE
    while not is_it():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def alive():
    """Processes that are ended with the test, however that ends."""
    lives = []
    yield lives
    for life in lives:
        life.process.kill()
        life.process.communicate()
        for pid in life.pids():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def life(dsn, alive):
    alive.append(Life.begin(dsn))
    return alive[0]


def rows(dsn, query):
    with psycopg.connect(dsn) as connection:
        # Whoever was killed in a transaction may still be rolled back.
        connection.execute("lock table crews.progress in share mode")
        return [value for (value,) in connection.execute(query)]


RIGHT = [sum(range(stream, EVENTS, STREAMS)) for stream in range(STREAMS)]
SPOILT = [-1] * STREAMS


def view(dsn):
    """Check what has to be true at any moment, and tell what readers find."""
    found = rows(dsn, "select (data ->> 'number')::int from crews.doc_total order by id")
    assert found in (RIGHT, SPOILT)
    if found == RIGHT:
        seen = rows(dsn, "select data ->> 'seen' from crews.doc_total order by id")
        assert seen == [str(list(range(each, EVENTS, STREAMS))) for each in range(STREAMS)]
    assert rows(dsn, "select sequence from crews.progress where shard = 'Total'") == [EVENTS]
    return found


def leftovers(dsn):
    tables = "select tablename::text from pg_tables where tablename like 'shadow%'"
    return rows(dsn, tables) + rows(dsn, "select shard from crews.progress where shard like 'sh%'")


def test_a_worker_is_killed_at_random_moments(life, dsn, soak):
    dice = random.Random(11)
    for number in range(soak(4, 60)):
        is_certain = number % 2 == 0  # else it may be done before it is hit
        with at_work(dsn, life):
            victims = life.workers()
            if is_certain:
                os.kill(dice.choice(victims), signal.SIGKILL)
        if not is_certain:
            time.sleep(dice.uniform(0, 1.5))
            victims = life.workers()
            if victims:
                os.kill(dice.choice(victims), signal.SIGKILL)
        outcome = life.hears("failed", "done")
        until(lambda: not life.workers())
        assert view(dsn) == (RIGHT if outcome.startswith("done") else SPOILT)
        if is_certain or outcome.startswith("failed"):
            assert "was ended by SIGKILL" in outcome
        assert leftovers(dsn) == [], number
    life.rebuild()
    life.hears("done")
    assert view(dsn) == RIGHT
    assert life.end() == ""


def test_the_process_that_rebuilds_is_killed_at_random_moments(dsn, alive, soak):
    dice = random.Random(5)
    for number in range(soak(4, 60)):
        life = Life.begin(dsn)
        alive.append(life)
        if number % 2 == 0:
            with at_work(dsn, life):
                life.process.kill()
        else:
            life.rebuild()
            time.sleep(dice.uniform(0, 1.5))
        assert life.end() == ""  # nobody is left, and nobody has complained
        found = view(dsn)
        assert number % 2 or found == SPOILT
    life = Life.begin(dsn)
    alive.append(life)
    life.rebuild()
    life.hears("done")
    assert view(dsn) == RIGHT
    assert leftovers(dsn) == []
    assert life.end() == ""


def stand(connection):
    """Tell whether two workers have come far, and no further for a while."""
    places = "select shard, sequence from crews.progress where shard like 'shadow %' order by 1"
    before = connection.execute(places).fetchall()
    time.sleep(0.5)
    after = connection.execute(places).fetchall()
    return before == after and sum(sequence > EVENTS // 2 for _, sequence in after) == 2


def test_workers_that_wait_end_with_the_process_that_began_them(life, dsn):
    """They have nothing to tell then, and would never notice that nobody listens."""
    with psycopg.connect(dsn) as connection:
        connection.execute("select crews.publish_bound(), nextval('crews.events_sequence')")
        with psycopg.connect(dsn) as other:
            insert = """
                insert into crews.events (stream_id, tenant_id, version, id, type, data)
                select stream_id, tenant_id, 31, gen_random_uuid(), 'late', data
                from crews.events where version = 30 limit 1"""
            other.execute(insert)
        life.rebuild()
        life.wait_for_workers()
        with psycopg.connect(dsn, autocommit=True) as other:
            until(lambda: stand(other))
        life.process.kill()
        until(lambda: not life.pids())
        connection.rollback()
    assert view(dsn) == SPOILT


def test_ctrl_c_ends_all_of_them_and_leaves_nothing(life, dsn):
    with at_work(dsn, life):
        os.killpg(life.process.pid, signal.SIGINT)
    _, errors = life.process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in errors
    assert "_worker.py" not in errors  # it is for one process, which ends the others
    until(lambda: not life.pids())
    assert view(dsn) == SPOILT
    assert leftovers(dsn) == []


BUSY = """
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
        and (query like '%%stream_part%%' or query like '%%shadow_%%')
"""
"""Those that rebuild, by what they did last."""


def end_connections(connection, most):
    found = connection.execute(
        f"select pg_terminate_backend(pid) {BUSY} order by random() limit %s", (most,)
    )
    return len(found.fetchall())


def end_all_at_work(dsn, connection, life):
    """Hold up whoever reads, however fast it is, and end them all; gives how many."""
    waiting = f"select count(*) {BUSY} and wait_event_type = 'Lock'"

    def at_work():
        return connection.execute(waiting, ()).fetchone()[0]

    with psycopg.connect(dsn) as holding:
        holding.execute("lock table crews.events in access exclusive mode")
        until(lambda: at_work() or not life.workers())
        return at_work() and end_connections(connection, 10)


def test_connections_are_ended_at_random_moments(life, dsn, soak):
    """Trouble with the database is no failure, whoever's connection it befalls."""
    dice, ended, at_work = random.Random(2), 0, 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(soak(4, 40)):
            life.rebuild()
            life.wait_for_workers()
            if number % 2 == 0:
                at_work += end_all_at_work(dsn, connection, life)
            while life.workers():
                ended += end_connections(connection, dice.randint(0, 2))
                time.sleep(dice.uniform(0, 0.3))
            life.hears("done")
            assert view(dsn) == RIGHT
            assert leftovers(dsn) == []
    assert at_work, f"nobody was found at work, and {ended} were ended by chance"
    life.end()
