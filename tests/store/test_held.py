"""Documents that are kept between a projection's pages: which, and how many."""

import gc
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore.store import DocumentTypes, HeldDocuments
from flowstore.store._held import Kept, Relied
from flowstore.store._queue import AT_ONCE, DeleteDocument, StoreDocument, WriteDocuments


@attrs.define
class Note:
    id: UUID
    text: str = ""


TYPES = DocumentTypes()


PLACE = ("t", Note)


def key(number):
    return (*PLACE, number)


def stored(number, text):
    return (UUID(int=number), text)


def deleted(number):
    return (UUID(int=number), None)


def held(max_bytes=10_000):
    return HeldDocuments(frozenset({Note}), max_bytes)


def put(written, tenant, kind, identity, text):
    """Gather one as a unit does; the last one wins."""
    part = written.part(tenant, kind)
    part.identities[identity.int], part.texts[identity.int] = identity, text


def write(documents, *changes, tenant="t"):
    written = documents.begin()
    for identity, text in changes:
        put(written, tenant, TYPES.describe(Note), identity, text)
    return written


def commit(documents, *changes, stamp=None, tenant="t"):
    write(documents, *changes, tenant=tenant)
    told = {
        key(identity.int): Kept(text, stamp)
        for identity, text in changes
        if stamp and text is not None
    }
    documents.confirm(told)


def known(documents, *numbers):
    """What is known of documents: their JSON, and their stamps; the rest is missing."""
    found = documents.split(PLACE, numbers)
    assert sorted([*found.texts, *found.missing]) == sorted(numbers)
    return found.texts, found.stamps


def test_what_is_not_committed_is_known_and_the_latest_counts():
    documents = held()
    write(documents, stored(1, "old"), stored(2, "two"))
    write(documents, stored(1, "new"), deleted(2))
    assert known(documents, 1, 2, 3) == ({1: "new", 2: None}, {})


def test_confirming_the_first_part_takes_nothing_from_the_second():
    documents = held()
    write(documents, stored(1, "old"))
    write(documents, stored(1, "new"))
    documents.confirm({})
    assert known(documents, 1) == ({1: "new"}, {})


def test_tenants_have_documents_of_their_own():
    documents = held()
    write(documents, stored(1, "ours"))
    assert documents.split(("other", Note), [1]).missing == [1]
    documents.confirm({})
    assert documents.split(("other", Note), [1]).missing == [1]
    assert known(documents, 1) == ({1: "ours"}, {})


def test_what_is_committed_is_bounded_and_the_least_recently_used_goes_first():
    documents = held(max_bytes=2_000)
    commit(documents, *(stored(n, "x" * 500) for n in (1, 2)))
    known(documents, 1)
    commit(documents, stored(3, "x" * 500))
    assert documents.size <= documents.max_bytes
    assert documents.split(PLACE, [1, 2, 3]).missing == [2]


def test_documents_of_several_tenants_go_by_turns():
    documents = held(max_bytes=8 * 500)
    for tenant in ("a", "b"):
        commit(documents, *(stored(n, "x" * 100) for n in range(8)), tenant=tenant)
    assert documents.size <= documents.max_bytes
    left = [8 - len(documents.split((tenant, Note), range(8)).missing) for tenant in ("a", "b")]
    assert sum(left) == 8
    assert min(left) > 0


def test_what_is_not_committed_never_goes():
    documents = held(max_bytes=1)
    write(documents, *(stored(n, "x" * 500) for n in range(50)))
    assert documents.split(PLACE, range(50)).missing == []
    documents.confirm({})
    assert documents.size == 0


def test_without_a_pause_everything_is_kept_and_after_one_what_has_a_stamp():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    commit(documents, stored(2, "two"), deleted(3))
    assert known(documents, 1, 2, 3) == ({1: "one", 2: "two", 3: None}, {1: "a"})
    documents.forget_unstamped()
    assert known(documents, 1, 2, 3) == ({1: "one"}, {1: "a"})
    assert documents.size == 400 + 3


def test_a_document_is_kept_as_the_commit_tells_it():
    documents = held()
    write(documents, stored(1, "as it was written"))
    documents.confirm({key(1): Kept("as a trigger left it", "a")})
    assert known(documents, 1) == ({1: "as a trigger left it"}, {1: "a"})


def test_a_later_write_without_a_stamp_takes_it_away():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    commit(documents, stored(1, "two"))
    assert known(documents, 1) == ({1: "two"}, {})
    documents.forget_unstamped()
    assert known(documents, 1) == ({}, {})
    assert documents.size == 0


def test_a_document_that_is_written_again_weighs_once():
    documents = held()
    commit(documents, stored(1, "one"))
    commit(documents, stored(1, "three"))
    assert documents.size == 400 + 5
    commit(documents, stored(1, "two"), stamp="a")
    assert documents.size == 400 + 3
    assert known(documents, 1) == ({1: "two"}, {1: "a"})


def test_a_later_write_with_a_stamp_takes_the_place_of_one_without():
    documents = held()
    commit(documents, stored(1, "one"))
    commit(documents, stored(1, "two"), stamp="a")
    documents.forget_unstamped()
    assert known(documents, 1) == ({1: "two"}, {1: "a"})
    assert documents.size == 400 + 3


def test_what_is_pending_hides_the_stamp_of_what_is_committed():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    write(documents, stored(1, "two"))
    assert known(documents, 1) == ({1: "two"}, {})


def test_documents_with_stamps_are_bounded_with_the_others():
    documents = held(max_bytes=3_000)
    for number in range(100):
        commit(documents, stored(number, "x" * 100), stamp=str(number))
        commit(documents, stored(1_000 + number, "x" * 100))
        assert documents.size <= documents.max_bytes
    documents.forget_unstamped()
    assert documents.size <= documents.max_bytes


def test_documents_that_were_deleted_are_bounded_too():
    documents = held(max_bytes=3_000)
    commit(documents, *map(deleted, range(1_000)))
    assert documents.size <= documents.max_bytes


def test_a_part_weighs_what_it_will_write():
    written = write(held(), stored(1, "x" * 100))
    once = written.size
    put(written, "t", TYPES.describe(Note), *stored(1, "y" * 100))
    assert written.size == once
    assert [each.text for each in written.queue().operations] == ["y" * 100]


def test_a_part_is_queued_as_what_is_stored_and_what_is_deleted():
    kind = TYPES.describe(Note)
    written = write(held(), stored(1, "one"), deleted(2), stored(3, "three"), deleted(3))
    assert written.queue().operations == [
        StoreDocument("t", kind, UUID(int=1), None),
        DeleteDocument("t", kind, UUID(int=2)),
        DeleteDocument("t", kind, UUID(int=3)),
    ]


def test_many_documents_are_queued_as_one_in_the_order_of_their_identities():
    kind = TYPES.describe(Note)
    numbers = [*range(AT_ONCE + 300, 0, -1)]
    written = write(held(), *(stored(number, f"text {number}") for number in numbers))
    for number in (7, 3):
        put(written, "s", kind, *stored(number, f"of s: {number}"))
    in_order = sorted(numbers)
    parts = [("s", [3, 7]), ("t", in_order[:AT_ONCE]), ("t", in_order[AT_ONCE:])]
    assert written.queue_at_once().operations == [
        WriteDocuments(
            tenant, kind, keys, [f"{'text' if tenant == 't' else 'of s:'} {key}" for key in keys]
        )
        for tenant, keys in parts
    ]


def relying(written):
    written.relied[key(1)] = Relied("t", TYPES.describe(Note), UUID(int=1), "a")


def deleting(written):
    put(written, "t", TYPES.describe(Note), *deleted(1))


@pytest.mark.parametrize(("count", "changed"), [(100, None), (300, relying), (300, deleting)])
def test_few_documents_and_those_that_are_looked_at_are_queued_one_by_one(count, changed):
    written = write(held(), *(stored(number, "x") for number in range(count)))
    if changed is not None:
        changed(written)
    assert written.queue_at_once() == written.queue()
    assert len(written.queue().operations) == count


class Naive:
    """What is kept, and in which order it goes: one after the other, by turns."""

    def __init__(self, most):
        self.most, self.places, self.stamped = most, {}, {}

    def commit(self, tenant, changes, stamps):
        place = self.places.setdefault(tenant, {}) if changes else {}
        for number, text in changes.items():
            self.stamped.pop((tenant, number), None)
            place.pop(number, None)
            if stamps and text is not None:
                self.stamped[tenant, number] = text
            else:
                place[number] = text
        while self.size() > self.most:
            if self.stamped:
                del self.stamped[next(iter(self.stamped))]
                continue
            tenant = next(iter(self.places))
            place = self.places.pop(tenant)
            if place:
                del place[next(iter(place))]
            if place:
                self.places[tenant] = place

    def size(self):
        kept = [*self.stamped.values()]
        for place in self.places.values():
            kept += place.values()
        return sum(400 + len(text or "") for text in kept)

    def look(self, tenant, numbers):
        found, place = {}, self.places.get(tenant, {})
        for number in numbers:
            if number in place:
                found[number] = place[number] = place.pop(number)
            elif (tenant, number) in self.stamped:
                found[number] = self.stamped[tenant, number] = self.stamped.pop((tenant, number))
        return found


NUMBERS = st.integers(0, 8)
TEXTS = st.none() | st.sampled_from(["", "x" * 100, "y" * 300])
STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.dictionaries(NUMBERS, TEXTS, max_size=8),
        st.booleans(),
        st.lists(NUMBERS, unique=True, max_size=4),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(steps=STEPS, most=st.integers(0, 6_000))
def test_what_goes_is_what_would_go_one_by_one(steps, most):
    documents, naive = held(max_bytes=most), Naive(most)
    for tenant, changes, stamps, numbers in steps:
        changed = [(UUID(int=number), text) for number, text in changes.items()]
        write(documents, *changed, tenant=tenant)
        kept = {
            n: Kept(text, f"s{n}") for n, text in changes.items() if stamps and text is not None
        }
        documents.confirm({(tenant, Note, number): each for number, each in kept.items()})
        naive.commit(tenant, changes, stamps)
        assert documents.size == naive.size()
        assert documents.split((tenant, Note), numbers).texts == naive.look(tenant, numbers)


def test_what_is_kept_for_long_is_nothing_that_the_garbage_collector_follows():
    documents = held(max_bytes=1_000_000)
    commit(documents, *(stored(number, "x" * 10) for number in range(500)))
    (kept,) = documents._passing.values()
    assert len(kept) == 500
    assert not gc.is_tracked(kept)
