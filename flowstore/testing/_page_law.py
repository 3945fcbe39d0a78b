"""The law of pages: where a history is cut makes no difference to the documents."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cattrs import Converter

from flowstore.events import Event
from flowstore.projections import IProjection
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._differences import Side, first_difference
from flowstore.testing._document_laws import concerned
from flowstore.testing._memory import DocumentKey, Memory
from flowstore.testing._placing import told
from flowstore.testing._subjects import as_projection

__all__ = ["check_pages_fold_alike"]

_Pages = list[tuple[Event, ...]]


def check_pages_fold_alike(
    projection_or_aggregate: Any,
    history: Iterable[Event],
    cuts: Sequence[int],
    *,
    converter: Converter | None = None,
) -> None:
    """Check that applying a history in pages gives the documents that applying it at once gives.

    Between two pages documents are kept as JSON, as in a store. Nothing is awaited but the
    projection's session, so this works in plain tests and in async ones.

    Args:
        projection_or_aggregate: an `IProjection`, or the class of an aggregate.
        history: events in sequence order.
        cuts: how many events each page has, over and over; each at least 1. A strategy for it is
            `page_sizes`.
        converter: what classes mean as JSON, as `options.events.converter`; None takes the default.

    Raises:
        BrokenLawError: a document differs; names the fields, the cut and the events it is made of.
        ValueError: a page of no events.
        NotInMemoryError: the projection needs a database.
    """
    projection, events = as_projection(projection_or_aggregate), tuple(history)
    at_once = Side("at once", _fold(projection, [events], converter))
    pages = list(_pages(events, cuts))
    if first_difference(at_once, _in_pages(projection, pages, converter)) is None:
        return
    shortest = _fewest_cuts(projection, at_once, pages, converter)
    found = first_difference(at_once, _in_pages(projection, shortest, converter))
    if found is None:
        message = (
            f"projection {projection.name!r} gave other documents for the same pages: it depends on"
            " something other than its events and its session"
        )
        raise BrokenLawError("agreement", message)
    raise BrokenLawError("agreement", _story(*found, shortest), key=found[0])


def _pages(events: Sequence[Event], cuts: Sequence[int]) -> Iterator[tuple[Event, ...]]:
    if not cuts or min(cuts) < 1:
        message = f"{cuts!r} are no page sizes: give at least one, each at least 1"
        raise ValueError(message)
    rest = iter(events)
    for size in itertools.cycle(cuts):
        page = tuple(itertools.islice(rest, size))
        if not page:
            return
        yield page


def _fold(
    projection: IProjection, pages: Iterable[Iterable[Event]], converter: Converter | None
) -> dict[DocumentKey, Any]:
    memory = Memory(converter)
    for page in pages:
        memory.apply(projection, page)
    return memory.values()


def _in_pages(projection: IProjection, pages: _Pages, converter: Converter | None) -> Side:
    return Side("in pages", _fold(projection, pages, converter))


def _fewest_cuts(
    projection: IProjection, at_once: Side, pages: _Pages, converter: Converter | None
) -> _Pages:
    """Find a single cut that makes the difference; all of them if it takes several."""
    events = tuple(itertools.chain.from_iterable(pages))
    for cut in itertools.accumulate(len(page) for page in pages[:-1]):
        two = [events[:cut], events[cut:]]
        if first_difference(at_once, _in_pages(projection, two, converter)) is not None:
            return two
    return pages


def _story(key: DocumentKey, difference: str, pages: _Pages) -> str:
    ends = ", ".join(str(page[-1].sequence) for page in pages[:-1])
    lines = [f"cut after sequence {ends}, the history gives other documents", f"  {difference}"]
    everything = concerned(key, itertools.chain.from_iterable(pages))
    wanted = {event.sequence for event in everything}
    for number, page in enumerate(pages, 1):
        lines += [f"  page {number}  {told(event)}" for event in page if event.sequence in wanted]
    return "\n".join(lines)
