"""Running a graph of blocks over drawn items, delays, schedules and cancellations."""

import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, cast

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from flowstore.blocks import ActionBlock, Network, Source, SourceBlock
from flowstore.testing._arrivals import (
    KeyedItem,
    Naming,
    check_key_order,
    check_nothing_lost,
    naming_of,
)
from flowstore.testing._books import BookKeeper
from flowstore.testing._exploring import law_settings, outside_trio

__all__ = ["Probe", "check_pipeline_order", "keyed_items"]

_EXAMPLES: Final = 300
"""Runs of a few milliseconds each."""

_DEADLINE: Final = 1_000_000
"""Virtual seconds: the clock jumps only when every task waits, so nobody waits for it for real."""


@attrs.frozen(eq=False)
class Probe:
    """What a graph under test may ask of its law."""

    _delays: Sequence[int] = attrs.field(alias="delays")
    _arrived: list[Any] = attrs.field(alias="arrived")
    _calls: list[int] = attrs.field(factory=lambda: [0], init=False)

    async def delay(self, _item: Any = None) -> None:
        """Wait for as long as is drawn: other tasks run so many times meanwhile.

        Put it where a function of the graph asks somebody else. Each call waits another while.
        """
        turns = self._delays[self._calls[0] % len(self._delays)]
        self._calls[0] += 1
        await trio.lowlevel.checkpoint()
        for _ in range(turns):
            await trio.lowlevel.checkpoint()

    def arrive(self, item: Any) -> None:
        """Note that an item has come out; for graphs that end in a sink of their own."""
        self._arrived.append(item)


@attrs.frozen
class _Run:
    """What is drawn for one run of a graph."""

    items: tuple[Any, ...]
    delays: tuple[int, ...]
    pauses: tuple[int, ...]
    capacity: int
    cancel_after: int | None


@attrs.frozen
class _Outcome:
    """What a run has come to.

    Attributes:
        outputs: what arrived, output by output; what was told to the probe first.
        is_cancelled: whether it ended before everything could arrive.
    """

    outputs: list[list[Any]]
    is_cancelled: bool


def check_pipeline_order(
    build: Callable[..., Any] | st.SearchStrategy[Any],
    *,
    items: st.SearchStrategy[Iterable[Any]] | None = None,
    key: Callable[[Any], Hashable] | None = None,
    place: Callable[[Any], Hashable] | None = None,
    complete: bool = True,
    cancellations: bool = True,
    settings: settings | None = None,
) -> None:
    """Check that a graph of blocks keeps the order of each key, and loses and repeats nothing.

    It is built and run some hundreds of times, with other items, delays, capacities and orders in
    which trio runs its tasks; some runs are cancelled on their way. Where it fails, Hypothesis
    finds the smallest run that does. Works in plain tests and async ones.

        def build(source, probe):
            async def look_up(event):
                await probe.delay()  # for what the application would wait for
                return event

            return pipe(source, TransformBlock(look_up, max_degree_of_parallelism=4))

        check_pipeline_order(build, items=event_histories(Ordered))

    Args:
        build: is called with a source block, and a `Probe` if it takes two arguments. It links
            blocks behind the source and gives the last one, or several, whose outputs are then
            noted; or nothing, if its own sink tells the probe what arrives. Or a strategy of such
            functions, as `pipelines()` is.
        items: what is sent, a strategy of iterables; None: `KeyedItem`s of three keys.
        key: of an item, sent or arrived, whose order it keeps; None: an event's stream, a
            `KeyedItem`'s key, or for everything else one key for all.
        place: of an item, sent or arrived, what no other of its key has; None: an event's
            version, a `KeyedItem`'s number, or the item itself.
        complete: whether every item has to arrive, at one output at least.
        cancellations: whether some runs are cancelled: of each key a beginning has arrived then.
        settings: Hypothesis', for all of it; None: some hundreds of examples, without deadline,
            more if the loaded profile has more than 100.

    Raises:
        BrokenLawError: names the key, and what was sent and arrived of it; or the block whose
            books do not balance.
        ExceptionGroup: a block of the graph failed, or it stalled.
    """
    naming, law = naming_of(key, place), law_settings(settings, _EXAMPLES)

    builds = cast("Any", build) if isinstance(build, st.SearchStrategy) else st.just(build)

    @law
    @given(
        build=builds,
        run=_runs(items, cancellations=cancellations),
        scheduler=st.random_module(),
    )
    def explore(build: Callable[..., Any], run: _Run, scheduler: Any) -> None:
        del scheduler  # seeds the order in which trio runs its tasks
        _check_outcome(run.items, _play(build, run), naming, complete=complete)

    outside_trio(explore)


def _check_outcome(
    sent: Sequence[Any], outcome: _Outcome, naming: Naming, *, complete: bool
) -> None:
    whole = complete and not outcome.is_cancelled
    several, key, place = len(outcome.outputs) > 1, naming.key, naming.place
    for arrived in outcome.outputs:
        if complete and outcome.is_cancelled and not several:
            check_nothing_lost(sent, arrived, key=key, place=place)
        else:
            check_key_order(sent, arrived, key=key, place=place, complete=whole and not several)
    if several and whole:
        # Each output may have its share: between them nothing is missing.
        anywhere = {naming.of(item) for arrived in outcome.outputs for item in arrived}
        shared = [item for item in sent if naming.of(item) in anywhere]
        check_key_order(sent, shared, key=key, place=place)


def _runs(
    items: st.SearchStrategy[Iterable[Any]] | None, *, cancellations: bool
) -> st.SearchStrategy[_Run]:
    delays = st.lists(st.integers(0, 4), min_size=1, max_size=6).map(tuple)
    return st.builds(
        _Run,
        items=(keyed_items() if items is None else items).map(tuple),
        delays=delays,
        pauses=st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple),
        capacity=st.integers(1, 5),
        cancel_after=st.none() | st.integers(0, 40) if cancellations else st.none(),
    )


def keyed_items(*, keys: int = 3, most: int = 12) -> st.SearchStrategy[tuple[KeyedItem, ...]]:
    """Draw items of several keys, mixed."""
    return st.lists(st.integers(0, keys - 1), max_size=most).map(_numbered)


def _numbered(keys: Sequence[int]) -> tuple[KeyedItem, ...]:
    return tuple(KeyedItem(key, keys[:index].count(key)) for index, key in enumerate(keys))


def _play(build: Callable[..., Any], run: _Run) -> _Outcome:
    books = BookKeeper()
    outcome: _Outcome = trio.run(
        _run_graph, build, run, books, clock=MockClock(autojump_threshold=0), instruments=[books]
    )
    books.close()
    return outcome


async def _run_graph(build: Callable[..., Any], run: _Run, books: BookKeeper) -> _Outcome:
    told: list[Any] = []
    outputs = [told]
    with trio.fail_after(_DEADLINE), books.scope:
        async with trio.open_nursery() as nursery:
            async with Network() as network:
                source = SourceBlock(_paced(run), bounded_capacity=run.capacity)
                ends = _built(build, source, Probe(run.delays, told))
                outputs += [_noted(end) for end in ends]
                network.add(source, *(cast("Any", end) for end in ends))
                for block in network.statistics():
                    books.watch(block)
                if run.cancel_after is not None:
                    nursery.start_soon(_cancel_after, run.cancel_after, network)
            nursery.cancel_scope.cancel()
    is_cancelled = any(block.state.name == "CANCELLED" for block in books.blocks)
    return _Outcome(outputs if len(outputs) == 1 else _spoken(outputs), is_cancelled)


def _spoken(outputs: list[list[Any]]) -> list[list[Any]]:
    """Leave the probe out where it was told nothing and outputs were noted."""
    return outputs if outputs[0] else outputs[1:]


def _paced(run: _Run) -> Callable[[], Any]:
    async def items() -> Any:
        for index, item in enumerate(run.items):
            for _ in range(run.pauses[index % len(run.pauses)]):
                await trio.lowlevel.checkpoint()
            yield item

    return items


def _built(build: Callable[..., Any], source: SourceBlock[Any], probe: Probe) -> list[Source[Any]]:
    wants_probe = len(inspect.signature(build).parameters) > 1
    given = build(source, probe) if wants_probe else build(source)
    several = cast("Iterable[Any]", given if isinstance(given, (tuple, list)) else [given])
    return [each for each in several if isinstance(each, Source)]


def _noted(end: Source[Any]) -> list[Any]:
    arrived: list[Any] = []
    end.link_to(ActionBlock(arrived.append, name="arrived"))
    return arrived


async def _cancel_after(turns: int, network: Network) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    network.cancel()
