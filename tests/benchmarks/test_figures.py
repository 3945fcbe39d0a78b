"""What the pages say of speed is what the stored report says; how fast it is is nobody's test."""

import copy
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def report():
    return json.loads((FOLDER / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scripts():
    """Load the modules that draw, as the script does."""
    loaded = {}
    for name in ("_aims", "draw"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    yield loaded
    for name in loaded:
        del sys.modules[name]


@pytest.fixture
def draw(scripts):
    return scripts["draw"]


@pytest.fixture
def aims(scripts):
    return scripts["_aims"]


def test_the_page_and_its_charts_are_of_the_stored_report(draw, report):
    assert (FOLDER / "report.md").read_text(encoding="utf-8") == draw.page(report)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("charts/*.svg")}
    assert drawn == draw.charts(report)


def test_the_readme_shows_the_figures_of_the_stored_report(draw, report):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert draw.with_figures(readme, report) == readme
    assert len(draw.headlines(report)) > 5


def test_a_readme_without_marks_is_refused(draw, report):
    for text in ("", draw.BEGIN, f"{draw.END} {draw.BEGIN}"):
        with pytest.raises(ValueError, match="put both where the figures shall stand"):
            draw.with_figures(text, report)


def test_whatever_was_aimed_at_is_told_as_met_or_not(aims, report):
    told = "\n".join(aims.table(report))
    measured = [aim for aim in aims.AIMS if aim.find(report) is not None]
    assert told.count("| yes |") + told.count("| **no** |") == len(measured)


def test_an_aim_is_a_ratio_of_rounds_of_the_same_run(aims, report):
    (aim,) = [aim for aim in aims.AIMS if aim.told == "import"]
    slower = copy.deepcopy(report)
    for workload in slower["workloads"]:
        for result in workload["results"]:
            if (workload["key"], result["name"]) == ("import", "flowstore"):
                result["seconds"] = [2 * each for each in result["seconds"]]
    assert aim.find(slower) == pytest.approx(aim.find(report) / 2)


def test_bounds_are_the_least_or_the_most(aims):
    by_name = {aim.told: aim for aim in aims.AIMS}
    fast, late = by_name["import"], by_name["latency of ten shards, p99"]
    assert [fast.is_met(found) for found in (0.59, 0.6, 0.61)] == [False, True, True]
    assert [late.is_met(found) for found in (14.9, 15, 15.1)] == [True, True, False]


def test_what_a_report_lacks_is_not_told(aims, report):
    nothing = {**report, "workloads": [], "latency": [], "flat": []}
    assert aims.table(nothing) == aims.table(report)[:2]


def test_length_and_shape_are_compared_with_the_usual_history(aims):
    def flat(events, streams, rate, mebibytes):
        name = f"{events:,} events in {streams:,} streams"
        return {"result": {"name": name}, "rate": rate, "peak": mebibytes << 20}

    found = {
        "notes": {"history": {"events": 2_000, "streams": 10}},
        "flat": [
            flat(2_000, 10, 100.0, 50),
            flat(2_000, 1_000, 60.0, 70),
            flat(20_000, 10, 90.0, 60),
        ],
    }
    by_name = {aim.told: aim.find for aim in aims.AIMS}
    assert by_name["a history of ten times the length"](found) == pytest.approx(0.9)
    assert by_name["a stream for every two events"](found) == pytest.approx(0.6)
    assert by_name["most memory held, catching up"](found) == 70


def test_two_processes_stand_beside_one_in_place_and_one_that_does_the_same(aims, report):
    def result(name, seconds):
        return {"name": name, "count": 10, "seconds": seconds}

    def found(key):
        workload = {
            "key": key,
            "results": [
                result("flowstore", [3.0, 4.0]),
                result("flowstore, beside the view", [6.0, 8.0]),
                result("flowstore, two processes", [2.0, 2.0]),
            ],
        }
        of = {**report, "workloads": [workload], "latency": [], "flat": []}
        return [(aim.told, aim.find(of)) for aim in aims.AIMS if aim.find(of) is not None]

    usual, long = found("rebuild"), found("rebuild, long")
    assert usual == [("rebuild by two processes", value) for value in (1.75, 3.5)]
    assert long == [
        ("rebuild of ten times the length by two processes", value) for value in (1.75, 3.5)
    ]
