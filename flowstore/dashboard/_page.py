"""Statuses as a page for people, and as JSON for programs; nothing here waits."""

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Final

import attrs

from flowstore.daemon import ShardStatus

__all__ = ["Board", "read_template", "to_html", "to_json"]

_EVERY: Final = 2
"""Seconds from one look to the next."""

_SYMBOLS: Final = {
    "running": "▶",
    "failed": "✖",
    "stopped": "■",
    "paused": "‖",
    "starting": "…",
    "rebuilding": "↻",
}
"""Beside the words, so that states don't differ by colour alone."""

# Roles are said, because a table that a narrow screen shows as blocks loses its own.
_ROW: Final = Template("""\
<tr role="row"><th scope="row" role="rowheader">$name</th>
<td role="cell" class="state $state"><span class="symbol" aria-hidden="true">$symbol</span> $state</td>
<td role="cell" class="number" data-label="progress">$progress</td>
<td role="cell" class="number" data-label="lag">$lag</td>
<td role="cell" class="bar"><progress max="$most" value="$reached" aria-label="$name: read up to $share %">$share %</progress></td>
<td role="cell" class="why">$why</td></tr>""")


@attrs.frozen
class Board:
    """What there is to show.

    Attributes:
        mark: the daemon's high-water mark.
        statuses: where each shard stands.
    """

    mark: int
    statuses: Sequence[ShardStatus]


def read_template() -> Template:
    """Read the page that statuses are written into; reads a file."""
    return Template(resources.files("flowstore.dashboard").joinpath("page.html").read_text("utf-8"))


def to_html(template: Template, board: Board, *, refreshing: bool) -> bytes:
    """Write the whole page; all that comes from outside is escaped.

    Args:
        template: what `read_template` gave.
        board: what to show.
        refreshing: whether the page loads itself again, every two seconds.
    """
    page = template.substitute(
        title=escape(_title(board)),
        mark=f"{board.mark:,}",
        refresh=f'<meta http-equiv="refresh" content="{_EVERY}">' if refreshing else "",
        pace=_pace(refreshing=refreshing),
        summary=escape(_summary(board)),
        rows="\n".join(map(_row, board.statuses)) or _EMPTY,
    )
    # An error's text may hold half a surrogate pair, which has no bytes.
    return page.encode(errors="backslashreplace")


def to_json(board: Board) -> bytes:
    """Write the statuses as JSON: an error is its type and message, or null."""
    document = {
        "high_water_mark": board.mark,
        "statuses": [
            {**attrs.asdict(status, recurse=False), "error": _error(status)}
            for status in board.statuses
        ],
    }
    return json.dumps(document).encode()


_EMPTY: Final = (
    '<tr role="row"><td role="cell" colspan="6">No asynchronous projection is registered.</td></tr>'
)


def _row(status: ShardStatus) -> str:
    most = max(status.high_water_mark, 1)
    # An empty store has nothing left to read.
    reached = min(status.progress, most) if status.high_water_mark else most
    return _ROW.substitute(
        name=escape(status.name),
        state=escape(status.state),
        symbol=_SYMBOLS[status.state],
        progress=f"{status.progress:,}",
        lag=f"{status.lag:,}",
        most=most,
        reached=reached,
        share=reached * 100 // most,
        why=_why(status),
    )


def _why(status: ShardStatus) -> str:
    error = _error(status)
    told = "" if error is None else f'<span class="failed">{escape(error)}</span>'
    # The reason of a failure often says the same again.
    return told if error is not None and error in status.reason else told + escape(status.reason)


def _error(status: ShardStatus) -> str | None:
    error = status.error
    return None if error is None else f"{type(error).__name__}: {error}"


def _title(board: Board) -> str:
    failed = sum(status.state == "failed" for status in board.statuses)
    return f"{failed} failed, flowstore" if failed else "Projections, flowstore"


def _summary(board: Board) -> str:
    counts = Counter(status.state for status in board.statuses)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    lag = max((status.lag for status in board.statuses), default=0)
    shards = "1 shard" if len(board.statuses) == 1 else f"{len(board.statuses)} shards"
    return f"{shards}: {told}. Largest lag {lag:,}." if told else "No shards."


def _pace(*, refreshing: bool) -> str:
    if refreshing:
        return f'Refreshes every {_EVERY} seconds. <a href="/?refresh=off">Pause</a>'
    return 'Paused. <a href="/">Refresh again</a>'
