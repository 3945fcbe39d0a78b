"""What was aimed at, beside what a report found, and the few figures that the README shows.

Computed from the report alone, so that no figure is copied by hand.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

Report = Mapping[str, Any]


@attrs.frozen
class Aim:
    """One thing that was aimed at.

    Attributes:
        told: what is done.
        beside: what it is compared with.
        bound: what was aimed at; at least that, or at most.
        find: takes the figure out of a report; None: that report didn't measure it.
        at_most: whether less is better.
        unit: what stands behind figure and bound: nothing for a ratio.
    """

    told: str
    beside: str
    bound: float
    find: Callable[[Report], float | None]
    at_most: bool = False
    unit: str = ""

    def is_met(self, found: float) -> bool:
        """Tell whether the figure is what was aimed at."""
        return found <= self.bound if self.at_most else found >= self.bound


def _rate(workload: str, case: str, over: str) -> Callable[[Report], float | None]:
    """How many times as fast a case is as another: the median of the rounds' own ratios."""

    def find(report: Report) -> float | None:
        results = _results(report["workloads"], workload)
        if case not in results or over not in results:
            return None
        first, second = results[case], results[over]
        return statistics.median(
            (first["count"] / mine) / (second["count"] / theirs)
            for mine, theirs in zip(first["seconds"], second["seconds"], strict=True)
        )

    return find


def _results(workloads: Sequence[Any], key: str) -> dict[str, Any]:
    return {
        result["name"]: result
        for workload in workloads
        if workload["key"] == key
        for result in workload["results"]
    }


def _latency(case: str, place: str, over: str | None = None) -> Callable[[Report], float | None]:
    """A percentile in milliseconds, or how many times another case's it is."""

    def find(report: Report) -> float | None:
        medians = {each["name"]: each["medians"] for each in report["latency"]}
        if case not in medians or (over is not None and over not in medians):
            return None
        found = medians[case][place]
        return found if over is None else found / medians[over][place]

    return find


def _started(case: str) -> Callable[[Report], float | None]:
    """Milliseconds that a start takes."""

    def find(report: Report) -> float | None:
        results = _results(report["workloads"], "start")
        return 1000 / results[case]["rate"] if case in results else None

    return find


def _shape(report: Report, events: int, streams: int) -> Any | None:
    name = f"{events:,} events in {streams:,} streams"
    return next((each for each in report["flat"] if each["result"]["name"] == name), None)


def _ten_times_as_long(report: Report) -> float | None:
    events, streams = _history(report)
    usual, long = _shape(report, events, streams), _shape(report, events * 10, streams)
    return None if usual is None or long is None else long["rate"] / usual["rate"]


def _many_streams(report: Report) -> float | None:
    events, streams = _history(report)
    usual, many = _shape(report, events, streams), _shape(report, events, events // 2)
    return None if usual is None or many is None else many["rate"] / usual["rate"]


def _most_memory(report: Report) -> float | None:
    return max((each["peak"] / (1 << 20) for each in report["flat"]), default=None)


def _history(report: Report) -> tuple[int, int]:
    history = report["notes"]["history"]
    return history["events"], history["streams"]


_ONE, _EIGHT = "append, one a commit, one writer", "append, one a commit, eight writers"
_BARE, _ON_TRIO = "bare INSERT, psycopg", "bare INSERT, on trio"
_RUNNER = "eventsourcing's projection runner"
_FLUSH = "the loop by hand with one commit"
_PAGES = "the loop by hand that commits every 2,000 events"
_TWO, _SWAP = "flowstore, two processes", "flowstore, beside the view"
_LONG_BY_TWO = "rebuild of ten times the length by two processes"
_BESIDE = "by one, beside the view as well"
_SAME, _OTHER = "flowstore, same process", "flowstore, other process"
_THEIR_SAME, _THEIR_OTHER = "eventsourcing, same process", "eventsourcing, other process"

AIMS = (
    Aim(_ONE, _BARE, 0.8, _rate("append 1", "flowstore", _BARE)),
    Aim(_ONE, _ON_TRIO, 0.8, _rate("append 1", "flowstore", _ON_TRIO)),
    Aim(_ONE, "eventsourcing", 2, _rate("append 1", "flowstore", "eventsourcing")),
    Aim(_EIGHT, _BARE, 0.8, _rate("append 1, 8 writers", "flowstore", _BARE)),
    Aim(_EIGHT, _ON_TRIO, 0.8, _rate("append 1, 8 writers", "flowstore", _ON_TRIO)),
    Aim(_EIGHT, "eventsourcing", 3, _rate("append 1, 8 writers", "flowstore", "eventsourcing")),
    Aim("append, ten a commit", _BARE, 0.9, _rate("append 10", "flowstore", _BARE)),
    Aim("append, ten a commit", _ON_TRIO, 0.9, _rate("append 10", "flowstore", _ON_TRIO)),
    Aim("import", "COPY", 0.6, _rate("import", "flowstore", "COPY, psycopg")),
    Aim("rebuild", _FLUSH, 0.5, _rate("rebuild", "flowstore", "loop by hand, one commit")),
    Aim("rebuild by two processes", "by one", 1.4, _rate("rebuild", _TWO, "flowstore")),
    Aim("rebuild by two processes", _BESIDE, 1.4, _rate("rebuild", _TWO, _SWAP)),
    Aim(_LONG_BY_TWO, "by one", 1.4, _rate("rebuild, long", _TWO, "flowstore")),
    Aim(_LONG_BY_TWO, _BESIDE, 1.4, _rate("rebuild, long", _TWO, _SWAP)),
    Aim("catch up", _RUNNER, 100, _rate("catch up", "flowstore", "eventsourcing")),
    Aim(
        "a running daemon catches up",
        _PAGES,
        0.8,
        _rate("continuous", "flowstore", "loop by hand, a commit every 2,000"),
    ),
    Aim(
        "ten shards follow appends",
        "one shard",
        0.5,
        _rate("ten shards", "flowstore, ten shards", "flowstore, one shard"),
    ),
    Aim("latency, p50", _THEIR_SAME, 1, _latency(_SAME, "p50", _THEIR_SAME), at_most=True),
    Aim("latency, p99", _THEIR_SAME, 1, _latency(_SAME, "p99", _THEIR_SAME), at_most=True),
    Aim("latency, p50", _THEIR_OTHER, 1, _latency(_OTHER, "p50", _THEIR_OTHER), at_most=True),
    Aim("latency, p99", _THEIR_OTHER, 1, _latency(_OTHER, "p99", _THEIR_OTHER), at_most=True),
    Aim(
        "latency of ten shards, p99",
        "",
        15,
        _latency("flowstore, ten shards", "p99"),
        at_most=True,
        unit=" ms",
    ),
    Aim("a history of ten times the length", "the usual one", 0.85, _ten_times_as_long),
    Aim("a stream for every two events", "the usual history", 0.5, _many_streams),
    Aim("most memory held, catching up", "", 200, _most_memory, at_most=True, unit=" MiB"),
    Aim(
        "`import flowstore.blocks`",
        "",
        150,
        _started("import flowstore.blocks"),
        at_most=True,
        unit=" ms",
    ),
    Aim(
        "`from flowstore.blocks import *`",
        "",
        150,
        _started("from flowstore.blocks import *"),
        at_most=True,
        unit=" ms",
    ),
    Aim("`flowstore --help`", "", 300, _started("flowstore --help"), at_most=True, unit=" ms"),
)


def table(report: Report) -> list[str]:
    """Lay out the aims that a report can be held against, as Markdown."""
    lines = ["| work | beside | aimed at | found | met |", "|:--|:--|--:|--:|:--|"]
    for aim in AIMS:
        found = aim.find(report)
        if found is not None:
            bound = f"{'at most' if aim.at_most else 'at least'} {aim.bound:g}{aim.unit}"
            met = "yes" if aim.is_met(found) else "**no**"
            lines.append(
                f"| {aim.told} | {aim.beside or '-'} | {bound} | {_told(found)}{aim.unit} | {met} |"
            )
    return lines


def _told(found: float) -> str:
    """Give two significant digits below 10, and whole numbers from there on."""
    return f"{found:.0f}" if found >= 10 else f"{found:.2f}" if found < 1 else f"{found:.1f}"


_HEADLINES = (
    ("events folded into documents, progress committed", "catch up", "eventsourcing"),
    ("all of them again: rebuild", "rebuild", "loop by hand, one commit"),
    ("a running daemon catches up", "continuous", "loop by hand, a commit every 2,000"),
    ("append, one event a commit", "append 1", "eventsourcing"),
    ("append, one event a commit", "append 1", _BARE),
    ("append, eight writers at once", "append 1, 8 writers", "eventsourcing"),
    ("append, eight writers at once", "append 1, 8 writers", _BARE),
    ("bulk import", "import", "COPY, psycopg"),
)


def headlines(report: Report) -> list[str]:
    """Lay out the figures that the README shows, as Markdown: rates, and how they compare."""
    lines = ["| work | events/s | beside | times as fast |", "|:--|--:|:--|--:|"]
    for told, workload, over in _HEADLINES:
        found = _rate(workload, "flowstore", over)(report)
        if found is not None:
            ours = _results(report["workloads"], workload)["flowstore"]["rate"]
            lines.append(f"| {told} | {ours:,.0f} | {over} | {_told(found)} |")
    medians = {each["name"]: each["medians"] for each in report["latency"]}
    if _SAME in medians:
        places = ", ".join(f"{place} {value:.1f} ms" for place, value in medians[_SAME].items())
        lines += ["", f"From an append's return until its document is committed: {places}."]
    return lines
