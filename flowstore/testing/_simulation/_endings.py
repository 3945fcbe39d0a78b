"""What has to be true once everything works again and nothing is left to do."""

import json
import logging
from collections.abc import Collection, Sequence
from typing import Any

import attrs

from flowstore.projections import Lifecycle, Registration, produced_by
from flowstore.store import Session, StoreOptions
from flowstore.store._incoming import StreamKey
from flowstore.store._names import stored_tenant
from flowstore.store.memory import (
    DEAD_LETTERS,
    EVENT_IDS,
    PROGRESS,
    STREAMS,
    MemoryDatabase,
    Rows,
)
from flowstore.testing._delivery_laws import check_stream_order
from flowstore.testing._document_laws import check_rebuild_equals_replay, check_ways_agree
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._simulation._database import SimulatedDatabase
from flowstore.testing._simulation._journal import JournalProjection
from flowstore.testing._simulation._laws import as_event, held
from flowstore.testing._simulation._scenario import Scenario, Writer
from flowstore.testing._simulation._trace import Trace

__all__ = [
    "check_alike",
    "check_appends",
    "check_caught_up",
    "check_rebuilt",
    "documents_of_store",
    "replay",
]

Documents = dict[Any, Any]
"""JSON values by tenant, class and identity."""


def check_appends(trace: Trace, database: MemoryDatabase, writers: Sequence[Writer]) -> None:
    """Hold that what writers were told of stands, and that every stream's versions are 1 to n."""
    for writer in writers:
        for event_id in writer.recorded:
            if database.get(EVENT_IDS, event_id) is None:
                trace.violate("appends", f"{writer.name} was told that {event_id} was recorded")
    stored = [as_event(event) for event in database.between(0, database.highest())]
    whole = {"without_holes": True, "from_first": True}
    held(trace, "what was appended", lambda: check_stream_order(stored, **whole))


async def check_alike(
    trace: Trace, store: MemoryStore, scenario: Scenario, doubted: Collection[StreamKey]
) -> None:
    """Hold that documents of one rule agree, however they came to be: live, inline, async.

    But for streams of which an event was set aside: the daemon applies it later, or never.
    """
    if len(scenario.alike) < 2:
        return
    found = [key for key, _ in store.database.scan(STREAMS) if key not in doubted]
    streams = sorted(stream for _, stream in found)
    ways: dict[str, Documents] = {kind.__name__: {} for kind in scenario.alike}
    for stream in streams:
        async with store.session() as session:
            for kind in scenario.alike:
                document = await _document(store, session, kind, stream)
                fields = document and attrs.asdict(document)
                ways[kind.__name__][None, "the document of", stream] = fields
    held(trace, "one rule has no one truth", lambda: check_ways_agree(ways))


async def _document(store: MemoryStore, session: Session, kind: type, stream: Any) -> Any:
    """Load a kept document, or fold a live one."""
    registration = store.options.projections.producing(kind)
    if registration is None or registration.lifecycle is Lifecycle.LIVE:
        return await session.events.aggregate_stream(kind, stream)
    return await session.load(kind, stream)


def documents_of_store(store: MemoryStore) -> dict[str, Documents]:
    """Give the documents that the daemon's projections have written, by shard.

    But for journals: what they say depends on where pages end, and every commit of theirs is judged.
    """
    found: dict[str, Documents] = {}
    for registration in store.options.projections.asynchronous():
        if not _has_one_truth(registration):
            continue
        documents = found[registration.shard] = {}
        for kind, version in produced_by(registration.projection).items():
            rows: Rows[Any, Any] = store.document_rows(kind, version)
            for (tenant, identity), row in store.database.scan(rows):
                whose = None if tenant == stored_tenant(None) else tenant
                documents[whose, kind, identity] = json.loads(row.data)
    return found


def check_caught_up(trace: Trace, shard: str, found: Documents, replayed: Documents) -> None:
    """Hold that a shard which has caught up has the documents of a replay where nothing fails."""
    ways = {"in a replay": replayed, "after all that": found}
    held(trace, f"{shard!r} beside a replay", lambda: check_ways_agree(ways))


def check_rebuilt(trace: Trace, shard: str, found: Documents, replayed: Documents) -> None:
    """Hold that a shard which was rebuilt has the documents of a replay where nothing fails."""
    held(trace, f"{shard!r}", lambda: check_rebuild_equals_replay(found, replayed))


async def replay(
    scenario: Scenario, store: MemoryStore, database: SimulatedDatabase, options: StoreOptions
) -> dict[str, Documents]:
    """Apply the events of a database to a fresh one where nothing fails; give its documents."""
    made = [
        store.document_rows(kind, version).name
        for registration in store.options.projections.asynchronous()
        for kind, version in produced_by(registration.projection).items()
    ]
    fresh = database.copied(without=[PROGRESS.name, DEAD_LETTERS.name, *made])
    again = MemoryStore(options, database=fresh)
    shards = [each.shard for each in options.projections.asynchronous() if _has_one_truth(each)]
    async with again.build_projection_daemon(scenario.settings, quiet_logger()) as daemon:
        for shard in shards:
            await daemon.start(shard)
        for shard in shards:
            await daemon.wait_for(shard, fresh.highest())
    return documents_of_store(again)


def _has_one_truth(registration: Registration) -> bool:
    """Tell whether what a projection writes is the same wherever its pages end, unlike a journal."""
    return not isinstance(registration.projection, JournalProjection)


def quiet_logger() -> logging.Logger:
    """Make a logger that tells nobody."""
    logger = logging.Logger("replay")  # noqa: LOG001  it belongs to no other
    logger.addHandler(logging.NullHandler())
    return logger
