"""A daemon asks of a store what `DaemonStore` says, and nothing else."""

from uuid import UUID

import attrs
import pytest
import trio

from flowstore import DaemonSettings, StoreOptions, open_store
from flowstore.daemon import DaemonStore, EventFeed
from flowstore.daemon._daemon import open_daemon
from flowstore.daemon._needs import Target
from flowstore.store import EventStore
from flowstore.testing import MemoryStore

STREAM = UUID(int=1)


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, counted: Counted) -> None:
        self.total += counted.by


def asked():
    """List what a daemon may ask for."""
    members = {name for kind in (DaemonStore, EventFeed, Target) for name in vars(kind)}
    return {name for name in members if not name.startswith("_")}


class NothingElse:
    """Gives of a store what the Protocol names, and counts what was asked for."""

    def __init__(self, store):
        self._store, self.used = store, set()

    def __getattr__(self, name):
        if name not in asked():
            raise AttributeError(f"a daemon asks for {name!r}, which DaemonStore doesn't have")
        self.used.add(name)
        return getattr(self._store, name)


def options(schema="flowstore"):
    made = StoreOptions(schema=schema)
    made.projections.aggregate_streams_with(Total)
    return made


async def total_of(store):
    async with store.session() as session:
        return (await session.load(Total, STREAM)).total


async def put_to_work(store, settings):
    """Append, follow, rebuild and catch up, by a daemon that sees the Protocol only."""
    seen = NothingElse(store)
    with trio.fail_after(60):
        async with store.session() as session:
            session.events.append(STREAM, Counted(1), Counted(2))
            await session.save_changes()
        async with open_daemon(seen, settings, None) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
            assert await total_of(store) == 3
            await daemon.rebuild(Total)
            assert await total_of(store) == 3
            await daemon.stop_all()
            await daemon.catch_up()
    return seen.used


@pytest.mark.parametrize("mode", ["solo", "hot_cold"])
async def test_a_daemon_in_memory_asks_for_nothing_else(mode):
    used = await put_to_work(MemoryStore(options()), DaemonSettings(mode=mode))
    assert {"fetch_page", "high_water", "claim", "commit_batch", "standing"} <= used
    assert ("leases" in used) == (mode == "hot_cold")


@pytest.mark.parametrize("mode", ["solo", "hot_cold"])
async def test_a_daemon_on_postgresql_asks_for_nothing_else(mode, pg_dsn, schema):
    async with open_store(pg_dsn, options(schema)) as store:
        used = await put_to_work(store, DaemonSettings(mode=mode))
    assert {"fetch_page", "high_water", "claim", "commit_batch", "listening"} <= used


def test_both_stores_offer_all_of_it():
    for name in asked():
        assert hasattr(EventStore, name), name
        assert hasattr(MemoryStore, name), name
