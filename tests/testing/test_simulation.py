"""Simulations: the same run for the same seed, other runs for others, and laws that hold."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from uuid import UUID

import attrs
import pytest
import trio

from flowstore.projections import AsyncOptions
from flowstore.testing import Faults, Scenario, SimulationError, default_scenario, simulate
from flowstore.testing._simulation._accounts import decide_account, register_accounts

SEEDS = range(60)
MANY = 20_000 if os.environ.get("FLOWSTORE_SOAK") == "1" else 1_000
"""Seeds, in so many processes as there are cores: a minute on two, or twenty."""


@pytest.fixture(scope="module")
def runs():
    """The default scenario, run by many seeds: a law that is broken fails here, and says where."""
    scenario = default_scenario()
    return [simulate(scenario, seed=seed) for seed in SEEDS]


def interleaving(run):
    """Who did what in which order, without times and numbers."""
    return tuple((moment.who, moment.what.split()[0]) for moment in run.moments)


def test_every_law_holds_in_thousands_of_crashes(capsys):
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", "sim", "--seeds", str(MANY)],
        capture_output=True,
        check=False,
        text=True,
    )
    told = done.stdout.strip()
    assert done.returncode == 0, f"{told}\n{done.stderr}"
    with capsys.disabled():
        print(f"\n{told}")  # noqa: T201  it is for whoever runs the tests
    counted = {kind: int(count) for count, kind in re.findall(r"(\d+) ([a-z ]+)", told)}
    assert counted.pop("seeds") == MANY
    least = {
        "crashes": 1,
        "dropped replies": 0.5,
        "freezes": 0.4,
        "restarts": 0.3,
        "forks": 0.3,
        "delays": 10,
        "lost notifications": 1,
    }
    too_few = {kind: counted[kind] for kind in least if counted[kind] < MANY * least[kind]}
    assert not too_few


def test_every_run_has_something_to_lose(runs):
    assert all(run.events > 10 for run in runs)
    assert sum(run.crashes > 0 for run in runs) > 0.8 * len(runs)


def test_seeds_reach_different_interleavings(runs):
    assert len({interleaving(run) for run in runs}) == len(runs)


@pytest.mark.parametrize(
    "happening",
    [
        "CRASHES at 'numbers drawn'",
        "CRASHES at 'before commit'",
        "CRASHES at 'committed'",
        "CRASHES in the middle of something",
        "FREEZES",
        "THAWS",
        "LOSES THE CONNECTION at 'before commit'",
        "LOSES THE CONNECTION at 'committed'",
        "LOSES THE CONNECTION on the way",
        "GOES DOWN",
        "another owner moved it",
        "not this owner's any more",
        "having drawn",
        "sets aside",
        "no longer sets aside",
        "writes to 'journal' beside its owner",
        "takes back 'Account' at 0",
        "of 'Account': the event at",
        "writes to 'Account' beside its owner",
        "AbortedError",
    ],
)
def test_what_may_happen_does(runs, happening):
    assert sum(any(happening in moment.what for moment in run.moments) for run in runs) >= 3


def test_every_role_is_struck(runs):
    struck = Counter(
        moment.who.split("-")[0]
        for run in runs
        for moment in run.moments
        if moment.what.startswith(("CRASHES", "FREEZES"))
    )
    assert struck["daemon"] > 50
    assert struck["writer"] > 25
    assert struck["standby"] > 5


def test_who_stands_by_takes_over(runs):
    """In some runs daemons are hot and cold; a second owner is forked in others too."""
    claimed = [
        {
            (moment.who, moment.what.split("'")[1])
            for moment in run.moments
            if " epoch " in moment.what
        }
        for run in runs
    ]
    handed_over = [
        run
        for run in claimed
        if {shard for who, shard in run if who == "standby"}
        & {shard for who, shard in run if who == "daemon"}
    ]
    assert len(handed_over) > 5
    assert sum(any(who == "daemon-2" for who, _ in run) for run in claimed) > 5


def test_a_silent_owner_is_followed_and_its_commit_ended():
    scenario = attrs.evolve(
        default_scenario(),
        hot_cold=1.0,
        faults=Faults(crashes=0, restarts=0, freezes=8, longest_freeze=3.0),
    )
    told = "\n".join(line for seed in range(30) for line in simulate(scenario, seed=seed).trace)
    assert "commits of a former owner" in told
    assert "the connection that holds leases was lost: terminating connection" in told


def test_who_stops_before_what_can_not_be_folded_goes_on_once_it_can():
    scenario = attrs.evolve(
        default_scenario(),
        register=partial(register_accounts, on_error="stop"),
        decide=partial(decide_account, disputes=0.2, for_ever=0.0),
    )
    runs = [simulate(scenario, seed=seed) for seed in range(20)]
    stopped = ["shard 'Account' stopped before the event" in "\n".join(run.trace) for run in runs]
    assert sum(stopped) > 3
    assert not any("of 'Account'" in line for run in runs for line in run.trace)


def test_the_same_seed_is_the_same_run_again(runs):
    scenario = default_scenario()
    for seed in (3, 1, 3):
        assert simulate(scenario, seed=seed).trace == runs[seed].trace


TRACES = """
import gc, hashlib, sys
from flowstore.testing import default_scenario, simulate

first, last, step, often = map(int, sys.argv[1:])
gc.set_threshold(often)
scenario = default_scenario()
for seed in range(first, last, step):
    told = "\\n".join(simulate(scenario, seed=seed).trace)
    print(seed, hashlib.sha256(told.encode()).hexdigest())
"""


def test_the_same_seed_is_the_same_run_in_every_process(runs):
    """Whatever hashes are, whichever ran before, and whenever rubbish is collected."""

    def told(hash_seed, *how):
        done = subprocess.run(
            [sys.executable, "-c", TRACES, *map(str, how)],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            text=True,
        )
        return sorted(done.stdout.splitlines())

    here = [
        f"{run.seed} {hashlib.sha256(chr(10).join(run.trace).encode()).hexdigest()}"
        for run in runs[:20]
    ]
    assert told(1, 0, 20, 1, 700) == told(2, 19, -1, -1, 40) == sorted(here)


def test_without_faults_only_the_order_of_tasks_is_left_to_the_seed():
    calm = Faults(
        crashes=0, freezes=0, dropped_replies=0, restarts=0, forks=0, delays=0, lost_notifications=0
    )
    scenario = attrs.evolve(default_scenario(), faults=calm)
    run = simulate(scenario, seed=1)
    told = "\n".join(run.trace)
    for fault in ("CRASHES", "FREEZES", "LOSES", "DOWN", "failed"):
        assert fault not in told


# -- scenarios of one's own ------------------------------------------------------------------


@attrs.frozen
class Counted:
    amount: int


@attrs.define
class Sum:
    id: UUID
    total: int = 0

    def apply(self, event: Counted) -> None:
        self.total += event.amount


@attrs.define
class HastySum(Sum):
    """Holds what it was told in this process, and not in its document: lost with the process."""

    def apply(self, event: Counted) -> None:
        SEEN.setdefault(self.id, []).append(event.amount)
        self.total = sum(SEEN[self.id])


SEEN = {}


def of(aggregate):
    return Scenario(
        name="tests:mine",
        register=lambda options: options.projections.aggregate_streams_with(aggregate),
        decide=lambda draw: Counted(draw.randint(1, 9)),
    )


def test_a_scenario_of_ones_own_is_ten_lines():
    run = simulate(of(Sum), seed=1)
    assert "commits 'Sum'" in "\n".join(run.trace)


def test_a_projection_that_remembers_too_much_is_found_out():
    SEEN.clear()
    with pytest.raises(SimulationError) as caught:  # noqa: PT012  one of few seeds will do
        for seed in range(20):
            simulate(of(HastySum), seed=seed)
    assert caught.value.violation.law == "agreement"
    story = str(caught.value)
    assert story.startswith("agreement: 'HastySum' ")
    assert story.endswith(f"flowstore sim --seed {caught.value.seed} --scenario tests:mine")
    assert caught.value.trace[-1].endswith(caught.value.violation.what)


def test_what_a_writer_does_wrong_ends_the_run():
    async def write(writer):
        raise ZeroDivisionError("mine")

    with pytest.raises(SimulationError, match=r"scenario: writer-[123]: ZeroDivisionError: mine"):
        simulate(attrs.evolve(of(Sum), write=write), seed=1)


@attrs.define
class Picky(Sum):
    def apply(self, event: Counted) -> None:
        if event.amount == 9:
            raise ValueError("no nines")
        self.total += event.amount


def test_a_shard_that_sets_aside_what_it_refuses_stands_in_no_ones_way():
    run = simulate(of(Picky), seed=1)
    assert "of 'Picky': no nines" in "\n".join(run.trace)


def test_a_shard_that_stands_still_is_a_violation():
    stopping = AsyncOptions(on_error="stop")

    def register(options):
        options.projections.aggregate_streams_with(Picky, async_options=stopping)

    with pytest.raises(SimulationError, match="liveness: no shard may stand still for ever"):
        simulate(attrs.evolve(of(Picky), register=register), seed=1)


def test_tasks_that_spin_are_stopped():
    async def spin(writer):
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(SimulationError, match="liveness: tasks wake each other for ever"):
        simulate(attrs.evolve(of(Sum), write=spin), seed=1)
