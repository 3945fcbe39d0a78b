"""Every order of the steps of several appends, against what a reader may see at any moment.

A writer's steps are: publish its bound; draw a number and insert with it; commit or roll back. What
is enumerated are all orders of all writers' steps, up to renaming writers (they do the same, so that
the first one to begin may be called 0, the next one 1), with every combination of commits and
rollbacks.

The reader's steps needn't be enumerated: reading changes nothing for writers. After each step, what a
reader would find is noted: the sequence's position, the least bound that is held, what
`high_water()` says, and what is visible. A reader that looks at the position at moment i, at the locks
at moment j and at the events at moment k, for i <= j <= k, would have found just what was noted then;
all of these are judged, which is every place that the reader's steps could have had, also between
the two looks inside of `high_water()`. Several looks of one reader are judged one by one: if each has
all that will ever be visible up to its mark, then so has their sequence.

Drawing and inserting are one step: a row that isn't committed is seen by nobody, so that only its
number, its commit and the locks count. Two writers with the two apart show that it makes no difference.
"""

from itertools import pairwise, product

import attrs
import psycopg
import pytest
import trio

from flowstore import StoreOptions, open_store

INSERT = """
insert into faults.events (sequence, stream_id, version, type, data)
overriding system value values (%s, gen_random_uuid(), 1, 'happened', '{}')"""
DRAWING_INSERT = """
insert into faults.events (stream_id, version, type, data)
values (gen_random_uuid(), 1, 'happened', '{}')"""
LOOK = """
create function faults.look(out at bigint, out bound bigint, out safe bigint, out visible bigint[])
language plpgsql volatile as $$
begin
    select s.last_value - (not s.is_called)::int into at from faults.events_sequence s;
    select min(o.bound) into bound from faults.open_appends o;
    select h.safe into look.safe from faults.high_water() h;
    select coalesce(array_agg(e.sequence order by e.sequence), '{}') into visible
    from faults.events e;
end
$$"""


@attrs.frozen
class Look:
    """What a reader finds at a moment."""

    at: int
    bound: int | None
    safe: int
    visible: list[int]


@attrs.define
class Writer:
    connection: psycopg.Connection
    number: int = 0

    def publish(self):
        self.connection.execute("select faults.publish_bound()")

    def draw(self):
        cursor = self.connection.execute("select nextval('faults.events_sequence')")
        (self.number,) = cursor.fetchone()

    def insert(self):
        self.connection.execute(INSERT, (self.number,))

    def draw_and_insert(self):
        self.connection.execute(DRAWING_INSERT)

    def commit(self):
        self.connection.commit()

    def roll_back(self):
        self.connection.rollback()


def orders(writers, steps):
    """Yield all orders of the writers' steps, writers being named in the order they begin."""

    def extend(order, done):
        if len(order) == writers * steps:
            yield tuple(order)
            return
        begun = sum(count > 0 for count in done)
        for writer in range(min(writers, begun + 1)):
            if done[writer] < steps:
                done[writer] += 1
                order.append(writer)
                yield from extend(order, done)
                order.pop()
                done[writer] -= 1

    yield from extend([], [0] * writers)


@attrs.frozen
class Stage:
    """Connections of a reader and writers, on a schema that is emptied before each run."""

    reader: psycopg.Connection
    writers: tuple[Writer, ...]

    def play(self, order, endings, parts):
        """Carry out the steps in this order; gives the look at the start and after each."""
        self.reader.execute("delete from faults.events")
        self.reader.execute("select setval('faults.events_sequence', 1, false)")
        waiting = [[*parts, "commit" if commits else "roll_back"] for commits in endings]
        looks = [self.look()]
        for writer in order:
            getattr(self.writers[writer], waiting[writer].pop(0))()
            looks.append(self.look())
        return looks

    def look(self):
        return Look(*self.reader.execute("select * from faults.look()").fetchone())


@pytest.fixture
def stage(dsn):
    async def prepare():
        options = StoreOptions(schema="faults")
        async with open_store(dsn, options) as store, store.connection() as connection:
            await connection.execute(LOOK)
            # Each run begins with an empty table, from which nobody else may delete.
            await connection.execute("alter table faults.events disable trigger user")
            await connection.execute("alter table faults.events enable trigger publish_bound")

    trio.run(prepare)
    connections = [psycopg.connect(dsn, prepare_threshold=1) for _ in range(5)]
    reader, *others = connections
    reader.autocommit = True
    yield Stage(reader, tuple(map(Writer, others)))
    for connection in connections:
        connection.close()


def least(position, bound):
    return position if bound is None else min(position, bound)


def up_to(mark, sequences):
    return [sequence for sequence in sequences if sequence <= mark]


def missed(looks, mark_of):
    """Tell whether a reader anywhere misses what appears later at or below its mark.

    `mark_of` makes a mark of two looks, the earlier first. Visible events only become more, so that
    reading at once after the second look is the worst moment.
    """
    last = looks[-1].visible
    return any(
        up_to(mark_of(first, second), second.visible) != up_to(mark_of(first, second), last)
        for place, first in enumerate(looks)
        for second in looks[place:]
    )


def right(first, second):
    """The position first, then the locks."""
    return least(first.at, second.bound)


def follow(looks, mark_of=lambda look: look.safe):
    """Read at each moment what is new up to the mark: what a reader that never rests has seen."""
    seen, floor = [], 0
    for look in looks:
        mark = max(floor, mark_of(look))
        seen += [sequence for sequence in look.visible if floor < sequence <= mark]
        floor = mark
    return seen


def check(looks, endings):
    assert not missed(looks, right)
    assert not missed(looks, lambda _, look: look.safe)
    assert all(look.safe == right(look, look) for look in looks)
    assert all(before.safe <= after.safe for before, after in pairwise(looks))
    assert looks[-1].safe == looks[-1].at  # nothing holds the mark once all are over
    assert follow(looks) == looks[-1].visible  # none lost, none doubled, in order
    assert len(looks[-1].visible) == sum(endings)


PARTS = ("publish", "draw_and_insert")


@pytest.mark.parametrize(("writers", "count"), [(1, 2), (2, 40), (3, 2240)])
def test_every_order_of_the_steps_of_up_to_three_appends(stage, writers, count):
    played = 0
    for order in orders(writers, 3):
        for endings in product((True, False), repeat=writers):
            check(stage.play(order, endings, PARTS), endings)
            played += 1
    assert played == count


def test_orders_of_the_steps_of_four_appends(stage, soak):
    """All 15,400 when soaking, with 4 of 16 ways to end, in turn; else every 61st, with 1."""
    ways = list(product((True, False), repeat=4))
    for number, order in enumerate(orders(4, 3)):
        if number % soak(61, 1):
            continue
        for turn in range(soak(1, 4)):
            endings = ways[(number + 5 * turn) % 16]
            check(stage.play(order, endings, PARTS), endings)
    assert number + 1 == 15_400


def test_drawing_apart_from_inserting_makes_no_difference(stage, soak):
    writers = soak(2, 3)
    for order in orders(writers, 4):
        for endings in product((True, False), repeat=writers):
            check(stage.play(order, endings, ("publish", "draw", "insert")), endings)


# -- rules that are wrong ------------------------------------------------------------------------

WRONG = {
    "the highest visible sequence": lambda first, _: max(first.visible, default=0),
    "the position alone": lambda first, _: first.at,
    "the locks before the position": lambda first, second: least(second.at, first.bound),
}


@pytest.mark.parametrize("rule", WRONG)
def test_a_wrong_rule_misses_events_in_some_order_of_two_appends(stage, rule):
    assert any(missed(stage.play(order, (1, 1), PARTS), WRONG[rule]) for order in orders(2, 3))


@pytest.mark.parametrize("broken", ["drawing first", "the plain position"])
def test_a_bound_that_is_wrong_misses_events_in_some_order_of_two_appends(stage, broken):
    parts = PARTS
    if broken == "drawing first":
        stage.reader.execute("alter table faults.events disable trigger publish_bound")
        parts = ("draw", "publish", "insert")
    else:
        query = "select pg_get_functiondef('faults.publish_bound'::regproc)"
        (source,) = stage.reader.execute(query).fetchone()
        stage.reader.execute(source.replace("- (not s.is_called)::int", ""))
    plays = (stage.play(order, (1, 1), parts) for order in orders(2, len(parts) + 1))
    assert any(missed(looks, right) for looks in plays)
