"""Documents that are kept between a projection's pages: which, and how many."""

from uuid import UUID

import attrs

from flowstore.store import DocumentTypes, HeldDocuments
from flowstore.store._held import Kept
from flowstore.store._queue import DeleteDocument, StoreDocument


@attrs.define
class Note:
    id: UUID
    text: str = ""


TYPES = DocumentTypes()


def key(number, tenant="t"):
    return (tenant, Note, number)


def stored(number, text, tenant="t"):
    return StoreDocument(tenant, TYPES.describe(Note), UUID(int=number), None, text=text)


def deleted(number):
    return DeleteDocument("t", TYPES.describe(Note), UUID(int=number))


def held(max_bytes=10_000):
    return HeldDocuments(frozenset({Note}), max_bytes)


def write(documents, *operations):
    written = documents.begin()
    for operation in operations:
        written.add(operation)
    return written


def commit(documents, *operations, stamp=None):
    written = write(documents, *operations)
    told = {key: Kept(text, stamp) for key, text in written.texts() if stamp and text is not None}
    documents.confirm(told)


def test_what_is_not_committed_is_known_and_the_latest_counts():
    documents = held()
    write(documents, stored(1, "old"), stored(2, "two"))
    write(documents, stored(1, "new"), deleted(2))
    known, missing = documents.split([key(1), key(2), key(3)])
    assert known == {key(1): Kept("new"), key(2): Kept(None)}
    assert missing == [key(3)]


def test_confirming_the_first_part_takes_nothing_from_the_second():
    documents = held()
    write(documents, stored(1, "old"))
    write(documents, stored(1, "new"))
    documents.confirm({})
    assert documents.split([key(1)]) == ({key(1): Kept("new")}, [])


def test_tenants_have_documents_of_their_own():
    documents = held()
    write(documents, stored(1, "ours"))
    assert documents.split([key(1, "other")]) == ({}, [key(1, "other")])


def test_what_is_committed_is_bounded_and_the_least_recently_used_goes_first():
    documents = held(max_bytes=2_000)
    commit(documents, *(stored(n, "x" * 500) for n in (1, 2)))
    documents.split([key(1)])
    commit(documents, stored(3, "x" * 500))
    assert documents.size <= documents.max_bytes
    assert documents.split([key(1), key(2), key(3)])[1] == [key(2)]


def test_what_is_not_committed_never_goes():
    documents = held(max_bytes=1)
    write(documents, *(stored(n, "x" * 500) for n in range(50)))
    assert documents.split([key(n) for n in range(50)])[1] == []
    documents.confirm({})
    assert documents.size == 0


def test_without_a_pause_everything_is_kept_and_after_one_what_has_a_stamp():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    commit(documents, stored(2, "two"), deleted(3))
    keys = [key(1), key(2), key(3)]
    assert documents.split(keys)[1] == []
    documents.forget_unstamped()
    known = {key(1): Kept("one", "a")}
    assert documents.split(keys) == (known, [key(2), key(3)])
    assert documents.size == 400 + 3


def test_a_document_is_kept_as_the_commit_tells_it():
    documents = held()
    write(documents, stored(1, "as it was written"))
    documents.confirm({key(1): Kept("as a trigger left it", "a")})
    assert documents.split([key(1)])[0] == {key(1): Kept("as a trigger left it", "a")}


def test_a_later_write_without_a_stamp_takes_it_away():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    commit(documents, stored(1, "two"))
    assert documents.split([key(1)])[0] == {key(1): Kept("two")}
    documents.forget_unstamped()
    assert documents.split([key(1)]) == ({}, [key(1)])
    assert documents.size == 0


def test_what_is_pending_hides_the_stamp_of_what_is_committed():
    documents = held()
    commit(documents, stored(1, "one"), stamp="a")
    write(documents, stored(1, "two"))
    assert documents.split([key(1)])[0] == {key(1): Kept("two")}


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
    written = held().begin()
    written.add(stored(1, "x" * 100))
    once = written.size
    written.add(stored(1, "y" * 100))
    assert written.size == once
    assert [each.text for each in written.queue().operations] == ["y" * 100]
