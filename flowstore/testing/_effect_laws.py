"""Laws of effects: what is committed of a shard's work, moment after moment."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from flowstore.events import Event
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._placing import told

__all__ = ["Committed", "check_exactly_once", "check_progress"]

_NEIGHBOURS: Final = 3
"""Effects that are told on either side of one that is wrong."""


@attrs.frozen
class Committed:
    """What is committed of a shard's work at some moment.

    Attributes:
        progress: the sequence that the shard has come to, inclusive.
        applied: sequences of the events whose effects are there, in the order they were applied;
            one that has had its effects twice stands there twice.
        set_aside: sequences of the events that are dead letters.
    """

    progress: int
    applied: Sequence[int] = attrs.field(default=(), converter=tuple[int, ...])
    set_aside: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset[int])


def check_exactly_once(looks: Iterable[Committed], events: Iterable[Event]) -> None:
    """Check that every effect is there once, not before the progress says so, and stays.

    That nothing is missing is another law: `check_progress`.

    Args:
        looks: what was committed, look after look; between two of them any number of commits may
            lie. Where the progress is below that of the look before, everything began anew.
        events: those that the shard consumes, in any order.

    Raises:
        BrokenLawError: an event has had its effects twice, or before the progress came to it; was
            set aside as well; isn't one of those; or effects are gone that were there. Names the
            first such event, and the effects around it.
    """
    known = {event.sequence: event for event in events}
    before = Committed(0)
    for look in looks:
        _check_look(look, known)
        if look.progress >= before.progress:
            _check_kept(before, look, known)
        before = look


def check_progress(looks: Iterable[Committed], events: Iterable[Event]) -> None:
    """Check that the progress never passes an event that was neither applied nor set aside.

    An event that becomes visible when the progress is beyond it is passed, whatever is done later.

    Args:
        looks: what was committed, look after look.
        events: those that the shard consumes, in any order.

    Raises:
        BrokenLawError: there is such an event; names the first, and its neighbours.
    """
    ordered = sorted(events, key=lambda event: event.sequence)
    for look in looks:
        applied = frozenset(look.applied)
        for index, event in enumerate(ordered):
            if event.sequence > look.progress:
                break
            if event.sequence not in applied and event.sequence not in look.set_aside:
                raise BrokenLawError("no skip", _passed(look, ordered, index))


def _check_look(look: Committed, known: dict[int, Event]) -> None:
    counts = Counter(look.applied)
    for index, sequence in enumerate(look.applied):
        what = None
        if counts[sequence] > 1:
            index = look.applied.index(sequence, index + 1)  # noqa: PLW2901  the second is wrong
            what = f"are there {'twice' if counts[sequence] == 2 else f'{counts[sequence]} times'}"
        elif sequence not in known:
            what = "are there, and nobody expected it"
        elif sequence > look.progress:
            what = f"are there, and the progress is {look.progress}"
        elif sequence in look.set_aside:
            what = "are there, and it is set aside"
        if what is not None:
            raise BrokenLawError("exactly once", _effects(what, sequence, look, index, known))


def _check_kept(before: Committed, look: Committed, known: dict[int, Event]) -> None:
    for index, (sequence, found) in enumerate(
        zip(before.applied, (*look.applied, *[None] * len(before.applied)), strict=False)
    ):
        if found != sequence:
            what = (
                f"were there at {before.progress}, and are gone"
                if sequence not in look.applied
                else f"were there at {before.progress}, and have changed places"
            )
            raise BrokenLawError("exactly once", _effects(what, sequence, look, index, known))


def _effects(what: str, sequence: int, look: Committed, index: int, known: dict[int, Event]) -> str:
    place = told(known[sequence]) if sequence in known else f"sequence {sequence}"
    first, last = max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1
    shown = " ".join(map(str, look.applied[first:last])) or "nothing"
    applied = f"{'... ' if first else ''}{shown}{' ...' if last < len(look.applied) else ''}"
    return (
        f"the effects of an event {what}\n  {place}\n"
        f"  applied   {applied}\n  progress  {look.progress}"
    )


def _passed(look: Committed, ordered: Sequence[Event], index: int) -> str:
    lines = [f"the progress is {look.progress}, and an event was neither applied nor set aside"]
    around = range(max(0, index - 1), min(len(ordered), index + 2))
    lines += [f"  {_fate(look, ordered[each]):<11}  {told(ordered[each])}" for each in around]
    return "\n".join(lines)


def _fate(look: Committed, event: Event) -> str:
    if event.sequence in look.applied:
        return "applied"
    if event.sequence in look.set_aside:
        return "set aside"
    return "passed by" if event.sequence <= look.progress else "to come"
