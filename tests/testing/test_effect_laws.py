"""The laws of effects hold for a shard that keeps them, and tell in short of one that doesn't."""

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flowstore.testing import (
    BrokenLawError,
    Committed,
    check_exactly_once,
    check_progress,
    event_histories,
    page_sizes,
)
from flowstore.testing._placing import place


@attrs.frozen
class Noted:
    number: int


FINDING = settings(phases=[Phase.generate], max_examples=300, database=None, deadline=None)
HISTORIES = event_histories(Noted, min_events=1, stream_identity="string")
REFUSED = st.frozensets(st.integers(0, 30), max_size=3)

FOUR = place([("a", Noted(number), 1) for number in range(1, 5)])
"""Sequences 1 to 4, all of one stream."""


def looks_at(history, sizes, refused, *, commit):
    """Commit page after page as a shard does, and look after each commit."""
    look, looks, turn = Committed(0), [], 0
    while rest := [event.sequence for event in history if event.sequence > look.progress]:
        page = rest[: sizes[turn % len(sizes)]]
        look = commit(look, page, refused)
        looks.append(look)
        turn += 1
    return looks


def soundly(look, page, refused):
    return Committed(
        page[-1],
        (*look.applied, *(each for each in page if each not in refused)),
        look.set_aside | refused.intersection(page),
    )


def skipping_what_follows_a_letter(look, page, refused):
    """Leaves the rest of a page undone when one of its events can't be applied."""
    done = [*look.applied]
    for each in page:
        if each in refused:
            break
        done.append(each)
    return Committed(page[-1], done, look.set_aside | refused.intersection(page))


def applying_refused_pages_twice(look, page, refused):
    """Keeps what a page did before it failed, and applies the page again."""
    sound = soundly(look, page, refused)
    if not refused.intersection(page):
        return sound
    again = [each for each in page if each not in refused]
    return attrs.evolve(sound, applied=(*look.applied, *again, *again))


def looking_ahead(look, page, refused):
    """Commits effects first, and the progress with the next page."""
    return attrs.evolve(soundly(look, page, refused), progress=page[0])


def overwriting(look, page, refused):
    """Writes documents that were loaded before another commit."""
    sound = soundly(look, page, refused)
    return attrs.evolve(sound, applied=sound.applied[1:]) if len(look.applied) > 1 else sound


@given(history=HISTORIES, sizes=page_sizes(), refused=REFUSED)
def test_a_sound_shard_keeps_both_laws(history, sizes, refused):
    looks = looks_at(history, sizes, refused, commit=soundly)
    check_exactly_once(looks, history)
    check_progress(looks, history)


@pytest.mark.parametrize(
    ("law", "commit", "story"),
    [
        (check_progress, skipping_what_follows_a_letter, "neither applied nor set aside"),
        (check_exactly_once, applying_refused_pages_twice, "are there twice"),
        (check_exactly_once, looking_ahead, "are there, and the progress is"),
        (check_exactly_once, overwriting, "are gone"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_shard_that_breaks_one_is_found(law, commit, story):
    @FINDING
    @given(history=HISTORIES, sizes=page_sizes(), refused=REFUSED)
    def found(history, sizes, refused):
        law(looks_at(history, sizes, refused, commit=commit), history)

    with pytest.raises(BrokenLawError, match=story):
        found()


def story_of(law, *looks, events=FOUR):
    with pytest.raises(BrokenLawError) as caught:
        law(looks, events)
    return caught.value


def test_an_event_that_is_passed_is_told_between_its_neighbours():
    broken = story_of(check_progress, Committed(2, [1, 2]), Committed(4, [1, 2, 4]))
    assert broken.law == "no skip"
    assert str(broken) == (
        "the progress is 4, and an event was neither applied nor set aside\n"
        "  applied      sequence 2, version 2 of stream 'a': Noted(number=2)\n"
        "  passed by    sequence 3, version 3 of stream 'a': Noted(number=3)\n"
        "  applied      sequence 4, version 4 of stream 'a': Noted(number=4)"
    )


def test_an_event_that_comes_when_the_progress_is_beyond_it_is_passed():
    check_progress([Committed(4, [1, 2, 4])], [*FOUR[:2], FOUR[3]])
    broken = story_of(check_progress, Committed(4, [1, 2, 4]), Committed(4, [1, 2, 4, 3]))
    assert "passed by    sequence 3" in str(broken)


def test_a_dead_letter_is_not_passed_and_what_is_to_come_neither():
    check_progress([Committed(2, [1], [2]), Committed(3, [1, 3], [2])], FOUR)
    broken = story_of(check_progress, Committed(2, (), [2]))
    assert [line.split()[0] for line in str(broken).splitlines()[1:]] == ["passed", "set"]


def test_effects_that_are_there_twice_are_told_among_the_others():
    broken = story_of(check_exactly_once, Committed(4, [1, 2, 3, 2, 4]))
    assert broken.law == "exactly once"
    assert str(broken) == (
        "the effects of an event are there twice\n"
        "  sequence 2, version 2 of stream 'a': Noted(number=2)\n"
        "  applied   1 2 3 2 4\n"
        "  progress  4"
    )


def test_of_many_effects_only_those_nearby_are_told():
    many = place([("a", Noted(number), 1) for number in range(1, 21)])
    broken = story_of(check_exactly_once, Committed(20, [*range(1, 21), 10]), events=many)
    assert "  applied   ... 18 19 20 10\n" in str(broken)
    broken = story_of(check_exactly_once, Committed(9, range(1, 21)), events=many)
    assert "  applied   ... 7 8 9 10 11 12 13 ...\n  progress  9" in str(broken)


@pytest.mark.parametrize(
    ("looks", "story"),
    [
        ([Committed(4, [1, 2, 2, 2])], "effects of an event are there 3 times\n  sequence 2,"),
        ([Committed(2, [1, 2, 3])], "are there, and the progress is 2\n  sequence 3,"),
        ([Committed(9, [1, 7])], "are there, and nobody expected it\n  sequence 7\n"),
        ([Committed(2, [1, 2], [2])], "are there, and it is set aside\n  sequence 2,"),
        (
            [Committed(2, [1, 2]), Committed(3, [1, 3])],
            "were there at 2, and are gone\n  sequence 2",
        ),
        ([Committed(2, [1, 2]), Committed(2, [])], "were there at 2, and are gone\n  sequence 1"),
        (
            [Committed(2, [1, 2]), Committed(3, [2, 1, 3])],
            "were there at 2, and have changed places\n  sequence 1",
        ),
    ],
)
def test_effects_that_are_wrong_are_told_by_the_first(looks, story):
    assert story in str(story_of(check_exactly_once, *looks))


def test_what_is_retried_comes_late_and_once():
    late = [Committed(2, [1], [2]), Committed(3, [1, 3], [2]), Committed(3, [1, 3, 2])]
    check_exactly_once(late, FOUR)
    check_progress(late, FOUR)


def test_a_rebuild_begins_anew():
    check_exactly_once([Committed(3, [1, 3, 2]), Committed(0), Committed(3, [1, 2, 3])], FOUR)
    with pytest.raises(BrokenLawError, match="and the progress is 0"):
        check_exactly_once([Committed(3, [1, 2, 3]), Committed(0, [1, 2, 3])], FOUR)
