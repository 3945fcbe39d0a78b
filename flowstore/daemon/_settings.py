"""What a daemon is told."""

from typing import Any, Final, Literal, TypeAlias

import attrs

__all__ = ["PAGE_BYTES", "DaemonSettings"]

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of JSON a page at most, where nobody says otherwise: eight thousand ordinary events."""


def _at_least_zero(_: "DaemonSettings", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        message = f"DaemonSettings.{attribute.name} is {value!r}: give a number of seconds, from 0"
        raise ValueError(message)


def _above_zero(_: "DaemonSettings", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        message = f"DaemonSettings.{attribute.name} is {value!r}: give a number of seconds above 0"
        raise ValueError(message)


def _pages(_: "DaemonSettings", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = (
            f"DaemonSettings.{attribute.name} is {value!r}: give a whole number of pages, from 1"
        )
        raise ValueError(message)


def _at_least_one(_: "DaemonSettings", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"DaemonSettings.{attribute.name} is {value!r}: give a whole number, from 1"
        raise ValueError(message)


def _mode(_: "DaemonSettings", __: Any, value: Any) -> None:
    if value not in {"solo", "hot_cold"}:
        message = f"DaemonSettings.mode is {value!r}: give 'solo' or 'hot_cold'"
        raise ValueError(message)


Mode: TypeAlias = Literal["solo", "hot_cold"]


def _solo() -> Mode:
    return "solo"


@attrs.frozen(kw_only=True)
class DaemonSettings:
    """Say how a daemon looks for events and how it stops. All times are in seconds.

    Attributes:
        leading_edge_buffer: leave events younger than this, by the database's clock, for later. 0,
            the default, loses nothing: the mark is exact without it. Rebuilds ignore it.
        fast_polling_time: between two looks at the mark while events come in. A look costs the
            server some 40 microseconds.
        slow_polling_time: between two looks while nothing comes in: how late an event is at most
            when its notification was lost.
        notifications: also listen for other processes' appends, on a connection of its own. Off,
            everything still arrives, by polling.
        stop_and_drain_timeout: how long a stopping shard may take for the pages it has in hand;
            what isn't committed then is rolled back and comes again at the next start.
        retry_time: between a failure of the database and the next attempt, at first; it doubles
            with every further failure.
        longest_retry_time: the most that it grows to.
        pages_ahead: pages that a shard reads ahead of the one being applied, at least 1; at the
            tail, where there is less than a whole page to read, it reads on after the commit.
        page_bytes: most bytes of JSON that a page has, beside `AsyncOptions.page_size` events; one
            event that is larger comes alone. What a shard holds at most is some five pages, some
            eight if it does nothing but fold.
        span_bytes: bytes of JSON that a shard gathers at most, of documents that several pages
            wrote, before it commits them together; only where a projection does nothing but fold.
        held_bytes: bytes of JSON that such a shard keeps, of documents that it has committed, so as
            not to load them again; the least recently used go first.
        max_loads: pages that all shards together fetch at the same time, each on a connection of
            the store's pool.
        max_commits: pages that all shards together commit at the same time, each on a connection
            too. Keep the two together below the pool's size, for sessions to find connections.
        mode: "solo": this process runs every shard; were two to run, the later claim wins.
            "hot_cold": of all processes with this mode one runs a shard, and the others stand by.
        lease_time: how long the process that runs a shard may be silent before another one ends
            its connections and takes the shard over; "hot_cold" only. A process that dies is
            followed within some two seconds. An `apply` that computes for longer without
            awaiting anything is silence too.

    Raises:
        ValueError: a value isn't one of those.
    """

    leading_edge_buffer: float = attrs.field(default=0.0, validator=_at_least_zero)
    fast_polling_time: float = attrs.field(default=0.005, validator=_above_zero)
    slow_polling_time: float = attrs.field(default=0.25, validator=_above_zero)
    notifications: bool = True
    stop_and_drain_timeout: float = attrs.field(default=5.0, validator=_at_least_zero)
    retry_time: float = attrs.field(default=0.05, validator=_above_zero)
    longest_retry_time: float = attrs.field(default=2.0, validator=_above_zero)
    pages_ahead: int = attrs.field(default=2, validator=_pages)
    page_bytes: int = attrs.field(default=PAGE_BYTES, validator=_at_least_one)
    span_bytes: int = attrs.field(default=16 * 1024 * 1024, validator=_at_least_one)
    held_bytes: int = attrs.field(default=32 * 1024 * 1024, validator=_at_least_one)
    max_loads: int = attrs.field(default=3, validator=_at_least_one)
    max_commits: int = attrs.field(default=3, validator=_at_least_one)
    mode: Mode = attrs.field(factory=_solo, validator=_mode)
    lease_time: float = attrs.field(default=10.0, validator=_above_zero)
