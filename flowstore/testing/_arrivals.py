"""The laws of a pipeline: what comes out keeps the order of its key, once each."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs

from flowstore.events import Event
from flowstore.testing._broken_law import BrokenLawError

__all__ = ["KeyedItem", "Naming", "check_key_order", "check_nothing_lost", "naming_of"]


@attrs.frozen
class KeyedItem:
    """An item to send through a pipeline that takes any.

    Attributes:
        key: whose order it has to keep.
        number: its place among the items of its key, from 0.
    """

    key: int
    number: int


@attrs.frozen
class Naming:
    """Say what an item is known by, when it is sent and when it arrives.

    Attributes:
        key: of an item, whose order it has to keep.
        place: of an item, what no other item of its key has.
    """

    key: Callable[[Any], Hashable]
    place: Callable[[Any], Hashable]

    def of(self, item: Any) -> tuple[Hashable, Hashable]:
        """Give an item's key and place."""
        return self.key(item), self.place(item)


def naming_of(
    key: Callable[[Any], Hashable] | None = None, place: Callable[[Any], Hashable] | None = None
) -> Naming:
    """Complete what somebody says about items: events and keyed items are known."""
    return Naming(key or _default_key, place or _default_place)


def check_key_order(
    sent: Iterable[Any],
    arrived: Iterable[Any],
    *,
    key: Callable[[Any], Hashable] | None = None,
    place: Callable[[Any], Hashable] | None = None,
    complete: bool = True,
) -> None:
    """Check that items arrived in the order they were sent in, for each key, and once.

    Args:
        sent: the items that were sent, in that order.
        arrived: what came of them, in the order it came.
        key: of an item, sent or arrived, whose order it keeps; None: an event's stream, a
            `KeyedItem`'s key, and for everything else one key for all.
        place: of an item, sent or arrived, what no other of its key has; None: an event's
            version, a `KeyedItem`'s number, or the item itself.
        complete: whether every item has to arrive; not so where a pipeline drops some.

    Raises:
        BrokenLawError: they didn't; names the key, and what was sent and arrived of it.
        ValueError: two items that were sent have one key and place.
    """
    for line in _lines(sent, arrived, naming_of(key, place)):
        line.check_order()
        if complete:
            line.check_complete()


def check_nothing_lost(
    sent: Iterable[Any],
    arrived: Iterable[Any],
    *,
    key: Callable[[Any], Hashable] | None = None,
    place: Callable[[Any], Hashable] | None = None,
) -> None:
    """Check that a run that was cancelled has lost nothing but what was still to come.

    Of each key a beginning has arrived, in order and once: the end may be missing, and is sent
    again by whoever goes on from there, but no item that a later one of its key has overtaken.

    Args:
        sent: the items that were sent, or were to be, in that order.
        arrived: what came of them before the cancellation, in the order it came.
        key: as for `check_key_order`.
        place: as for `check_key_order`.

    Raises:
        BrokenLawError: something is lost, or out of order, or there twice; names the key, and what
            was sent and arrived of it.
        ValueError: two items that were sent have one key and place.
    """
    for line in _lines(sent, arrived, naming_of(key, place)):
        line.check_order()
        line.check_beginning()


def _lines(sent: Iterable[Any], arrived: Iterable[Any], naming: Naming) -> "Iterator[_Line]":
    ours, theirs = _by_key(sent, naming), _by_key(arrived, naming)
    for each in dict.fromkeys([*ours, *theirs]):
        yield _Line(each, ours.get(each, []), theirs.get(each, []))


@attrs.frozen
class _Line:
    """The places of one key's items."""

    key: Hashable
    sent: Sequence[Hashable]
    arrived: Sequence[Hashable]

    def check_order(self) -> None:
        index = {place: number for number, place in enumerate(self.sent)}
        if len(index) < len(self.sent):
            raise ValueError(
                f"two items of key {self.key!r} have one place among {self.sent!r}: give place="
            )
        self._check_each_once(index)
        for before, after in pairwise(self.arrived):
            if index[before] > index[after]:
                raise self._story("order", f"{before!r} arrived before {after!r}")

    def check_complete(self) -> None:
        here = set(self.arrived)
        for place in self.sent:
            if place not in here:
                raise self._story("no skip", f"{place!r} never arrived")

    def check_beginning(self) -> None:
        for place, found in zip(self.sent, self.arrived, strict=False):
            if place != found:
                raise self._story("no skip", f"{place!r} never arrived, though later ones did")

    def _check_each_once(self, index: Mapping[Hashable, int]) -> None:
        counts = Counter(self.arrived)
        for place, count in counts.items():
            if place not in index:
                raise self._story("exactly once", f"{place!r} arrived, and nobody sent it")
            if count > 1:
                raise self._story("exactly once", f"{place!r} arrived {count} times")

    def _story(self, law: str, what: str) -> BrokenLawError:
        sent, arrived = " ".join(map(repr, self.sent)), " ".join(map(repr, self.arrived))
        return BrokenLawError(
            law, f"key {self.key!r}: {what}\n  sent     {sent}\n  arrived  {arrived}"
        )


def _by_key(items: Iterable[Any], naming: Naming) -> dict[Hashable, list[Hashable]]:
    found: defaultdict[Hashable, list[Hashable]] = defaultdict(list)
    for item in items:
        found[naming.key(item)].append(naming.place(item))
    return found


def _default_key(item: Any) -> Hashable:
    if isinstance(item, Event):
        stream = str(item.stream_id)
        return stream if item.tenant_id is None else (item.tenant_id, stream)
    return item.key if isinstance(item, KeyedItem) else None


def _default_place(item: Any) -> Hashable:
    if isinstance(item, Event):
        return item.version
    return item.number if isinstance(item, KeyedItem) else item
