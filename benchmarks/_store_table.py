"""The store benchmark's report: what isn't a rate in tables of its own, and all of it as JSON."""

import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import attrs
from _blocks_table import Outcome
from _report import machine, versions
from _store_flat import Flat
from _store_latency import PLACES, RATE, LatencyResult

PACKAGES = ("eventsourcing", "psycopg-binary", "psycopg-pool")
MEBIBYTE = 1 << 20
HELD = ("held before, MiB", "at a tenth", "at the half", "at the end", "peak")


def told_latency(found: Sequence[LatencyResult]) -> str:
    """Lay out how late projections were."""
    width = max(len(each.name) for each in found)
    heads = "".join(f" {place}, ms |" for place in PLACES)
    lines = [
        f"### From an append's return to its document's commit, at {RATE} appends a second\n",
        f"| {'case':{width}} |{heads} remark |",
        f"|:{'-' * width}-|{'-------:|' * len(PLACES)}:-------|",
    ]
    for each in found:
        places = "".join(f" {each.medians[place]:7.2f} |" for place in PLACES)
        lines.append(f"| {each.name:{width}} |{places} {each.remark} |")
    return "\n".join(lines)


def told_flat(found: Sequence[Flat]) -> str:
    """Lay out speed and memory by the history's length and shape."""
    width = max(len(each.result.name) for each in found)
    lines = [
        "### Catching up by a process of its own: speed and memory by the history\n",
        f"| {'history':{width}} | events/s | slowest to fastest |{''.join(f' {each} |' for each in HELD)}",
        f"|:{'-' * width}-|-----:|-----:|-----:|-----:|-----:|-----:|-----:|",
    ]
    for each in found:
        slowest, fastest = (each.result.count / pick(each.result.seconds) for pick in (max, min))
        sizes = (each.before, *_places(each.throughout), each.peak)
        cells = "".join(f" {size / MEBIBYTE:.0f} |" for size in sizes)
        lines.append(
            f"| {each.result.name:{width}} | {each.result.rate:,.0f}"
            f" | {slowest:,.0f} - {fastest:,.0f} |{cells}"
        )
    return "\n".join(lines)


def _places(throughout: Sequence[int]) -> tuple[int, int, int]:
    return throughout[0], throughout[len(throughout) // 2], throughout[-1]


def told_machine(notes: dict[str, Any]) -> str:
    """Say where this ran, and with which versions."""
    where = machine()
    packages = ", ".join(f"{name} {version}" for name, version in all_versions().items())
    server = ", ".join(f"{name} {value}" for name, value in notes["server"].items())
    load = os.getloadavg()[0]
    return (
        f"{where['processor']}, {where['processors']} processors, {where['system']}, load {load:.1f}"
        f" at the end; {server}; {packages}"
    )


def all_versions() -> dict[str, str]:
    """List the versions of everything that was compared, where it is installed."""
    found = versions()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def document(
    outcomes: Sequence[Outcome],
    late: Sequence[LatencyResult],
    flat: Sequence[Flat],
    skipped: Sequence[str],
    notes: dict[str, Any],
) -> dict[str, Any]:
    """Put everything into one value that JSON can hold."""
    return {
        "title": "flowstore's store and daemon, and their peers",
        "machine": machine(),
        "versions": all_versions(),
        "notes": notes,
        "skipped": list(skipped),
        "workloads": [_workload(outcome) for outcome in outcomes],
        "latency": [{**attrs.asdict(each), "medians": each.medians} for each in late],
        "flat": [{**attrs.asdict(each), "rate": each.result.rate} for each in flat],
    }


def _workload(outcome: Outcome) -> dict[str, Any]:
    return {
        "key": outcome.key,
        "title": outcome.title,
        "base": outcome.base,
        "results": [
            {
                **attrs.asdict(result),
                "median": result.median,
                "rate": result.rate,
                "ratio": outcome.ratio(result.name),
                "remark": outcome.remarks[result.name],
            }
            for result in outcome.results
        ],
    }
