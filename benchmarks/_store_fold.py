"""Decoding, grouping and applying a history that is in memory already: what no database can speed up."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import attrs
import msgspec
from _store_cases import Bench, Documents, Entry, Job
from _store_raw import NAMES, TYPES
from _store_work import PAGE_SIZE

from flowstore.cli._projects import ActiveProject
from flowstore.codec import EventCodec, EventRegistry
from flowstore.events import Event, group_by_stream_id
from flowstore.projections import aggregate_rule
from flowstore.store._rows import decode_page

Read = Callable[[str, bytes], Any]
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def _registry() -> EventRegistry:
    registry = EventRegistry()
    registry.add_types(*TYPES.values())
    return registry


def _ours() -> Callable[[Sequence[Any]], list[Event]]:
    codec = EventCodec(_registry())
    return lambda rows: decode_page(codec, rows)[0]


def _enveloped(read: Read) -> Callable[[Sequence[Any]], list[Event]]:
    """Decode the data in another way, and make the same envelopes."""

    def decode(rows: Sequence[Any]) -> list[Event]:
        return [
            Event(
                data=read(name, data),
                sequence=sequence,
                id=event_id,
                stream_id=stream_id,
                version=version,
                type_name=name,
                timestamp=recorded,
            )
            for sequence, event_id, stream_id, version, name, data, recorded, *_ in rows
        ]

    return decode


def _structured() -> Callable[[Sequence[Any]], list[Event]]:
    structure = _registry().converter.structure
    return _enveloped(lambda name, data: structure(json.loads(data), TYPES[name]))


def _hooked() -> Callable[[Sequence[Any]], list[Event]]:
    converter = _registry().converter
    hooks = {name: converter.get_structure_hook(kind) for name, kind in TYPES.items()}
    return _enveloped(lambda name, data: hooks[name](json.loads(data), TYPES[name]))


def _msgspec() -> Callable[[Sequence[Any]], list[Event]]:
    decoders = {name: msgspec.json.Decoder(kind) for name, kind in TYPES.items()}
    return _enveloped(lambda name, data: decoders[name].decode(data))


def folding(
    make: Callable[[], Callable[[Sequence[Any]], Iterable[Event]]],
) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        decode, rule = make(), aggregate_rule(ActiveProject)
        pages = await bench.once("rows", partial(_pages, bench))
        held: Documents = {}

        def run() -> None:
            held.clear()
            for rows in pages:
                for stream in group_by_stream_id(decode(rows)):
                    held[stream.id] = rule.fold(held.get(stream.id), stream)

        async def documents() -> Documents:
            return held

        yield Job(run, bench.sizes.events, documents=documents)

    return opened


async def _pages(bench: Bench) -> list[list[tuple[Any, ...]]]:
    """Lay the history out as the rows that the store reads."""
    versions: dict[UUID, int] = {}
    rows: list[tuple[Any, ...]] = []
    for sequence, (stream_id, event) in enumerate(bench.facts(), start=1):
        versions[stream_id] = versions.get(stream_id, 0) + 1
        data = json.dumps(attrs.asdict(event)).encode()
        envelope = (sequence, UUID(int=sequence), stream_id, versions[stream_id])
        absent = (None, None, None, None, "*DEFAULT*")
        rows.append((*envelope, NAMES[type(event)], data, _WHEN, *absent))
    return [rows[at : at + PAGE_SIZE] for at in range(0, len(rows), PAGE_SIZE)]


ENTRIES = [
    Entry("fold", "flowstore", folding(_ours), "as the daemon does it, errors named"),
    Entry("fold", "json, cattrs structure", folding(_structured), "a hook looked up each time"),
    Entry("fold", "json, cattrs hooks", folding(_hooked), "looked up once"),
    Entry("fold", "msgspec", folding(_msgspec), "limit: for classes that both read alike"),
]
