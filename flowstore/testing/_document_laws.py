"""Laws of documents: however they came to be, they are the same."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from cattrs import Converter

from flowstore.events import Event
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._differences import Side, first_difference
from flowstore.testing._memory import Memory
from flowstore.testing._placing import told

__all__ = [
    "ALONE",
    "check_effects",
    "check_rebuild_equals_replay",
    "check_ways_agree",
    "concerned",
]

ALONE: Final = "one at a time"

DocumentSet: TypeAlias = Mapping[Any, Any] | Iterable[Any]
"""Documents, in any order; or their JSON values by tenant, class and identity, or by any key."""


def check_effects(
    found: DocumentSet,
    expected: DocumentSet,
    *,
    progress: int,
    way: str = "found",
    events: Iterable[Event] = (),
    converter: Converter | None = None,
) -> None:
    """Check that documents are those of the events up to the progress, each applied exactly once.

    Args:
        found: what is committed together with the progress: documents; or JSON values by whatever
            they are known by.
        expected: what comes of the events up to there, applied one at a time.
        progress: the sequence, inclusive, for the story.
        way: how the documents came to be, for the story.
        events: for the story too: those up to the progress that the document comes of are told.
        converter: what classes mean as JSON, as `options.events.converter`; None takes the default.

    Raises:
        BrokenLawError: they differ; names the first document and its fields.
    """
    one, other = _side(ALONE, expected, converter), _side(way, found, converter)
    reached = [event for event in events if event.sequence <= progress]
    _compare(f"up to sequence {progress} the documents differ", one, other, reached)


def check_rebuild_equals_replay(
    rebuilt: DocumentSet,
    replayed: DocumentSet,
    *,
    events: Iterable[Event] = (),
    converter: Converter | None = None,
) -> None:
    """Check that a rebuild gives the documents that applying the events from the beginning gives.

    Args:
        rebuilt: what is there after a rebuild, as for `check_effects`.
        replayed: what comes of the same events where there was nothing before.
        events: for the story: those that the document comes of are told.
        converter: as for `check_effects`.

    Raises:
        BrokenLawError: they differ; names the first document and its fields.
    """
    one, other = _side("replayed", replayed, converter), _side("rebuilt", rebuilt, converter)
    _compare("a rebuild gives other documents than a replay", one, other, events)


def check_ways_agree(
    ways: Mapping[str, DocumentSet],
    *,
    events: Iterable[Event] = (),
    converter: Converter | None = None,
) -> None:
    """Check that a projection gives the same documents in every way it runs: live, inline, async.

        check_ways_agree({"live": live, "inline": inline, "async": from_the_daemon})

    Args:
        ways: what each gives, as for `check_effects`; the first is what the others are held against.
        events: for the story: those that the document comes of are told.
        converter: as for `check_effects`.

    Raises:
        BrokenLawError: they differ; names the first document, its fields, and the two ways.
        ValueError: fewer than two ways, which nothing can be said of.
    """
    if len(ways) < 2:
        raise ValueError(f"there is nothing to compare with {', '.join(ways) or 'nothing'}")
    first, *others = [_side(way, documents, converter) for way, documents in ways.items()]
    told_of = list(events)
    for other in others:
        _compare(f"{first.label} and {other.label} give other documents", first, other, told_of)


def concerned(key: Any, events: Iterable[Event]) -> Iterator[Event]:
    """Find the events that a document may come of: its stream's if it has one, else its tenant's."""
    of = list(events)
    match key:
        case (tenant, _, identity):
            own = any(event.stream_id == identity for event in of)
            yield from (
                event
                for event in of
                if event.tenant_id == tenant and (event.stream_id == identity or not own)
            )
        case _:
            yield from of


def _compare(head: str, one: Side, other: Side, events: Iterable[Event]) -> None:
    difference = first_difference(one, other)
    if difference is not None:
        key, line = difference
        lines = [head, line, *(told(event) for event in concerned(key, events))]
        raise BrokenLawError("agreement", "\n  ".join(lines), key=key)


def _side(label: str, documents: DocumentSet, converter: Converter | None) -> Side:
    if isinstance(documents, Mapping):
        return Side(label, cast("Mapping[Any, Any]", documents))
    memory = Memory(converter)
    for document in documents:
        memory.write(memory.key_of(None, document), document)
    return Side(label, memory.values())
