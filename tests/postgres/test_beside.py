"""What runs beside a block ends with it, and the block's own error leaves as it is."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.postgres import plain_nursery


class TroubleError(Exception):
    """Whatever may go wrong."""


async def run_beside(work, error):
    """Raise an error in a block that work runs beside."""
    async with plain_nursery() as nursery:
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        raise error


async def fail_at_the_end():
    try:
        await trio.sleep_forever()
    finally:
        raise TroubleError("beside")


@pytest.mark.parametrize("kind", [TroubleError, KeyboardInterrupt, SystemExit])
async def test_what_the_block_raises_leaves_in_no_group(kind):
    raised = kind()
    with pytest.raises(kind) as caught:
        await run_beside(trio.sleep_forever, raised)
    assert caught.value is raised


async def test_neither_error_is_lost_when_the_block_and_a_task_fail():
    with pytest.raises(ExceptionGroup) as caught:
        await run_beside(fail_at_the_end, TroubleError("inside"))
    assert [str(error) for error in caught.value.exceptions] == ["inside", "beside"]


async def test_the_end_of_the_block_ends_what_runs_beside_it():
    scope = trio.CancelScope()

    async def work():
        with scope:
            await trio.sleep_forever()

    with trio.fail_after(60):
        async with plain_nursery() as nursery:
            nursery.start_soon(work)
            await wait_all_tasks_blocked()


async def test_a_cancellation_ends_both_and_is_no_error():
    with trio.CancelScope() as scope:
        async with plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
