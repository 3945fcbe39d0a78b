"""Driving generators: who runs meanwhile, and who gets which error."""

import socket
from contextlib import suppress

import psycopg
import pytest
import trio
from psycopg.waiting import Ready, Wait

from flowstore.postgres._waiting import Driver, Mutex, ready_now

ENDLESS = 20_000_000  # steps after which "the others never ran" is certain


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


class Ticker:
    """Counts the turns that another task gets."""

    ticks = 0

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        while True:
            await trio.lowlevel.checkpoint()
            self.ticks += 1


@pytest.fixture
async def ticker(nursery):
    ticker = Ticker()
    await nursery.start(ticker.run)
    return ticker


def writes_until(done):
    for _ in range(ENDLESS):
        if done():
            return "done"
        yield Wait.W
    return "starved"


def finished():
    yield from ()


def waits_for(wanted):
    return (yield wanted)


async def test_others_run_beside_a_generator_that_always_finds_its_socket_writable(pair, ticker):
    generator = writes_until(lambda: ticker.ticks >= 3)
    assert await Driver().drive(generator, pair[0].fileno()) == "done"


async def test_others_run_beside_generators_that_never_wait(pair, ticker):
    driver = Driver()
    for _ in range(ENDLESS):
        await driver.drive(finished(), pair[0].fileno())
        if ticker.ticks >= 3:
            return
    pytest.fail("the other task was starved")


async def test_a_finished_generators_result_survives_a_cancelled_scope(pair):
    driver = Driver()
    driver._yielded_at = 0.0  # long ago: a checkpoint is due
    with trio.CancelScope() as scope:
        scope.cancel()
        await driver.drive(finished(), pair[0].fileno())
        scope.shield = True
    assert not scope.cancelled_caught


@pytest.mark.parametrize("wanted", [Wait.R, Wait.RW])
async def test_a_generator_is_sent_what_became_ready(pair, wanted):
    ours, theirs = pair
    fill(ours)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _():
            assert await Driver().drive(waits_for(wanted), ours.fileno()) == Ready.R

        await trio.testing.wait_all_tasks_blocked()
        theirs.send(b"x")


async def test_waiting_for_either_is_told_of_writing(pair):
    ours, theirs = pair
    fill(ours)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _():
            assert await Driver().drive(waits_for(Wait.RW), ours.fileno()) == Ready.W

        await trio.testing.wait_all_tasks_blocked()
        theirs.recv(1 << 20)


@pytest.mark.parametrize("wanted", [Wait.R, Wait.W, Wait.RW])
async def test_a_socket_closed_while_waiting_is_an_operational_error(pair, wanted):
    ours, _ = pair
    fill(ours)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _():
            with pytest.raises(psycopg.OperationalError):
                await Driver().drive(waits_for(wanted), ours.fileno())

        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(ours.fileno())


@pytest.mark.parametrize("wanted", [Wait.R, Wait.W, Wait.RW])
async def test_a_cancelled_wait_raises_a_bare_cancelled(pair, wanted):
    ours, _ = pair
    fill(ours)
    caught = []

    async def drive():
        try:
            await Driver().drive(waits_for(wanted), ours.fileno())
        except BaseException as error:
            caught.append(type(error))
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert caught == [trio.Cancelled]


def fill(sock):
    """Write until nothing more goes in."""
    with suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))
    assert not ready_now(sock.fileno(), Wait.RW)


async def test_a_free_mutex_is_taken_without_a_checkpoint():
    mutex = Mutex()
    with trio.testing.assert_no_checkpoints():
        async with mutex:
            assert mutex.locked()
    assert not mutex.locked()


async def test_a_mutex_is_handed_over_in_order():
    mutex, order = Mutex(), []

    async def take(number):
        async with mutex:
            order.append(number)

    async with trio.open_nursery() as nursery, mutex:
        for number in range(5):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(5))
    assert not mutex.locked()


async def test_a_waiter_that_was_cancelled_does_not_get_the_mutex():
    mutex = Mutex()
    async with mutex:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with mutex:
                pytest.fail("taken")
    assert not mutex.locked()


async def test_a_mutex_may_be_left_by_another_task():
    mutex = Mutex()
    await mutex.__aenter__()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mutex.__aexit__, None, None, None)
    assert not mutex.locked()
