"""How a queue is put together for a commit, without a database."""

import string

import attrs
import psycopg
from hypothesis import given
from hypothesis import strategies as st

from flowstore.store import _arrays
from flowstore.store._document_types import DocumentTypes
from flowstore.store._queue import (
    DeleteDocument,
    Queue,
    QueuedSql,
    StoreDocument,
    in_batches,
)


@attrs.frozen
class Apple:
    id: int


@attrs.frozen
class Pear:
    id: int


KINDS = [DocumentTypes().describe(cls) for cls in (Apple, Pear)]
BARRIER = QueuedSql("select 1", None)

operations = st.lists(
    st.one_of(
        st.just(BARRIER),
        st.builds(DeleteDocument, st.sampled_from("ab"), st.sampled_from(KINDS), st.integers(0, 2)),
        st.builds(
            StoreDocument,
            st.sampled_from("ab"),
            st.sampled_from(KINDS),
            st.integers(0, 2),
            st.integers(),
        ),
    )
)


def snapshots(steps):
    """What each barrier, and the end, sees of the documents."""
    state, seen = {}, []
    for step in steps:
        if isinstance(step, QueuedSql):
            seen.append(dict(state))
        elif isinstance(step, StoreDocument):
            state[step.key] = step.document
        else:
            state.pop(step.key, None)
    return [*seen, state]


def flattened(batches):
    for batch in batches:
        if isinstance(batch, QueuedSql):
            yield batch
        else:
            yield from batch


@given(operations)
def test_batches_leave_the_same_documents_before_every_statement(steps):
    assert snapshots(flattened(in_batches(steps))) == snapshots(steps)


@given(operations)
def test_a_batch_is_of_one_table_one_tenant_and_one_verb_and_names_nothing_twice(steps):
    for batch in in_batches(steps):
        if not isinstance(batch, QueuedSql):
            assert len({(type(op), op.kind, op.tenant) for op in batch}) == 1
            assert len({op.key for op in batch}) == len(batch)


@given(operations, operations)
def test_what_a_failed_commit_took_comes_back_before_what_was_queued_since(first, then):
    queue, plain = Queue(), Queue()
    for step in first:
        queue.add(step)
    taken = queue.take()
    assert not queue
    for step in then:
        queue.add(step)
    queue.put_back(taken)
    for step in [*first, *then]:
        plain.add(step)
    assert queue == plain


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_text_arrays_arrive_as_they_were(admin, values):
    with admin.cursor() as cursor:
        cursor.execute("select %s::text[]", (_arrays.texts(values),))
        assert cursor.fetchone() == (values,)


def test_awkward_texts_arrive_as_they_were(admin: psycopg.Connection):
    values = ["", "NULL", "null", " ", "\\", '"', "{}", ",", "{", "\n\t", *string.punctuation]
    assert admin.execute("select %s::text[]", (_arrays.texts(values),)).fetchone() == (values,)
    assert admin.execute("select %s::bigint[]", (_arrays.numbers([1, None, -3]),)).fetchone() == (
        [1, None, -3],
    )
    assert admin.execute("select %s::bool[]", (_arrays.booleans([True, False]),)).fetchone() == (
        [True, False],
    )


def test_a_statement_writes_no_more_documents_than_a_busy_server_takes_in_good_time():
    stored = [StoreDocument("a", KINDS[0], number, None) for number in range(4_500)]
    batches = list(in_batches(reversed(stored)))
    assert [len(batch) for batch in batches] == [2_000, 2_000, 500]
    assert [each for batch in batches for each in batch] == stored
