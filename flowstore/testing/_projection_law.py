"""Everything that is promised of projections, for one of the user's, in a line."""

from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import Any, Final

import attrs
import trio
from cattrs import Converter
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from flowstore.codec import EventRegistry, make_converter
from flowstore.errors import RegistrationError
from flowstore.projections import AggregateProjection, IProjection, Lifecycle, members_of
from flowstore.store import StoreOptions
from flowstore.testing._exploring import law_settings, outside_trio
from flowstore.testing._proving import LONGEST_PAUSE, Case, Proof, Trial
from flowstore.testing._schedules import CommitSchedule, commit_schedules
from flowstore.testing._strategies import EventSource, applications_own, crash_points, page_sizes
from flowstore.testing._subjects import MakeProjection, maker_of

__all__ = ["check_projection"]

_EXAMPLES: Final = 50
"""Of some tens of milliseconds each."""

_FEWEST_STEPS: Final = 4
_MOST_STEPS: Final = 12
"""Of a schedule: left to themselves half of all lists are shorter than what it takes to go wrong."""

_DEADLINE: Final = 1_000_000
"""Virtual seconds: whoever waits as long waits for ever."""


@attrs.frozen
class FlowstoreStranger:
    """An event that the projection doesn't consume: it leaves holes in the versions."""


def check_projection(
    projection: Any,
    *events: EventSource,
    first: EventSource | None = None,
    schedules: st.SearchStrategy[CommitSchedule] | None = None,
    options: Callable[[], StoreOptions] | None = None,
    lifecycles: Collection[Lifecycle] | None = None,
    settings: settings | None = None,
) -> None:
    """Check that a projection gives the same documents however, and in whatever company, it runs.

    Some appends are drawn that overlap: with gaps in the sequence, and commits out of their order.
    Their events are applied one at a time; what the documents are after each is what they have to
    be. Then the projection follows the same appends in a daemon, in pages of drawn sizes, while its
    commits fail, their answers are lost, and its process crashes or is cancelled and another one
    goes on. After every commit the documents are those of all events up to the progress and of no
    others: none skipped, none repeated, none too early. Then it is rebuilt, and runs inline and live
    as far as its kind allows. Events have to be left as they were handed over. Where it fails,
    Hypothesis finds the smallest appends that do. Works in plain tests and in async ones; takes a
    few seconds.

        check_projection(Basket)

    It judges what a projection writes through its session: documents, of whatever class, and rows of
    flat tables. So it finds one that trusts its own memory, commits by itself, or applies an event
    twice, as far as documents differ then: `check_exactly_once` and `check_progress` for effects
    that are documents. What is done in other ways nobody sees here, and it may happen again with
    every attempt and in every rebuild: mails, files, other databases, rows written by SQL. Nor does
    it look at when `after_commit` is called. Record such effects, and hold them against those two
    laws yourself; or write them as documents, and send from there.

    Args:
        projection: an `IProjection`, which is copied for each process; its class, or a function
            without parameters that makes one; an aggregate's class; an annotated function that
            makes a document of an event.
        *events: what is appended, as for `event_histories`; nothing: what it consumes, among events
            that it doesn't.
        first: the same for what each stream begins with; None: as any other event.
        schedules: appends, a strategy, instead of `events` and `first`; see `commit_schedules`.
        options: makes the options of a store: its identities, tenancy, types, converter; None
            takes the default ones.
        lifecycles: in which ways it has to come to the same; None: all that its kind can have.
        settings: Hypothesis', for all of it; None: some tens of examples, without deadline, more if
            the loaded profile has more than 100.

    Raises:
        BrokenLawError: names the document, its fields, the progress, and what happened on the way
            there; or the event that was changed.
        RegistrationError: the projection can't be registered.
        NotInMemoryError: it executes SQL.
        ValueError: no events to draw from; nothing was ever written, so nothing was checked; or it
            doesn't start from the beginning.
    """
    make, to_options = maker_of(projection), options or _usual_options
    proof = Proof(make, to_options, _ways(make, to_options, lifecycles))
    if schedules is None:
        schedules = _schedules(make(), events, first, to_options())
    has_written: list[str] = []
    law = law_settings(settings, _EXAMPLES)

    @law
    @given(case=_cases(schedules), scheduler=st.random_module())
    def explore(case: Case, scheduler: Any) -> None:
        del scheduler  # seeds the order in which trio runs its tasks
        if trio.run(_tried, proof, case, clock=MockClock(autojump_threshold=0)):
            has_written.append("something")

    outside_trio(explore)
    if not has_written:
        raise ValueError(
            f"projection {make().name!r} wrote nothing in any run, so that nothing was checked:"
            " give it events that it writes documents of"
        )


def _usual_options() -> StoreOptions:
    return StoreOptions(events=EventRegistry(converter=_usual_converter()))


@cache
def _usual_converter() -> Converter:
    """Make the converter once: it costs milliseconds, and a check has hundreds of processes."""
    return make_converter()


async def _tried(proof: Proof, case: Case) -> bool:
    with trio.fail_after(_DEADLINE):
        return await Trial(proof, case).run()


def _cases(schedules: st.SearchStrategy[CommitSchedule]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        schedule=schedules,
        sizes=page_sizes(max_size=6),
        crashes=crash_points(),
        cancellations=st.lists(st.integers(0, 150), max_size=2).map(tuple),
        pauses=st.lists(st.integers(0, LONGEST_PAUSE), min_size=1, max_size=4),
    )


def _schedules(
    projection: IProjection,
    events: Iterable[EventSource],
    first: EventSource | None,
    options: StoreOptions,
) -> st.SearchStrategy[CommitSchedule]:
    sources = list(events) or list[EventSource](applications_own(projection.consumes))
    if not sources:
        raise ValueError(
            f"projection {projection.name!r} consumes every event there is: name those to draw, as"
            " in check_projection(projection, Ordered, Cancelled)"
        )
    if projection.consumes and not _follows_versions(projection):
        sources.append(st.builds(FlowstoreStranger))
    return commit_schedules(
        *sources,
        first=first,
        max_streams=2,
        min_steps=_FEWEST_STEPS,
        max_steps=_MOST_STEPS,
        stream_identity=options.stream_identity,
        tenants=["a", "b"] if options.tenancy == "conjoined" else [],
    )


def _follows_versions(projection: IProjection) -> bool:
    """Tell whether an aggregate has the version of the last event that was handed to it.

    Live it is handed every event, and in the daemon those that it consumes: then they differ.
    """
    return any(
        isinstance(member, AggregateProjection) and member.rule.keeps_version
        for member in members_of(projection)
    )


def _ways(
    make: MakeProjection,
    options: Callable[[], StoreOptions],
    wanted: Collection[Lifecycle] | None,
) -> frozenset[Lifecycle]:
    """Find the lifecycles that a projection can have, of those that are wanted."""
    projection = make()
    if projection.async_options.start_from != "beginning":
        raise ValueError(
            f"projection {projection.name!r} starts from {projection.async_options.start_from!r}:"
            " only what starts from the beginning can be checked"
        )
    options().projections.add(make())
    found = {Lifecycle.ASYNC}
    if isinstance(projection, AggregateProjection):
        found.add(Lifecycle.LIVE)
    try:
        options().projections.add(make(), lifecycle=Lifecycle.INLINE)
        found.add(Lifecycle.INLINE)
    except RegistrationError:
        pass
    missing = frozenset(wanted or ()) - found
    if missing:
        raise ValueError(
            f"projection {projection.name!r} can't be {', '.join(sorted(each.value for each in missing))}"
        )
    return frozenset(found if wanted is None else wanted)
