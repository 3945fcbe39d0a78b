"""Daemons that are known to be wrong: the simulation finds each of them out, and within few seeds.

A suite that can't fail proves nothing.
"""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from flowstore.testing import Faults, SimulationError, simulate
from tests.testing.broken_daemons import MUTANTS, no_epoch, no_floor_guard

SEEDS = range(200)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table(request):
    rows = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        lines = [f"{mutant:<26}{seeds:>13}  {law}" for mutant, seeds, law in rows]
        told = "\n".join(["mutant                    seeds it took  law", *lines])
        print(f"\n\n{told}")  # noqa: T201  it is for whoever runs the tests


def first_violation(scenario):
    """Run seeds until one breaks a law; give how many it took, and the error."""
    for count, seed in enumerate(SEEDS, 1):
        try:
            simulate(scenario, seed=seed)
        except SimulationError as error:
            return count, error
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_finds_out(mutant, monkeypatch, table):
    mutant.breaks(monkeypatch)
    found = first_violation(mutant.scenario())
    assert found, f"{len(SEEDS)} seeds, and nobody noticed: {mutant.breaks.__doc__}"
    count, error = found
    table.append((mutant.name, count, error.violation.law))
    assert error.violation.law in mutant.laws, str(error)
    assert len(str(error).splitlines()) <= 60, "that is no short story"


def test_who_lost_a_lease_and_goes_on_is_found_out(monkeypatch):
    no_epoch.breaks(monkeypatch)
    freezing = Faults(freezes=8, longest_freeze=2.0)
    scenario = attrs.evolve(no_epoch.scenario(), hot_cold=1.0, faults=freezing)
    _, error = first_violation(scenario)
    assert error.violation.law == "one owner"


def test_a_seed_that_fails_is_run_again_by_the_command_that_it_names(monkeypatch):
    no_floor_guard.breaks(monkeypatch)
    _, error = first_violation(no_floor_guard.scenario())
    command = str(error).splitlines()[-1].split("again with: ")[1].split()
    assert command[0] == "flowstore"
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", *command[1:]],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == "\n".join([*error.trace, "", str(error), ""])
