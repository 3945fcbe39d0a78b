"""What has to be true once everything works again and nothing is left to do."""

import logging
from collections.abc import Sequence
from typing import Any

import attrs

from flowstore.projections import Lifecycle, produced_by
from flowstore.store import Session, StoreOptions
from flowstore.store._names import stored_tenant
from flowstore.store.memory import (
    DEAD_LETTERS,
    EVENT_IDS,
    EVENTS,
    PROGRESS,
    STREAMS,
    MemoryDatabase,
    Rows,
    same_json,
)
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._simulation._database import SimulatedDatabase
from flowstore.testing._simulation._journal import JournalProjection
from flowstore.testing._simulation._scenario import Scenario, Writer
from flowstore.testing._simulation._trace import Trace

__all__ = ["check_alike", "check_appends", "compare", "documents_of_store", "replay"]

Documents = dict[tuple[str, Any], str]


def check_appends(trace: Trace, database: MemoryDatabase, writers: Sequence[Writer]) -> None:
    """Hold that what writers were told of stands, and that every stream's versions are 1 to n."""
    for writer in writers:
        for event_id in writer.recorded:
            if database.get(EVENT_IDS, event_id) is None:
                trace.violate("appends", f"{writer.name} was told that {event_id} was recorded")
    versions: dict[Any, int] = {}
    for sequence, event in sorted(database.scan(EVENTS), key=lambda each: each[0]):
        versions[event.stream] = versions.get(event.stream, 0) + 1
        if event.version != versions[event.stream]:
            trace.violate(
                "appends",
                f"event {sequence} is version {event.version} of its stream, not"
                f" {versions[event.stream]}",
            )


async def check_alike(trace: Trace, store: MemoryStore, scenario: Scenario) -> None:
    """Hold that documents of one rule agree, however they came to be."""
    streams = sorted(stream for (_, stream), _ in store.database.scan(STREAMS))
    for stream in streams:
        found: list[tuple[str, Any]] = []
        async with store.session() as session:
            for kind in scenario.alike:
                document = await _document(store, session, kind, stream)
                found.append((kind.__name__, document and attrs.asdict(document)))
        if any(fields != found[0][1] for _, fields in found):
            told = "; ".join(f"{name} is {fields}" for name, fields in found)
            trace.violate("agreement", f"stream {str(stream)[:8]} has no one truth: {told}")


async def _document(store: MemoryStore, session: Session, kind: type, stream: Any) -> Any:
    """Load a kept document, or fold a live one."""
    registration = store.options.projections.producing(kind)
    if registration is None or registration.lifecycle is Lifecycle.LIVE:
        return await session.events.aggregate_stream(kind, stream)
    return await session.load(kind, stream)


def documents_of_store(store: MemoryStore) -> dict[str, Documents]:
    """Give the documents that the daemon's projections have written, by shard, as JSON texts.

    But for journals: what they say depends on where pages end, and every commit of theirs is judged.
    """
    found: dict[str, Documents] = {}
    for registration in store.options.projections.asynchronous():
        if isinstance(registration.projection, JournalProjection):
            continue
        documents = found[registration.shard] = {}
        for kind, version in produced_by(registration.projection).items():
            rows: Rows[Any, Any] = store.document_rows(kind, version)
            for (tenant, identity), row in store.database.scan(rows):
                of_tenant = "" if tenant == stored_tenant(None) else f" of tenant {tenant!r}"
                documents[f"{kind.__name__}{of_tenant}", identity] = row.data
    return found


def compare(trace: Trace, what: str, found: Documents, expected: Documents) -> None:
    """Hold that two sets of documents are the same."""
    for key in [*expected, *(key for key in found if key not in expected)]:
        one, other = found.get(key), expected.get(key)
        if one is None or other is None or not same_json(one, other):
            name, identity = key
            trace.violate(
                "agreement", f"{what}: {name} {str(identity)[:8]!r} is {one}, not {other}"
            )


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
    async with again.build_projection_daemon(scenario.settings, quiet_logger()) as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
    return documents_of_store(again)


def quiet_logger() -> logging.Logger:
    """Make a logger that tells nobody."""
    logger = logging.Logger("replay")  # noqa: LOG001  it belongs to no other
    logger.addHandler(logging.NullHandler())
    return logger
