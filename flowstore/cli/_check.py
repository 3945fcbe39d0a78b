"""Compares documents with what they must be, and prints them."""

import itertools
from collections.abc import Mapping, Sequence
from uuid import UUID

from flowstore import Store
from flowstore.cli._projects import ActiveProject

__all__ = ["compare", "find_disagreements", "table"]

_MOST_ROWS = 20
_PART = 100


async def find_disagreements(store: Store, projects: Mapping[UUID, ActiveProject]) -> list[str]:
    """Compare every project's document with a live fold of its stream and with its history.

    Args:
        store: holds the documents and the streams.
        projects: what each history folds to in plain Python, without the store.

    Returns:
        A line for each that disagrees; none where all agree.
    """
    found: list[str] = []
    async with store.session() as session:
        ids = iter(projects)
        while part := list(itertools.islice(ids, _PART)):
            documents = {each.id: each for each in await session.load_many(ActiveProject, part)}
            for stream_id in part:
                live = await session.events.aggregate_stream(ActiveProject, stream_id)
                found += compare(projects[stream_id], live, documents.get(stream_id))
    return found


def compare(
    history: ActiveProject, live: ActiveProject | None, document: ActiveProject | None
) -> list[str]:
    """Say where a document or a live fold differs from the history; an empty list if nowhere."""
    name = f"{history.organization_name}/{history.project_name} ({history.id})"
    return [
        f"{name}: the {what} has {_differences(history, other)}"
        for what, other in (("live fold of the stream", live), ("document", document))
        if other != history
    ]


def _differences(history: ActiveProject, other: ActiveProject | None) -> str:
    """Name the fields that differ, with both values."""
    if other is None:
        return "nothing at all"
    parts: list[str] = []
    if (other.organization_name, other.project_name) != (
        history.organization_name,
        history.project_name,
    ):
        parts.append(f"the name {other.organization_name}/{other.project_name}")
    for what, mine, theirs in (
        ("lines of code", history.lines_of_code, other.lines_of_code),
        ("open issues", history.open_issue_count, other.open_issue_count),
        ("contributors", len(history.contributors), len(other.contributors)),
    ):
        if mine != theirs:
            parts.append(f"{theirs} {what}, the history {mine}")
    return "; ".join(parts) or "other contributors than the history"


def table(projects: Sequence[ActiveProject]) -> str:
    """Lay projects out as a table, the largest first; of many only the first are shown."""
    largest = sorted(projects, key=lambda project: (-project.lines_of_code, project.project_name))
    rows = [("project", "organization", "lines of code", "open issues", "contributors")]
    rows += [
        (
            _short(project.project_name),
            _short(project.organization_name),
            f"{project.lines_of_code:,}",
            f"{project.open_issue_count:,}",
            f"{len(project.contributors):,}",
        )
        for project in largest[:_MOST_ROWS]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_align(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if len(largest) > _MOST_ROWS:
        lines.append(f"... and {len(largest) - _MOST_ROWS:,} more")
    return "\n".join(lines)


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Put words to the left of their columns, numbers to the right."""
    return [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _short(name: str) -> str:
    """Make a name fit into its column, in one line."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable if len(printable) <= 40 else printable[:37] + "..."
