"""What simulations lean on in trio's inside. Red here: trio has changed, and has to be looked at."""

from pathlib import Path
from random import Random

import pytest
import trio
from trio._core import _run

import flowstore
from flowstore.testing import NotDeterministicError
from flowstore.testing._determinism import Schedule, check_trio, run_seeded


def never():
    raise AssertionError("nothing spins here")


def steps_of(seed):
    seen = []

    async def step(name):
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(name)

    async def main():
        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(step, name)

    run_seeded(main, seed=seed, schedule=Schedule(never))
    return "".join(seen)


def test_this_trio_has_what_is_needed():
    check_trio()


def test_it_is_leaned_on_in_one_module():
    """Where trio changes its inside, there is one place to look at."""
    room = Path(flowstore.__file__).parent
    leaning = [path.name for path in room.rglob("*.py") if "trio._" in path.read_text("utf-8")]
    assert leaning == ["_determinism.py"]


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT"])
def test_a_trio_without_it_is_refused(monkeypatch, name):
    monkeypatch.delattr(_run, name)
    with pytest.raises(NotDeterministicError, match=name):
        check_trio()


def test_a_seed_decides_the_order_of_tasks():
    assert [steps_of(seed) for seed in range(20)] == [steps_of(seed) for seed in range(20)]


def test_seeds_alone_reach_hundreds_of_orders():
    assert len({steps_of(seed) for seed in range(400)}) > 350


def test_trio_is_left_as_it_was_found(monkeypatch):
    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    monkeypatch.setattr(_run, "_r", Random(5))
    state = _run._r.getstate()
    steps_of(1)
    assert _run._ALLOW_DETERMINISTIC_SCHEDULING is False
    assert _run._r.getstate() == state


def test_time_jumps():
    async def main():
        await trio.sleep(50_000)
        return trio.current_time()

    assert run_seeded(main, seed=1, schedule=Schedule(never)) == 50_000


def test_a_held_group_stands_still_with_its_timers_and_goes_on_later():
    seen = []
    schedule = Schedule(never)

    async def tick(name):
        async with trio.open_nursery() as nursery:  # what it starts belongs to the group too
            nursery.start_soon(tick_on, name)

    async def tick_on(name):
        for _ in range(4):
            await trio.sleep(1)
            seen.append((name, trio.current_time()))

    async def main():
        async with trio.open_nursery() as nursery:
            with schedule.within("held"):
                nursery.start_soon(tick, "held")
            nursery.start_soon(tick, "free")
            await trio.sleep(1.5)
            schedule.between_turns(lambda: schedule.hold("held"))
            await trio.sleep(5)
            schedule.let_go("held")

    run_seeded(main, seed=1, schedule=schedule)
    assert [at for name, at in seen if name == "free"] == [1, 2, 3, 4]
    assert [at for name, at in seen if name == "held"] == [1, 6.5, 7.5, 8.5]


def test_a_loop_that_spins_is_told_of_once():
    told, scope = [], trio.CancelScope()

    def stuck():
        told.append("stuck")
        scope.cancel()

    async def main():
        with scope:
            while True:
                await trio.lowlevel.checkpoint()

    run_seeded(main, seed=1, schedule=Schedule(stuck))
    assert told == ["stuck"]
