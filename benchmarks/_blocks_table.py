"""The block benchmark's report: a table a workload, in Markdown, and JSON."""

import argparse
import json
import os
from collections.abc import Sequence
from importlib import metadata

import attrs
from _blocks_kinds import Memory
from _report import Result, machine, ratio, versions

PACKAGES = ("anyio", "aiostream", "streamz", "reactivex", "bytewax")


@attrs.frozen
class Outcome:
    """The results of one workload.

    Attributes:
        key: the workload's short name.
        title: what was done.
        base: the name of the case that is 1.0.
        results: one a case.
        remarks: what a reader must know, by the case's name.
    """

    key: str
    title: str
    base: str
    results: Sequence[Result]
    remarks: dict[str, str]

    def ratio(self, name: str, over: str | None = None) -> float:
        """Say how many times as fast as another case, the base by default, a case is."""
        return ratio(self.results, name, over or self.base)

    def has(self, name: str | None) -> bool:
        """Tell whether a case was measured; None is the base."""
        return name is None or any(result.name == name for result in self.results)


@attrs.frozen
class Target:
    """How fast a case is meant to be.

    Attributes:
        workload: the workload's key.
        name: the case.
        least: times the other case.
        over: the other case; None: the workload's base.
    """

    workload: str
    name: str
    least: float
    over: str | None = None


def told(outcome: Outcome) -> str:
    """Lay a workload's results out, the fastest first."""
    width = max(len(result.name) for result in outcome.results)
    lines = [
        f"### {outcome.title}\n",
        f"| {'case':{width}} | times the base |    items/s | slowest to fastest | remark |",
        f"|:{'-' * width}-|---------------:|-----------:|-------------------:|:-------|",
    ]
    for result in sorted(outcome.results, key=lambda each: -each.rate):
        slowest, fastest = (result.count / pick(result.seconds) for pick in (max, min))
        times = f"{outcome.ratio(result.name):.2f}"
        spread = f"{slowest:,.0f} - {fastest:,.0f}"
        remark = outcome.remarks[result.name] or ("the base" * (result.name == outcome.base))
        lines.append(
            f"| {result.name:{width}} | {times:>14} | {result.rate:>10,.0f} | {spread} | {remark} |"
        )
    return "\n".join(lines)


def told_memory(found: Sequence[Memory]) -> str:
    """Lay out how memory grew."""
    width = max(len(each.name) for each in found)
    lines = [
        f"### Memory held while {found[0].items:,} items pass\n",
        f"| {'kind':{width}} | resident memory grew by, KiB | objects grew by |",
        f"|:{'-' * width}-|{'-' * 28}-:|{'-' * 16}:|",
    ]
    for each in found:
        grown = "unknown" if each.resident_growth is None else f"{each.resident_growth // 1024:,}"
        lines.append(f"| {each.name:{width}} | {grown:>28} | {each.objects_growth:>15,} |")
    return "\n".join(lines)


def told_targets(targets: Sequence[Target], outcomes: Sequence[Outcome]) -> str:
    """Say of every target whether it was met."""
    by_key = {outcome.key: outcome for outcome in outcomes}
    lines = [
        "### Targets\n",
        "| workload | case | over | at least | measured | met |",
        "|:---------|:-----|:-----|---------:|---------:|:----|",
    ]
    for target in targets:
        outcome = by_key.get(target.workload)
        if outcome is not None and outcome.has(target.over):
            found = outcome.ratio(target.name, target.over)
            met = "yes" if found >= target.least else "no"
            lines.append(
                f"| {target.workload} | {target.name} | {target.over or outcome.base}"
                f" | {target.least:g} | {found:.2f} | {met} |"
            )
    return "\n".join(lines)


def told_machine() -> str:
    """Say where this ran, and with which versions."""
    where = machine()
    packages = ", ".join(f"{name} {version}" for name, version in all_versions().items())
    load = os.getloadavg()[0]
    return (
        f"{where['processor']}, {where['processors']} processors, {where['system']}, load {load:.1f}"
        f" at the end; {packages}"
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
    outcomes: Sequence[Outcome], found: Sequence[Memory], skipped: Sequence[str]
) -> dict[str, object]:
    """Put everything into one value that JSON can hold."""
    return {
        "title": "flowstore.blocks and its peers",
        "machine": machine(),
        "versions": all_versions(),
        "skipped": list(skipped),
        "workloads": [
            {
                "key": outcome.key,
                "title": outcome.title,
                "base": outcome.base,
                "results": [_plain(outcome, result) for result in outcome.results],
            }
            for outcome in outcomes
        ],
        "memory": [attrs.asdict(each) for each in found],
    }


def write(content: dict[str, object], arguments: argparse.Namespace) -> None:
    """Print the JSON, or write it into the file that was asked for."""
    text = json.dumps(content)
    if arguments.json is None:
        print(f"\n{text}")
    else:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _plain(outcome: Outcome, result: Result) -> dict[str, object]:
    return {
        **attrs.asdict(result),
        "median": result.median,
        "rate": result.rate,
        "ratio": outcome.ratio(result.name),
        "remark": outcome.remarks[result.name],
    }
