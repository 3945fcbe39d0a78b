"""Migrating is done once, whole, or not at all: with real processes, and one that is killed."""

import subprocess
import sys
import time

import psycopg
import pytest

from flowstore.store import StoreOptions, assert_schema, open_event_store
from flowstore.store._migrations import packaged_migrations

OPEN = """
import sys, trio
from flowstore.store import StoreOptions, open_event_store
async def main():
    async with open_event_store(sys.argv[1], StoreOptions(schema="shared")) as store:
        print(await store.high_water())
trio.run(main)
"""
# Every statement that creates a function waits here while somebody else has the lock.
HOLD = """
create function public.wait_here() returns event_trigger language plpgsql as
$$ begin perform pg_advisory_xact_lock_shared(4711); end $$;
create event trigger hold on ddl_command_start when tag in ('CREATE FUNCTION', 'CREATE VIEW')
execute function public.wait_here()"""
WAITING = """
select pid from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory'"""
MADE = "select nspname::text from pg_namespace where nspname = 'shared'"


def start(dsn):
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, dsn], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition):
    """Ask again until it holds; what is waited for is another process."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.02)
    return found


@pytest.fixture
def admin_here(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


async def test_processes_that_open_an_empty_database_at_once_create_one_schema(dsn):
    processes = [start(dsn) for _ in range(4)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, answers
    assert [out for out, _ in answers] == ["0\n"] * 4
    await assert_schema(dsn, StoreOptions(schema="shared"))


@pytest.mark.parametrize("victim", ["process", "backend"])
async def test_a_crash_in_the_middle_leaves_nothing(dsn, admin_here, victim):
    admin_here.execute(HOLD)
    admin_here.execute("select pg_advisory_lock(4711)")
    process = start(dsn)
    [[backend]] = until(lambda: admin_here.execute(WAITING).fetchall())
    # It has come as far as the first function: two tables are there, for itself alone.
    if victim == "process":
        process.kill()
    else:
        admin_here.execute("select pg_terminate_backend(%s)", (backend,))
    process.communicate(timeout=60)
    assert process.returncode != 0
    admin_here.execute("select pg_advisory_unlock(4711)")
    gone = "select 1 from pg_stat_activity where pid = %s"
    until(lambda: not admin_here.execute(gone, (backend,)).fetchall())
    assert admin_here.execute(MADE).fetchall() == []
    async with open_event_store(dsn, StoreOptions(schema="shared")):
        pass
    await assert_schema(dsn, StoreOptions(schema="shared"))


# Add a line for a script that somebody may have applied, and never change one: what they have is
# refused when the text is another.
KEPT = """
0001_streams_and_events 0628a66fb3ac
0002_high_water 168d857f7b49
0003_append ec38c2711b25
0004_progress 917726e9b9b0
0005_documents 3d47c95343ab
0006_lock_stream 2a5358f28e79
0007_amend 041d49cefc72
0008_import 2d66248848a9
0009_ownership 4e6273ff038e
0010_pages 1455b026d696
0011_append_one 76c89a3ae074
0012_append_stream 477af9712caa
0013_parts 9ceb51fb20e5
0014_look c847fb7a0959
0015_append_event 3997ff574905
0016_tail e94eb09e7f7d
0017_part_pages f765495e9d28
"""


def test_scripts_that_databases_have_stay_as_they_are():
    kept = [line.split() for line in KEPT.strip().splitlines()]
    now = [[each.title, each.checksum[:12]] for each in packaged_migrations()]
    assert now[: len(kept)] == kept
