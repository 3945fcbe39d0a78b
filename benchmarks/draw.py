"""Draw the charts of a report, and write the page that shows them.

    python benchmarks/draw.py benchmarks/report.json [--readme README.md]

Writes `report.md` beside the JSON of `store.py`, and a folder `charts` with one SVG a chart; with
`--readme` also the figures between the two marks in that file. The bars
are drawn by hand: that is all these charts need, they read on light and dark pages alike, and a
library would be one more thing to install.
"""

import argparse
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import attrs
from _aims import headlines
from _aims import table as aims

WIDTH, LABELS, ROW, HEAD = 760, 300, 24, 40
ROOM_FOR_NUMBERS = 110
OURS, THEIRS, LIMIT = "#2f7ed8", "#8a8f98", "#c9a227"
TEXT = "#6e7781"
BEGIN, END = "<!-- figures: python benchmarks/draw.py -->", "<!-- end of figures -->"
_FONT = f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}"'
_HEAD = (
    "Made by `python benchmarks/store.py` and `python benchmarks/draw.py`; the first one's options"
    " and what each case does stand in [README.md](README.md). Bars are medians of the rounds,"
    " whiskers the slowest and the fastest round. Blue is flowstore, grey a peer, yellow a limit: the"
    " same work with nothing around it."
)


@attrs.frozen
class Bar:
    """One bar.

    Attributes:
        label: what it stands for.
        value: how long it is.
        told: the value as it is written beside it.
        color: ours, another's, or a limit's.
        low: where the slowest round was; None: not shown.
        high: where the fastest round was.
    """

    label: str
    value: float
    told: str
    color: str
    low: float | None = None
    high: float | None = None


def chart(title: str, bars: Sequence[Bar]) -> str:
    """Draw bars below each other, as an SVG."""
    height = HEAD + ROW * len(bars) + 8
    longest = max((max(bar.value, bar.high or 0.0) for bar in bars), default=0.0) or 1.0
    scale = (WIDTH - LABELS - ROOM_FOR_NUMBERS) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="20" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        parts += _bar(bar, HEAD + ROW * number, scale)
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, top: float, scale: float) -> list[str]:
    length = max(bar.value * scale, 1.0)
    end = LABELS + max(length, (bar.high or 0.0) * scale)
    middle = top + 8
    line, width = top + 13, f"{length:.1f}"
    lines = [
        f'<text x="{LABELS - 8}" y="{line}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{LABELS}" y="{top}" width="{width}" height="16" rx="2" fill="{bar.color}"/>',
        f'<text x="{end + 6:.1f}" y="{line}">{escape(bar.told)}</text>',
    ]
    if bar.low is not None and bar.high is not None:
        low, high = LABELS + bar.low * scale, LABELS + bar.high * scale
        lines.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f}'
            f' {middle - 4}v8" stroke="{TEXT}" fill="none"/>'
        )
    return lines


def charts(report: dict[str, Any]) -> dict[str, str]:
    """Draw every chart of a report: its file's name, and the SVG."""
    found = {
        f"{_slug(workload['key'])}.svg": chart(workload["title"], _rates(workload["results"]))
        for workload in report["workloads"]
    }
    if report["latency"]:
        title = "From an append's return to its document's commit, in ms"
        found["latency.svg"] = chart(title, _latencies(report["latency"]))
    if report["flat"]:
        results = [
            {**each["result"], "rate": each["rate"], "remark": ""} for each in report["flat"]
        ]
        found["flat.svg"] = chart(
            "Catching up, by length and shape of the history", _rates(results)
        )
        found["memory.svg"] = chart("Most memory held while catching up", _memory(report["flat"]))
    return found


def _rates(results: Sequence[dict[str, Any]]) -> list[Bar]:
    """Show each case's items a second, the fastest first, with its slowest and fastest round."""
    return [
        Bar(
            each["name"],
            each["rate"],
            f"{each['rate']:,.0f} {each['unit']}/s",
            _color(each["name"], each["remark"]),
            each["count"] / max(each["seconds"]),
            each["count"] / min(each["seconds"]),
        )
        for each in sorted(results, key=lambda each: -each["rate"])
    ]


def _latencies(found: Sequence[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(f"{each['name']}, {place}", value, f"{value:.2f} ms", _color(each["name"], ""))
        for each in found
        for place, value in each["medians"].items()
    ]


def _memory(found: Sequence[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(each["result"]["name"], each["peak"] >> 20, f"{each['peak'] >> 20} MiB", OURS)
        for each in found
    ]


def _color(name: str, remark: str) -> str:
    if name.startswith("flowstore") or name[:1].isdigit():
        return OURS
    return LIMIT if remark.startswith("limit") else THEIRS


def page(report: dict[str, Any]) -> str:
    """Write the page: each chart with its table, what was left out, and where it ran."""
    lines = [
        "# flowstore's store and daemon beside their peers",
        "",
        _HEAD,
        "",
        "## What was aimed at",
        "",
        *aims(report),
        "",
    ]
    for workload in report["workloads"]:
        lines += [f"## {workload['title']}", "", _image(workload["key"], workload["title"]), ""]
        lines += [*_table(workload), ""]
    if report["latency"]:
        lines += ["## Latency", "", _image("latency", "latency"), "", *_latency(report), ""]
    if report["flat"]:
        lines += ["## Length and shape of the history", ""]
        lines += [_image("flat", "speed"), "", _image("memory", "memory"), ""]
    return "\n".join([*lines, *_machine(report), ""])


def _image(key: str, told: str) -> str:
    return f"![{told}](charts/{_slug(key)}.svg)"


def _table(workload: dict[str, Any]) -> list[str]:
    unit = workload["results"][0]["unit"]
    lines = [
        f"| case | {unit}/s | times {workload['base']} | slowest to fastest | remark |",
        "|:--|--:|--:|--:|:--|",
    ]
    for each in sorted(workload["results"], key=lambda each: -each["rate"]):
        slowest, fastest = (each["count"] / pick(each["seconds"]) for pick in (max, min))
        lines.append(
            f"| {each['name']} | {each['rate']:,.0f} | {each['ratio']:.2f}"
            f" | {slowest:,.0f} - {fastest:,.0f} | {each['remark']} |"
        )
    return lines


def _latency(report: dict[str, Any]) -> list[str]:
    places = list(report["latency"][0]["medians"])
    lines = [
        "| case | " + " | ".join(f"{place}, ms" for place in places) + " | remark |",
        "|:--|" + "--:|" * len(places) + ":--|",
    ]
    for each in report["latency"]:
        cells = " | ".join(f"{each['medians'][place]:.2f}" for place in places)
        lines.append(f"| {each['name']} | {cells} | {each['remark']} |")
    return lines


def _machine(report: dict[str, Any]) -> list[str]:
    where, notes = report["machine"], report["notes"]
    rows = {
        "machine": f"{where['processor']}, {where['processors']} processors, {where['system']}",
        "load at the end": ", ".join(f"{each:.1f}" for each in where["load"]),
        "server": ", ".join(f"{name} {value}" for name, value in notes["server"].items()),
        "versions": ", ".join(f"{name} {value}" for name, value in report["versions"].items()),
        "history": ", ".join(f"{value:,} {name}" for name, value in notes["history"].items()),
    }
    lines = ["## Where this ran", "", "| | |", "|:--|:--|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    return [*lines, "", *(f"- {line}" for line in report["skipped"])]


def _slug(key: str) -> str:
    return key.replace(", ", "-").replace(" ", "-")


def with_figures(text: str, report: dict[str, Any]) -> str:
    """Put the figures that a README shows between its marks.

    Raises:
        ValueError: the text doesn't have both marks, the first one first.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN} with {END} after it: put both where the figures shall stand")
    return "\n".join([before + begin, "", *headlines(report), "", end + after])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", type=Path, help="the JSON that store.py wrote")
    parser.add_argument("--readme", type=Path, help="a page whose figures are written anew")
    arguments = parser.parse_args()
    source: Path = arguments.report
    report = json.loads(source.read_text(encoding="utf-8"))
    folder = source.with_name("charts")
    folder.mkdir(exist_ok=True)
    for name, drawn in charts(report).items():
        (folder / name).write_text(drawn, encoding="utf-8")
    target = source.with_suffix(".md")
    target.write_text(page(report), encoding="utf-8")
    if arguments.readme is not None:
        text = with_figures(arguments.readme.read_text(encoding="utf-8"), report)
        arguments.readme.write_text(text, encoding="utf-8")
    print(f"{target} and {folder}")


if __name__ == "__main__":
    main()
