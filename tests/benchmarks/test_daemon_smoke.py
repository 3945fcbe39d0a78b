"""The daemon benchmark runs, and reports what it promises; how fast it is is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = [
    "append, 1 a commit",
    "append, 10 a commit",
    "append, 100 a commit",
    "project",
    "rebuild",
    "save to projected",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory, pg_dsn):
    """Run the benchmark with few events on the tests' server: what it printed, and its JSON."""
    target = tmp_path_factory.mktemp("report") / "daemon.json"
    script = [sys.executable, "benchmarks/daemon.py", "--quick", "--dsn", pg_dsn]
    done = subprocess.run(
        [*script, "--json", str(target)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(target.read_text(encoding="utf-8"))


def test_every_case_stands_beside_its_raw_limit(report):
    printed, document = report
    names = [result["name"] for result in document["results"]]
    assert names == [name for case in CASES for name in (case, f"{case}, raw")]
    assert all(f"\n{name} " in printed for name in names)


def test_every_case_is_told_as_a_ratio_of_the_same_rounds(report):
    _, document = report
    assert [each["over"] for each in document["ratios"]] == CASES
    assert all(each["under"] == f"{each['over']}, raw" for each in document["ratios"])
    assert all(len(result["seconds"]) >= 5 for result in document["results"])


def test_latency_has_its_percentiles(report):
    printed, document = report
    for places in document["notes"]["latency, in ms"].values():
        assert 0 < places["p50"] <= places["p99"]
    assert "times raw" in printed


def test_the_report_names_the_server_and_what_makes_it_fast(report):
    _, document = report
    assert {"server_version", "fsync"} <= document["notes"]["server"].keys()


def test_no_schema_is_left_behind(report, admin):
    left = admin.execute("select nspname from pg_namespace where nspname like 'flowstore_bench%'")
    assert left.fetchall() == []
