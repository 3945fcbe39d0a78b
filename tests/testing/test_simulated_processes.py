"""Processes of a simulation: killed, stopped, cut off, as real ones."""

import pytest
import trio

from flowstore.errors import DatabaseUnavailableError
from flowstore.store.memory import Rows
from flowstore.testing._determinism import Schedule, run_seeded
from flowstore.testing._simulation._database import SimulatedDatabase
from flowstore.testing._simulation._processes import Processes
from flowstore.testing._simulation._trace import Trace

ROWS = Rows("things")


class World:
    def __init__(self, schedule, nursery):
        self.database = SimulatedDatabase()
        self.trace = Trace(nursery.cancel_scope.cancel)
        self.processes = Processes(schedule, self.trace, self.database)
        self.processes.nursery = nursery
        self.database.witness = self

    async def travel(self):
        pass

    def began(self, transaction):
        self.processes.began(transaction.number)

    def ended(self, transaction, before, after):
        pass

    def loses_notification(self):
        return False


def simulated(test):
    """Run a test with a world around it, in virtual time."""

    def run():
        schedule = Schedule(lambda: pytest.fail("it spins"))

        async def main():
            async with trio.open_nursery() as nursery:
                world = World(schedule, nursery)
                try:
                    with trio.fail_after(100):
                        await test(world)
                finally:
                    world.processes.sweep()
                    nursery.cancel_scope.cancel()

        run_seeded(main, seed=1, schedule=schedule)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def pause(_step):
    await trio.lowlevel.checkpoint()


def holding(database, log):
    """Make a process that writes a row, holds it for ten seconds, and cleans up."""

    async def body(_process):
        try:
            async with database.transaction(pause) as transaction:
                await transaction.lock(ROWS, 1)
                transaction.put(ROWS, 1, "written")
                await trio.sleep(10)
        finally:
            log.append(("cleanup", trio.current_time()))

    return body


@simulated
async def test_a_killed_process_runs_no_cleanup_and_holds_no_lock(world):
    log = []
    process = world.processes.spawn("one", "writer", holding(world.database, log))
    await trio.sleep(1)
    world.processes.crash(process, "now")
    await process.ended.wait()
    async with world.database.transaction(pause) as transaction:
        await transaction.lock(ROWS, 1)
        assert transaction.get(ROWS, 1) is None
    await trio.sleep(50)
    assert log == []
    assert world.database.open_transactions() == []


@simulated
async def test_a_killed_process_that_waited_for_a_lock_is_not_handed_it(world):
    log = []
    first = world.processes.spawn("first", "writer", holding(world.database, log))
    await trio.sleep(1)
    second = world.processes.spawn("second", "writer", holding(world.database, log))
    await trio.sleep(1)
    world.processes.crash(second, "waiting")
    await first.ended.wait()
    async with world.database.transaction(pause) as transaction:
        await transaction.lock(ROWS, 1)
    assert log == [("cleanup", 10)]


@simulated
async def test_a_killed_process_that_was_just_handed_a_lock_lets_go_of_it(world):
    log = []
    first = world.processes.spawn("first", "writer", holding(world.database, log))
    await trio.sleep(1)
    second = world.processes.spawn("second", "writer", holding(world.database, log))
    await trio.sleep(1)
    world.processes.freeze(second, "waiting")
    await first.ended.wait()
    world.processes.crash(second, "with the lock, and not knowing it")
    await second.ended.wait()
    async with world.database.transaction(pause) as transaction:
        await transaction.lock(ROWS, 1)


@simulated
async def test_a_stopped_process_holds_its_locks_and_goes_on_later(world):
    log = []
    process = world.processes.spawn("one", "writer", holding(world.database, log))
    await trio.sleep(1)
    world.processes.freeze(process, "now")
    await trio.sleep(30)
    assert world.database.get(ROWS, 1) is None
    world.processes.thaw(process)
    await process.ended.wait()
    assert world.database.get(ROWS, 1) == "written"
    assert log == [("cleanup", 31)]


@simulated
async def test_what_a_terminated_transaction_goes_on_to_do_is_refused(world):
    log = []
    process = world.processes.spawn("one", "writer", holding(world.database, log))
    await trio.sleep(1)
    [transaction] = world.database.open_transactions()
    transaction.terminate()
    transaction.terminate()  # which it is already
    with pytest.raises(DatabaseUnavailableError):
        await transaction.round_trip()
    with pytest.raises(DatabaseUnavailableError):
        await transaction.lock(ROWS, 2)
    await process.ended.wait()
    assert world.database.get(ROWS, 1) is None
    assert "ends with DatabaseUnavailableError" in world.trace.moments[-1].what


@simulated
async def test_who_waits_for_a_lock_in_a_terminated_transaction_waits_no_more(world):
    database = world.database
    async with database.transaction(pause) as holder:
        await holder.lock(ROWS, 1)
        waiting = database.begin()
        async with trio.open_nursery() as nursery:

            async def wait():
                with pytest.raises(DatabaseUnavailableError):
                    await waiting.lock(ROWS, 1)

            nursery.start_soon(wait)
            await trio.sleep(1)
            waiting.terminate()
        assert trio.current_time() == 1
    async with database.transaction(pause) as transaction:
        await transaction.lock(ROWS, 1)


@simulated
async def test_who_is_cancelled_while_a_lock_is_handed_over_keeps_it_from_nobody(world):
    database = world.database
    holder, waiting, scope = database.begin(), database.begin(), trio.CancelScope()
    await holder.lock(ROWS, 1)

    async def wait():
        with scope:
            await waiting.lock(ROWS, 1)
        waiting.rollback()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        scope.cancel()
        holder.rollback()
    assert not database.locks.holds(waiting, (ROWS.name, 1))
    async with database.transaction(pause) as transaction:
        await transaction.lock(ROWS, 1, seconds=1)
