"""The store benchmark runs, and reports what it promises; how fast it is is nobody's test."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
WORKLOADS = [
    "append 1",
    "append 10",
    "append 100",
    "append 1, 8 writers",
    "append 10, 8 writers",
    "import",
    "read",
    "fold",
    "catch up",
    "rebuild",
    "continuous",
    "ten shards",
    "start",
]
LIMITS = {
    **{key: {"bare INSERT, psycopg", "message-db's function, psycopg"} for key in WORKLOADS[:5]},
    "import": {"COPY, psycopg"},
    "read": {"psycopg, text", "psycopg, decoded"},
    "fold": {"json, cattrs hooks", "msgspec"},
    "catch up": {"loop by hand, one commit", "one SQL statement"},
    "rebuild": {"loop by hand, one commit"},
    "continuous": {"loop by hand, a commit every 2,000"},
    "ten shards": {"flowstore, ten shards"},
    "start": {"flowstore --help"},
}


def run(*command):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory, pg_dsn):
    """Run the benchmark with few events on the tests' server: what it printed, and its JSON."""
    target = tmp_path_factory.mktemp("report") / "store.json"
    printed = run("benchmarks/store.py", "--quick", "--dsn", pg_dsn, "--json", str(target))
    return printed, json.loads(target.read_text(encoding="utf-8")), target


def test_every_workload_stands_beside_its_limits(report):
    _, document, _ = report
    assert [workload["key"] for workload in document["workloads"]] == WORKLOADS
    for workload in document["workloads"]:
        names = {result["name"] for result in workload["results"]}
        assert "flowstore" in workload["base"]
        assert LIMITS[workload["key"]] <= names


def test_every_result_is_of_at_least_five_rounds(report):
    _, document, _ = report
    for workload in document["workloads"]:
        assert all(len(result["seconds"]) >= 5 for result in workload["results"])
    assert all(len(each["rounds"]) >= 5 for each in document["latency"])
    assert all(len(each["result"]["seconds"]) >= 5 for each in document["flat"])


def test_a_peer_is_compared_or_skipped_with_a_line(report):
    printed, document, _ = report
    assert all(f"\n{line}" in printed for line in document["skipped"])
    names = {result["name"] for each in document["workloads"] for result in each["results"]}
    for peer in ("eventsourcing", "Emmett", "pgbench"):
        skipped = any(line.startswith(f"skipped {peer}") for line in document["skipped"])
        assert skipped != any(name.startswith(peer) for name in names)


def test_a_case_that_handles_fewer_events_says_so(report):
    _, document, _ = report
    for workload in document["workloads"]:
        usual = workload["results"][0]["count"]
        for result in workload["results"]:
            told = f"({result['count']:,} events a round, not {usual:,})" in result["remark"]
            assert told == (result["count"] != usual)


def test_latency_has_its_percentiles(report):
    printed, document, _ = report
    names = [each["name"] for each in document["latency"]]
    assert names[:3] == [
        "flowstore, same process",
        "flowstore, other process",
        "flowstore, ten shards",
    ]
    for each in document["latency"]:
        assert each["medians"]["p50"] <= each["medians"]["p99"]
        assert f"| {each['name']} " in printed


def test_memory_is_told_by_shape_of_the_history(report):
    _, document, _ = report
    assert len(document["flat"]) == 3
    for each in document["flat"]:
        assert 0 < each["before"] <= each["peak"]
        assert len(each["throughout"]) >= 1


def test_charts_and_page_are_drawn_of_the_report(report):
    _, document, target = report
    run("benchmarks/draw.py", str(target))
    page = target.with_suffix(".md").read_text(encoding="utf-8")
    charts = sorted(target.with_name("charts").iterdir())
    assert len(charts) == len(WORKLOADS) + 3
    for chart in charts:
        ET.parse(chart)
        assert f"](charts/{chart.name})" in page
    for workload in document["workloads"]:
        assert all(f"| {result['name']} |" in page for result in workload["results"])


def test_a_long_history_is_caught_up_and_rebuilt_where_asked_for(tmp_path, pg_dsn):
    target = tmp_path / "long.json"
    options = ("--quick", "--long", "--only", "flat", "rebuild, long", "--json", str(target))
    run("benchmarks/store.py", "--dsn", pg_dsn, *options)
    document = json.loads(target.read_text(encoding="utf-8"))
    usual, *_, long = [each["result"]["count"] for each in document["flat"]]
    assert long == 10 * usual
    (workload,) = document["workloads"]
    names = ["flowstore", "flowstore, beside the view", "flowstore, two processes"]
    assert [result["name"] for result in workload["results"]] == names
    assert all(result["count"] == long for result in workload["results"])
    run("benchmarks/draw.py", str(target))
    told = target.with_suffix(".md").read_text(encoding="utf-8")
    assert told.count("| rebuild of ten times the length by two processes |") == 2


def test_the_report_names_the_server_and_what_makes_it_fast(report):
    _, document, _ = report
    server = document["notes"]["server"]
    assert {"server_version", "fsync", "synchronous_commit"} <= server.keys()


def test_no_database_is_left_behind(report, admin):
    left = admin.execute("select datname from pg_database where datname = 'flowstore_bench'")
    assert left.fetchall() == []


# -- what it works on ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work():
    """Load the workload's module, as the script does."""
    spec = importlib.util.spec_from_file_location("_store_work", ROOT / "benchmarks/_store_work.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["_store_work"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_store_work"]


@pytest.mark.parametrize("streams", [1, 20, 2_000])
def test_a_history_has_exactly_the_events_and_streams_that_were_asked_for(work, streams):
    facts = list(work.history(2_000, streams))
    assert len(facts) == 2_000
    assert len({stream_id for stream_id, _ in facts}) == streams
    assert facts == list(work.history(2_000, streams))


def test_a_history_is_interleaved(work):
    facts = list(work.history(2_000, 20))
    alike = sum(one[0] == other[0] for one, other in pairwise(facts))
    assert alike < 1_000


@pytest.mark.parametrize("key", WORKLOADS[:5])
def test_commits_are_of_one_stream_and_streams_of_one_writer(work, key):
    append, shares = work.APPENDS[key], work.commits(key, 2_000, 1)
    assert len(shares) == append.writers
    assert sum(len(batch.events) for share in shares for batch in share) == 2_000
    owners = Counter(stream for share in shares for stream in {each.stream_id for each in share})
    assert set(owners.values()) == {1}
    for share in shares:
        versions = Counter()
        for batch in share:
            assert len(batch.events) == append.per_commit
            assert batch.version == versions[batch.stream_id]
            versions[batch.stream_id] += append.per_commit
