"""Documents that are kept between a projection's pages: which, and how many."""

from uuid import UUID

import attrs

from flowstore.store import DocumentTypes, HeldDocuments
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


def commit(documents, *operations):
    write(documents, *operations)
    documents.confirm()


def test_what_is_not_committed_is_known_and_the_latest_counts():
    documents = held()
    write(documents, stored(1, "old"), stored(2, "two"))
    write(documents, stored(1, "new"), deleted(2))
    assert documents.split([key(1), key(2), key(3)]) == (
        {key(1): "new", key(2): None},
        [key(3)],
    )


def test_confirming_the_first_part_takes_nothing_from_the_second():
    documents = held()
    write(documents, stored(1, "old"))
    write(documents, stored(1, "new"))
    documents.confirm()
    assert documents.split([key(1)]) == ({key(1): "new"}, [])


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
    documents.confirm()
    assert documents.size == 0


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
