"""What every benchmark script shares: fair rounds, medians, ratios, a table, and JSON.

A script describes its cases and leaves the rest to this:

    from _report import Case, measure, publish

    async def main():
        results = await measure([Case("ours", ours, count=100_000), Case("plain", plain, count=100_000)])
        publish("channels", results, ratios=[("ours", "plain")])

    trio.run(main)

Cases take turns within a round, so that whatever slows the machine down slows them all; a ratio is
the median of the rounds' own ratios.
"""

import argparse
import inspect
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from pathlib import Path

import attrs

LEAST_ROUNDS = 5
PACKAGES = ("flowstore", "trio", "psycopg", "attrs", "cattrs", "msgspec")


@attrs.frozen
class Case:
    """One thing to measure.

    Attributes:
        name: what the table calls it.
        run: does it once; plain or async. Its time is taken, unless it returns a `Measured`.
        count: how many items one run handles.
        unit: what an item is.
        prepare: is awaited or called before each run, outside the time taken; None if not needed.
    """

    name: str
    run: Callable[[], Awaitable[object] | object]
    count: int
    unit: str = "events"
    prepare: Callable[[], Awaitable[object] | object] | None = None


@attrs.frozen
class Measured:
    """A run's own measure, where a start that nobody asks about would be timed with it.

    Attributes:
        seconds: what the run took.
    """

    seconds: float


@attrs.frozen
class Result:
    """The times of one case.

    Attributes:
        name: the case's name.
        count: how many items one run handled.
        unit: what an item is.
        seconds: each round's time, in the order of the rounds.
    """

    name: str
    count: int
    unit: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median time, in seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Items a second, at the median time."""
        return self.count / self.median


async def measure(
    cases: Sequence[Case], rounds: int = LEAST_ROUNDS, warm_up: int = 1
) -> list[Result]:
    """Run all cases in turns, and return their times; the warm-up rounds aren't counted.

    Raises:
        ValueError: fewer than five rounds, or no case.
    """
    if rounds < LEAST_ROUNDS or not cases:
        raise ValueError(f"{rounds} rounds of {len(cases)} cases: at least {LEAST_ROUNDS} of 1")
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    if len(seconds) < len(cases):
        raise ValueError(f"two cases have one name: {[case.name for case in cases]}")
    for number in range(-warm_up, rounds):
        for case in cases:
            taken = await _time(case)
            if number >= 0:
                seconds[case.name].append(taken)
    return [Result(case.name, case.count, case.unit, tuple(seconds[case.name])) for case in cases]


def ratio(results: Sequence[Result], over: str, under: str) -> float:
    """Say how many times as fast the first case is as the second, by items a second.

    Raises:
        KeyError: no case has such a name.
    """
    by_name = {result.name: result for result in results}
    first, second = by_name[over], by_name[under]
    return statistics.median(
        (first.count / mine) / (second.count / theirs)
        for mine, theirs in zip(first.seconds, second.seconds, strict=True)
    )


def publish(
    title: str,
    results: Sequence[Result],
    ratios: Sequence[tuple[str, str]] = (),
    notes: dict[str, object] | None = None,
) -> None:
    """Print the table, and the JSON below it or, with `--json FILE`, into a file.

    Args:
        title: what was measured.
        results: what `measure` returned.
        ratios: pairs of names; each is told as "first over second".
        notes: whatever else a reader must know: the server's version, page sizes.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON into this file")
    target: Path | None = parser.parse_known_args()[0].json
    told = [(over, under, ratio(results, over, under)) for over, under in ratios]
    print(table(title, results, told))
    document = json.dumps(
        {
            "title": title,
            "machine": machine(),
            "versions": versions(),
            "notes": notes or {},
            "results": [
                {**attrs.asdict(each), "median": each.median, "rate": each.rate} for each in results
            ],
            "ratios": [{"over": o, "under": u, "ratio": value} for o, u, value in told],
        },
        default=str,
    )
    if target is None:
        print(f"\n{document}")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{document}\n", encoding="utf-8")


def table(
    title: str, results: Sequence[Result], ratios: Sequence[tuple[str, str, float]] = ()
) -> str:
    """Lay the results out, a line each: median, spread, rate; then the ratios."""
    width = max(len(result.name) for result in results)
    lines = [title, f"{'':{width}}  {'median':>10}  {'fastest':>10}  {'slowest':>10}  rate"]
    lines += [
        f"{each.name:{width}}  {each.median:9.4f}s  {min(each.seconds):9.4f}s"
        f"  {max(each.seconds):9.4f}s  {each.rate:,.0f} {each.unit}/s"
        for each in results
    ]
    lines += [f"{over} is {value:.2f} times as fast as {under}" for over, under, value in ratios]
    rounds = len(results[0].seconds)
    lines.append(f"medians of {rounds} rounds in turns, on {os.cpu_count()} processors")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """Describe where this runs."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
    }


def versions() -> dict[str, str]:
    """List the versions of Python and of the packages that matter, where they are installed."""
    found = {"python": platform.python_version(), "implementation": sys.implementation.name}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


async def _time(case: Case) -> float:
    if case.prepare is not None:
        await _finish(case.prepare())
    begin = time.perf_counter()
    outcome = await _finish(case.run())
    taken = time.perf_counter() - begin
    return outcome.seconds if isinstance(outcome, Measured) else taken


async def _finish(outcome: object) -> object:
    return await outcome if inspect.isawaitable(outcome) else outcome


def _processor() -> str:
    """Read the processor's name; Linux tells it in a file, others in the platform module."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
