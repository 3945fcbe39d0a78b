"""The laws of every network, held over drawn graphs, delays, schedules, faults and cancellations.

A drawn graph is a list of nodes in which every link leads to a later node: sources first, sinks
last. Each item carries the path it took, so that what arrives at the sinks can be compared with
what must arrive. An instrument looks at all blocks after *every* step of every task.
"""

import contextlib
import itertools
import math

import attrs
import pytest
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    FanOutBlock,
    JoinBlock,
    Network,
    SourceBlock,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    null_target,
)
from flowstore.testing import BookKeeper

# Virtual seconds: nothing sleeps, so the clock only jumps when every task waits for ever.
DEADLINE = 1_000

laws = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class TroubleError(Exception):
    """The fault of a drawn graph."""


class RefusedError(Exception):
    """An item its function refuses, for the `on_error` handler."""


def virtual_clock():
    return MockClock(autojump_threshold=0)


async def pause(turns):
    for _ in range(turns):
        await trio.lowlevel.checkpoint()


async def cancel_after(scope, turns):
    await pause(turns)
    scope.cancel()


async def sender(block, sent, items, turns):
    for item in items:
        await pause(turns)
        await block.send(item)
        sent.append(item)


async def receiver(block, received, turns):
    with contextlib.suppress(trio.EndOfChannel):
        while True:
            received.append(await block.receive())
            await pause(turns)


async def limited(limit, function, *args):
    """Call an async function, and cancel it after so many turns of the scheduler."""
    async with trio.open_nursery() as nursery:
        if limit is not None:
            nursery.start_soon(cancel_after, nursery.cancel_scope, limit)
        await function(*args)


@attrs.frozen
class Item:
    """An item with the way it came: pairs of node and copy."""

    source: int
    seq: int
    path: tuple = ()

    def through(self, node, copy=0):
        return attrs.evolve(self, path=(*self.path, (node, copy)))


@attrs.frozen
class Node:
    """A drawn block: what it is, how it behaves, and where its links lead."""

    kind: str
    targets: tuple
    free_links: bool
    capacity: int
    parallelism: int
    ordered: bool
    plain: bool
    swallows: bool
    batch_size: int
    copies: tuple
    delays: tuple
    append: bool

    def delay(self, item):
        return self.delays[item.seq % len(self.delays)]

    def copies_of(self, item):
        return self.copies[item.seq % len(self.copies)] if self.kind == "many" else 1

    def refuses(self, item):
        return self.swallows and self.kind in ("transform", "sink") and item.seq % 4 == 3

    def keeps_order(self):
        parallel = self.kind in ("transform", "many") and self.parallelism > 1
        return not parallel or self.ordered


@attrs.frozen
class Graph:
    """A drawn network and the trouble that befalls it."""

    nodes: tuple
    sources: int
    items: tuple
    trouble: str
    trouble_at: int


KINDS = ["transform", "keyed", "many", "stream", "buffer", "fan-out", "batch"]


@st.composite
def graphs(draw, troubles=("none",)):
    sources = draw(st.integers(1, 2))
    middle = draw(st.lists(st.sampled_from(KINDS), max_size=5))
    kinds = ["source"] * sources + middle + ["sink"] * draw(st.integers(1, 2))
    nodes = []
    for index, kind in enumerate(kinds):
        later = range(max(index + 1, sources), len(kinds))
        targets = st.lists(st.sampled_from(later), min_size=1, max_size=3, unique=True)
        nodes.append(draw(node(kind, st.just([]) if kind == "sink" else targets)))
    return Graph(
        nodes=tuple(nodes),
        sources=sources,
        items=tuple(draw(st.integers(0, 9)) for _ in range(sources)),
        trouble=draw(st.sampled_from(troubles)),
        trouble_at=draw(st.integers(0, 30)),
    )


def node(kind, targets):
    small = st.integers(0, 3)
    return st.builds(
        Node,
        kind=st.just(kind),
        targets=targets.map(tuple),
        free_links=st.booleans(),
        capacity=st.integers(1, 4),
        parallelism=st.integers(1, 3),
        ordered=st.booleans(),
        plain=st.booleans(),
        swallows=st.booleans(),
        batch_size=st.integers(1, 3),
        copies=st.lists(small, min_size=1, max_size=3).map(tuple),
        delays=st.lists(small, min_size=1, max_size=4).map(tuple),
        append=st.booleans(),
    )


class World:
    """Builds the blocks of a drawn graph, counts calls, and lets the trouble happen in time."""

    def __init__(self, graph, auditor):
        self.graph = graph
        self.auditor = auditor
        self.network = Network()
        self.arrived = {}
        self.calls = 0
        self.trouble = TroubleError()
        self.must_raise = self.cancelled = False
        self.ends = {}

    # The drawn trouble

    def call(self, index):
        """Count a call of a function of node `index`; at the drawn call, let trouble happen.

        Gives True in the call that brought it about: one trouble at a time is enough.
        """
        self.calls += 1
        if self.graph.trouble == "none" or self.calls != self.graph.trouble_at + 1:
            return False
        match self.graph.trouble:
            case "raise":
                self.must_raise = True
                raise self.trouble
            case "fault":
                self.fault(self.ends[index][0])
            case "fault another":
                self.fault(self.ends[(index * 7 + 3) % len(self.graph.nodes)][0])
            case "cancel":
                self.cancelled = True
                self.network.cancel()
            case "cancel outside":
                self.cancelled = True
                self.auditor.scope.cancel()
        return self.must_raise or self.cancelled  # a block that had ended can't be faulted

    def fault(self, block):
        self.must_raise = block.state is BlockState.OPEN
        block.fault(self.trouble)

    # The blocks

    def build(self):
        for index, drawn in enumerate(self.graph.nodes):
            self.ends[index] = getattr(self, drawn.kind.replace("-", "_"))(index, drawn)
        for index, drawn in enumerate(self.graph.nodes):
            for position, target in enumerate(drawn.targets):
                predicate = self.predicate(drawn, position)
                out_of, into = self.ends[index][-1], self.ends[target][0]
                out_of.link_to(into, predicate, append=drawn.append)
        for block in self.auditor.blocks:
            self.network.add(block)

    @staticmethod
    def predicate(drawn, position):
        if drawn.free_links or drawn.kind == "fan-out":
            return None
        return lambda item: item.seq % len(drawn.targets) == position

    def source(self, index, drawn):
        async def items():
            for seq in range(self.graph.items[index]):
                item = Item(index, seq)
                await pause(drawn.delay(item))
                self.call(index)
                yield item.through(index)

        def items_at_once():
            for seq in range(self.graph.items[index]):
                self.call(index)
                yield Item(index, seq).through(index)

        block = SourceBlock(
            items_at_once if drawn.plain else items, bounded_capacity=drawn.capacity
        )
        return (self.auditor.watch(block, drawn.capacity),)

    def work(self, index, drawn, give):
        """Make a function, plain or async, that gives `give(item)` after its delay."""

        def answer(item):
            if not self.call(index) and drawn.refuses(item):
                raise RefusedError
            return give(item)

        async def answer_later(item):
            await pause(drawn.delay(item))
            return answer(item)

        return answer if drawn.plain else answer_later

    @staticmethod
    def swallow(item, error):
        if isinstance(error, TroubleError):
            raise error

    def transform(self, index, drawn):
        block = TransformBlock(
            self.work(index, drawn, lambda item: item.through(index)),
            bounded_capacity=drawn.capacity,
            max_degree_of_parallelism=drawn.parallelism,
            ensure_ordered=drawn.ordered,
            on_error=self.swallow if drawn.swallows else None,
        )
        return (self.auditor.watch(block, drawn.capacity),)

    def keyed(self, index, drawn):
        block = TransformBlock(
            self.work(index, drawn, lambda item: item.through(index)),
            bounded_capacity=drawn.capacity,
            max_degree_of_parallelism=drawn.parallelism,
            partition_by=key,
        )
        return (self.auditor.watch(block, drawn.capacity),)

    def many(self, index, drawn):
        def give(item):
            return [item.through(index, copy) for copy in range(drawn.copies_of(item))]

        async def give_one_by_one(item):
            for copied in give(item):
                await pause(drawn.delay(item))
                yield copied
            self.call(index)

        block = TransformManyBlock(
            give_one_by_one if drawn.swallows else self.work(index, drawn, give),
            bounded_capacity=drawn.capacity,
            max_degree_of_parallelism=drawn.parallelism,
            ensure_ordered=drawn.ordered,
        )
        return (self.auditor.watch(block, drawn.capacity),)

    def stream(self, index, drawn):
        async def unchanged(items):
            async for item in items:
                await pause(drawn.delay(item))
                self.call(index)
                yield item.through(index)

        block = StreamBlock(unchanged, bounded_capacity=drawn.capacity)
        return (self.auditor.watch(block, drawn.capacity),)

    def buffer(self, index, drawn):
        return self.chain(index, BufferBlock(bounded_capacity=drawn.capacity), drawn.capacity)

    def fan_out(self, index, drawn):
        return self.chain(index, FanOutBlock(bounded_capacity=drawn.capacity), drawn.capacity)

    def chain(self, index, block, capacity):
        """Put a block that writes the path before one that cannot."""
        writer = TransformBlock(lambda item: item.through(index), bounded_capacity=1)
        writer.link_to(block)
        return self.auditor.watch(writer, 1), self.auditor.watch(block, capacity)

    def batch(self, index, drawn):
        capacity = drawn.batch_size + drawn.capacity
        batches = BatchBlock(drawn.batch_size, bounded_capacity=capacity)
        members = TransformManyBlock(
            lambda batch: [item.through(index) for item in batch], bounded_capacity=1
        )
        batches.link_to(members)
        return self.auditor.watch(batches, capacity), self.auditor.watch(members, 1)

    def sink(self, index, drawn):
        arrived = self.arrived[index] = []
        block = ActionBlock(
            self.work(index, drawn, lambda item: arrived.append(item.through(index))),
            bounded_capacity=drawn.capacity,
            max_degree_of_parallelism=drawn.parallelism if not drawn.ordered else 1,
            on_error=self.swallow if drawn.swallows else None,
        )
        return (self.auditor.watch(block, drawn.capacity),)

    # What must be true of the arrivals

    def check_arrivals(self, *, complete):
        arrived = list(itertools.chain.from_iterable(self.arrived.values()))
        assert len(set(arrived)) == len(arrived), "an item has been duplicated"
        for index in self.arrived:
            self.check_order(index)
        if complete:
            for source, count in enumerate(self.graph.items):
                for seq in range(count):
                    paths = [i.path for i in arrived if (i.source, i.seq) == (source, seq)]
                    self.check_way(source, Item(source, seq), paths)

    def check_order(self, sink):
        """Items that took the same way keep their order, or that of their key."""
        if not self.graph.nodes[sink].ordered:
            return  # a sink of several workers notes its items in the order they happen to end
        ways = {}
        for item in self.arrived[sink]:
            way = tuple(node for node, _ in item.path)
            drawn = [self.graph.nodes[node] for node in way]
            if all(node.keeps_order() for node in drawn):
                keyed = any(node.kind == "keyed" for node in drawn)
                copies = tuple(copy for _, copy in item.path)
                ways.setdefault((way, keyed and key(item)), []).append((item.seq, copies))
        for way, arrivals in ways.items():
            assert arrivals == sorted(arrivals), f"reordered on the way {way}"

    def check_way(self, index, item, paths):
        """Demand that an item at node `index` went on exactly as the graph prescribes."""
        drawn = self.graph.nodes[index]
        assert all(path[0][0] == index for path in paths), f"astray: {item}"
        expected = 0 if drawn.refuses(item) else drawn.copies_of(item)
        assert {path[0][1] for path in paths} <= set(range(expected)), f"{item} at {index}"
        for copy in range(expected):
            onward = [path[1:] for path in paths if path[0][1] == copy]
            self.check_onward(drawn, item, onward)

    def check_onward(self, drawn, item, onward):
        if drawn.kind == "sink":
            assert onward == [()], f"lost: {item}"
            return
        entered = {path[0][0] for path in onward if path}
        if drawn.kind == "fan-out":
            wanted = set(drawn.targets)
        elif drawn.free_links:
            wanted = self.free_choice(drawn, item, entered)
        else:
            wanted = {drawn.targets[item.seq % len(drawn.targets)]}
        assert entered <= wanted, f"astray: {item}"
        for target in wanted:
            self.check_way(target, item, [path for path in onward if path[0][0] == target])

    def free_choice(self, drawn, item, entered):
        """Give the one link an item took, or none where it may have vanished behind it."""
        assert len(entered) <= 1, "one item has taken two links"
        if not entered:
            assert any(self.may_vanish(target, item) for target in drawn.targets), f"lost: {item}"
        return entered & set(drawn.targets)

    def may_vanish(self, index, item):
        """Tell whether an item at node `index` may rightly reach no sink: refused, or not copied."""
        drawn = self.graph.nodes[index]
        if drawn.refuses(item) or drawn.copies_of(item) == 0:
            return True
        if drawn.kind == "sink":
            return False
        onward = [self.may_vanish(target, item) for target in drawn.targets]
        if drawn.kind == "fan-out":
            return all(onward)
        return any(onward) if drawn.free_links else onward[item.seq % len(onward)]


def key(item):
    return item.seq % 3


def run_graph(graph):
    """Run a drawn graph to its end, and give its world, its auditor and what was raised."""
    auditor = BookKeeper()
    raised = []

    async def main():
        world = World(graph, auditor)
        with trio.fail_after(DEADLINE):
            try:
                with auditor.scope:
                    async with world.network:
                        world.build()
            except* TroubleError as group:
                raised.extend(group.exceptions)
        return world

    world = trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.close()
    return world, raised


@laws
@given(graph=graphs(), schedule=st.random_module())
def test_nothing_is_lost_duplicated_or_reordered_in_any_graph(graph, schedule):
    world, raised = run_graph(graph)
    assert raised == []
    assert {block.state for block in world.auditor.blocks} == {BlockState.COMPLETED}
    world.check_arrivals(complete=True)


@laws
@given(
    graph=graphs(troubles=("raise", "fault", "fault another", "cancel", "cancel outside")),
    schedule=st.random_module(),
)
def test_trouble_anywhere_ends_everything_and_the_books_still_balance(graph, schedule):
    world, raised = run_graph(graph)
    event(f"{graph.trouble}: {'it happened' if world.calls > graph.trouble_at else 'too late'}")
    world.check_arrivals(complete=False)
    assert raised in ([], [world.trouble])
    if world.must_raise:
        assert raised == [world.trouble]
    if world.cancelled:
        assert raised == []
    if not raised and not world.cancelled:
        world.check_arrivals(complete=True)
    if raised:
        states = [block.state for block in world.auditor.blocks]
        assert states.count(BlockState.FAULTED) == 1


@laws
@given(
    senders=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.none() | st.integers(0, 12)),
        max_size=4,
    ),
    receivers=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 12)), max_size=3),
    parallelism=st.integers(1, 3),
    capacity=st.integers(1, 4),
    schedule=st.random_module(),
)
def test_cancelled_senders_and_receivers_neither_lose_nor_double_an_item(
    senders, receivers, parallelism, capacity, schedule
):
    auditor = BookKeeper()
    sent, received = [], []

    async def work(item):
        await pause(item[1] % 3)
        return item

    async def main():
        block = TransformBlock(
            work, bounded_capacity=capacity, max_degree_of_parallelism=parallelism
        )
        with trio.fail_after(DEADLINE), auditor.scope:
            async with Network() as network:
                network.add(auditor.watch(block, capacity))
                async with trio.open_nursery() as nursery:
                    for turns, limit in receivers:
                        nursery.start_soon(limited, limit, receiver, block, received, turns)
                    nursery.start_soon(limited, None, receiver, block, received, 0)
                    async with trio.open_nursery() as sending:
                        for name, (count, turns, limit) in enumerate(senders):
                            items = [(name, number) for number in range(count)]
                            sending.start_soon(limited, limit, sender, block, sent, items, turns)
                    block.complete()

    trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.close()
    assert len(set(received)) == len(received)
    assert set(received) == set(sent)


@laws
@given(
    count=st.integers(0, 20),
    changes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=10),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    capacity=st.integers(1, 3),
    schedule=st.random_module(),
)
def test_links_closed_and_made_anew_neither_lose_nor_double_an_item(
    count, changes, delays, capacity, schedule
):
    auditor = BookKeeper()
    arrived = [[], [], []]

    def sink(index):
        async def note(item):
            await pause(delays[item % len(delays)])
            arrived[index].append(item)

        return auditor.watch(ActionBlock(note, bounded_capacity=capacity), capacity)

    async def main():
        with trio.fail_after(DEADLINE), auditor.scope:
            async with Network() as network:
                source = auditor.watch(SourceBlock(range(count), bounded_capacity=2), 2)
                buffer = auditor.watch(BufferBlock(bounded_capacity=capacity), capacity)
                sinks = [sink(index) for index in range(3)]
                source.link_to(buffer)
                network.add(source, *sinks)
                keep_open(network, sinks)
                link = buffer.link_to(sinks[0])
                for turns, index in changes:
                    await pause(turns)
                    link.close()
                    await pause(turns % 2)
                    link = buffer.link_to(sinks[index])

    trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.close()
    assert sorted(itertools.chain.from_iterable(arrived)) == list(range(count))
    for items in arrived:
        assert items == sorted(items)


def keep_open(network, sinks):
    """Link every sink to an idle buffer, so that it completes at the drain and not before."""
    idle = network.add(BufferBlock())
    for target in sinks:
        idle.link_to(target)


@laws
@given(
    sides=st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=2, max_size=3),
    capacity=st.integers(1, 3),
    greedy=st.booleans(),
    trouble_at=st.none() | st.integers(0, 15),
    schedule=st.random_module(),
)
def test_the_books_of_a_join_balance_whatever_becomes_of_its_sides(
    sides, capacity, greedy, trouble_at, schedule
):
    auditor = BookKeeper()
    seen = []

    async def feed(side, delays):
        for item, delay in enumerate(delays):
            await pause(delay)
            try:
                await side.send(item)
            except BlockClosedError:
                return
        side.complete()

    async def note(joined):
        await pause(joined[0] % 3)
        seen.append(joined)
        if len(seen) == trouble_at:
            raise TroubleError

    async def main():
        join = JoinBlock(len(sides), bounded_capacity=capacity, greedy=greedy)
        try:
            with trio.fail_after(DEADLINE), auditor.scope:
                async with Network() as network, trio.open_nursery() as nursery:
                    network.add(auditor.watch(join))
                    join.link_to(auditor.watch(ActionBlock(note, bounded_capacity=1), 1))
                    for side, delays in zip(join.targets, sides, strict=True):
                        nursery.start_soon(feed, side, delays)
        except* TroubleError:
            pass
        return join

    join = trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.check()
    counts = join.statistics()
    assert counts.inside == 0
    assert counts.accepted == counts.finished + counts.discarded
    pairs = min(map(len, sides))
    expected = [(item,) * len(sides) for item in range(pairs)]
    if trouble_at is None or not 1 <= trouble_at <= pairs:
        assert seen == expected
    else:
        assert seen == expected[:trouble_at]


@laws
@given(
    rounds=st.lists(st.integers(0, 5), max_size=10),
    delays=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    parallelism=st.integers(1, 3),
    schedule=st.random_module(),
)
def test_a_cycle_ends_once_every_item_has_left_it(rounds, delays, parallelism, schedule):
    auditor = BookKeeper()
    left = []

    async def count_down(item):
        index, turns = item
        await pause(delays[index % len(delays)])
        return index, turns - 1

    async def main():
        with trio.fail_after(DEADLINE), auditor.scope:
            async with Network() as network:
                loop = auditor.watch(
                    TransformBlock(
                        count_down,
                        bounded_capacity=math.inf,
                        max_degree_of_parallelism=parallelism,
                    )
                )
                source = SourceBlock([(index, turns + 1) for index, turns in enumerate(rounds)])
                sink = ActionBlock(left.append)
                auditor.watch(source).link_to(loop)
                loop.link_to(loop, lambda item: item[1] > 0)
                loop.link_to(auditor.watch(sink), lambda item: item[1] == 0)
                network.add(source)

    trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.close()
    assert sorted(left) == [(index, 0) for index in range(len(rounds))]


@laws
@given(
    count=st.integers(0, 30),
    end_at=st.integers(0, 20),
    way=st.sampled_from(["complete", "cancel", "fault", "null"]),
    capacity=st.integers(1, 3),
    schedule=st.random_module(),
)
def test_every_waiting_task_is_settled_when_a_block_ends(count, end_at, way, capacity, schedule):
    auditor = BookKeeper()
    settled = []

    async def settle(block, number):
        with contextlib.suppress(BlockClosedError):
            await block.send(number)
        settled.append(number)

    async def main():
        block = BufferBlock(bounded_capacity=capacity)
        with trio.fail_after(DEADLINE), auditor.scope:
            async with trio.open_nursery() as nursery:
                try:
                    async with Network() as network:
                        network.add(auditor.watch(block, capacity))
                        for number in range(count):
                            nursery.start_soon(settle, block, number)
                        await pause(end_at)
                        end(network, block, way)
                except* TroubleError:
                    assert way == "fault"

    trio.run(main, clock=virtual_clock(), instruments=[auditor])
    auditor.close()
    assert sorted(settled) == list(range(count))


def end(network, block, way):
    if way == "cancel":
        network.cancel()
    elif way == "fault":
        block.fault(TroubleError())
    else:
        block.link_to(null_target())
        if way == "complete":
            block.complete()


@laws
@given(body_stays=st.booleans(), capacity=st.integers(1, 3), schedule=st.random_module())
async def test_an_outer_cancellation_never_passes_for_success_where_items_were_lost(
    body_stays, capacity, schedule
):
    async def never(item):
        await trio.sleep_forever()

    async def cancel(item):
        scope.cancel()
        return item

    with trio.CancelScope() as scope:
        async with Network() as network:
            ended, last = network.add(BufferBlock(), TransformBlock(cancel))
            sink = ActionBlock(never, bounded_capacity=capacity)
            ended.link_to(sink)
            last.link_to(sink)
            for item in range(capacity):
                ended.post(item)
            ended.complete()
            await wait_all_tasks_blocked()
            last.post("item")
            if body_stays:
                await trio.sleep_forever()
    assert sink.state is BlockState.CANCELLED
    assert sink.statistics().discarded == sink.statistics().accepted


async def test_an_input_without_outputs_counts_until_its_turn_in_the_order_has_come():
    gate = trio.Event()

    async def nothing(item):
        if item == 0:
            await gate.wait()
        return []

    async with Network() as network:
        block = TransformManyBlock(nothing, bounded_capacity=2, max_degree_of_parallelism=2)
        block.link_to(null_target())
        network.add(block)
        for item in range(5):
            block.post(item)
            await wait_all_tasks_blocked()
            counts = block.statistics()
            assert counts.inside <= 2
            assert counts.accepted == counts.finished + counts.inside
        gate.set()


def test_a_deadlock_would_be_noticed():
    """The virtual deadline must fire when every task waits: or the laws above would prove less."""

    async def main():
        with trio.fail_after(DEADLINE):
            await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=virtual_clock())
