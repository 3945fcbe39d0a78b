"""The benchmark scripts run, and report what they promise; how fast they are is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKLOADS = ["chain", "async chain", "hop", "parallel", "pair", "send", "two tasks", "kinds"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Run the block benchmark with few items: what it printed, and its JSON."""
    target = tmp_path_factory.mktemp("report") / "deep" / "blocks.json"
    script = [sys.executable, "benchmarks/blocks.py", "--quick", "--json", str(target)]
    done = subprocess.run(script, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(target.read_text(encoding="utf-8"))


def rows(printed, title):
    """Read the table under a heading: its rows, each a list of cells."""
    lines = printed.partition(f"### {title}\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_workload_has_a_table_whose_base_is_one(report):
    printed, document = report
    assert [workload["key"] for workload in document["workloads"]] == WORKLOADS
    for workload in document["workloads"]:
        head, rule, *cases = rows(printed, workload["title"])
        assert head == ["case", "times the base", "items/s", "slowest to fastest", "remark"]
        assert all(set(cell) <= set(":-") for cell in rule)
        by_name = {name: times for name, times, *_ in cases}
        assert by_name.keys() == {result["name"] for result in workload["results"]}
        assert by_name[workload["base"]] == "1.00"


def test_blocks_stand_beside_channels_in_every_workload(report):
    _, document = report
    for workload in document["workloads"]:
        assert "trio" in workload["base"]
        names = [result["name"] for result in workload["results"]]
        assert any("flowstore" in name or "Block" in name for name in names)


def test_every_result_is_of_at_least_five_rounds(report):
    _, document = report
    results = [result for workload in document["workloads"] for result in workload["results"]]
    assert all(len(result["seconds"]) >= 5 for result in results)


def test_memory_is_watched_for_every_kind_of_block(report):
    printed, document = report
    kinds = document["workloads"][-1]
    watched = [each["name"] for each in document["memory"]]
    assert watched == [each["name"] for each in kinds["results"] if each["name"] != kinds["base"]]
    [title] = [line for line in printed.splitlines() if line.startswith("### Memory held")]
    assert [row[0] for row in rows(printed, title.removeprefix("### "))[2:]] == watched


def test_every_target_says_whether_it_was_met(report):
    printed, _ = report
    _, _, *targets = rows(printed, "Targets")
    assert len(targets) >= 6
    assert all(row[-1] in {"yes", "no"} for row in targets)


def test_a_peer_is_compared_or_skipped_with_a_line(report):
    printed, document = report
    assert all(line in printed for line in document["skipped"])
    names = [result["name"].lower() for result in document["workloads"][0]["results"]]
    for peer in ("anyio", "aiostream", "streamz", "reactivex", "bytewax"):
        skipped = any(line.startswith(f"skipped {peer}:") for line in document["skipped"])
        assert skipped != any(peer in name for name in names)


def test_the_report_names_machine_and_versions(report):
    _, document = report
    assert document["machine"]["processors"]
    assert {"python", "trio", "flowstore"} <= document["versions"].keys()
