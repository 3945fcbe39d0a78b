"""`flowstore sim`: what it prints, what it refuses, and its exit status."""

import os
import re
import subprocess
import sys

import pytest

MODULE = """
import attrs
from flowstore.testing import default_scenario, Scenario

fine = attrs.evolve(default_scenario(), turns=2, duration=0.3)
no_scenario = 7


def impatient():
    return attrs.evolve(fine, heal_within=0.001)


def failing():
    raise LookupError("not today")
"""


@pytest.fixture
def sim(tmp_path):
    (tmp_path / "played.py").write_text(MODULE, encoding="utf-8")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "flowstore.cli", "sim", *map(str, arguments)],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )

    return run


def test_one_seed_prints_all_that_happened(sim):
    done = sim("--scenario", "played:fine", "--seed", 3)
    assert (done.returncode, done.stderr) == (0, "")
    *trace, empty, summary = done.stdout.splitlines()
    assert all(re.match(r" *\d+\.\d{4}  ", line) for line in trace)
    assert any("PEACE" in line for line in trace)
    assert empty == ""
    assert re.fullmatch(r"seed 3: every law holds; \d+ events, .* s of virtual time", summary)


def test_seeds_are_counted_with_what_befell_them(sim):
    done = sim("--scenario", "played:fine", "--seeds", 12, "--first", 100, "--jobs", 1)
    assert (done.returncode, done.stderr) == (0, "")
    told = r"12 seeds, from 100 on: every law holds; \d+ events, \d+ crashes, .*, \d+\.\d s\n"
    assert re.fullmatch(told, done.stdout)


def test_processes_that_share_seeds_find_what_one_finds(sim):
    one, several = [
        sim("--scenario", "played:fine", "--seeds", 52, "--jobs", jobs).stdout for jobs in (1, 2)
    ]
    assert one.startswith("52 seeds, from 0 on: every law holds")
    assert several.rpartition(",")[0] == one.rpartition(",")[0]


def test_seeds_that_fail_are_named_and_the_first_are_told_of(sim):
    done = sim("--scenario", "played:impatient", "--seeds", 6)
    assert (done.returncode, done.stderr) == (1, "")
    *_, last = done.stdout.splitlines()
    found = re.fullmatch(r"(\d) of 6 seeds break a law \(.* s\): ([\d, ]+)", last)
    numbers = found[2].split(", ")
    assert len(numbers) == int(found[1]) > 3
    told = re.findall(
        r"again with: flowstore sim --seed (\d+) --scenario played:impatient", done.stdout
    )
    assert told == numbers[:3]


def test_processes_bring_their_stories_home(sim):
    one, several = [
        sim("--scenario", "played:impatient", "--seeds", 52, "--jobs", jobs).stdout
        for jobs in (1, 2)
    ]
    assert " seeds break a law " in one
    assert re.sub(r"[\d.]+ s\)", "", several) == re.sub(r"[\d.]+ s\)", "", one)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("nowhere", "is neither 'default' nor MODULE:ATTRIBUTE"),
        ("nowhere:it", "ModuleNotFoundError: No module named 'nowhere'"),
        ("played:nothing", "AttributeError"),
        ("played:no_scenario", "is a int: name a Scenario"),
        ("played:failing", "LookupError: not today"),
    ],
)
def test_a_scenario_that_is_none_is_refused_in_a_line(sim, named, told):
    done = sim("--scenario", named, "--seeds", 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flowstore sim: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
