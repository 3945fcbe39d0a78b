"""The registry finds a projection by all that it goes by, and keeps them apart."""

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from flowstore.errors import RegistrationError, UnknownProjectionError
from flowstore.events import Compacted
from flowstore.projections import (
    AsyncOptions,
    IProjection,
    Lifecycle,
    Projections,
    apply_projection,
    document_key,
    shard_name,
)


@attrs.frozen
class Opened:
    pass


@attrs.frozen
class Closed:
    pass


@attrs.define
class Issue:
    id: str

    def apply_opened(self, _: Opened) -> None: ...


@attrs.frozen
class Entry:
    id: str


def entry(_: Closed) -> Entry | None: ...


@attrs.define
class Recorder:
    name: str = "recorder"
    consumes: Any = ()
    produces: Any = None
    async_options: Any = attrs.field(factory=AsyncOptions)
    seen: list[Any] = attrs.field(factory=list)

    def apply(self, session, streams) -> None:
        self.seen.append(streams)


class AsyncRecorder(Recorder):
    async def apply(self, session, streams) -> None:
        self.seen.append(streams)


@pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])
async def test_apply_may_be_plain_or_async(kind, memory_session, stream_of):
    projection, streams = kind(), [stream_of("a", Opened())]
    await apply_projection(projection, memory_session(), streams)
    assert projection.seen == [streams]


def test_any_object_with_the_members_is_a_projection():
    assert isinstance(Recorder(), IProjection)
    assert not isinstance(Issue("a"), IProjection)


def test_a_projection_is_found_by_name_type_class_source_and_itself():
    projections, recorder = Projections(), Recorder()
    issues = projections.aggregate_streams_with(Issue, version=2)
    entries = projections.transform(entry)
    projections.add(recorder)
    for asked in ("Issue", "Issue:v2", Issue, issues):
        assert projections.find(asked).projection is issues
    for asked in ("entry", Entry, entry, type(entries)):
        assert projections.find(asked).projection is entries
    for asked in ("recorder", Recorder, recorder):
        assert projections.find(asked).projection is recorder


@pytest.mark.parametrize("asked", ["issue", Opened, None, 3])
def test_what_is_not_registered_lists_what_is(asked):
    projections = Projections()
    projections.aggregate_streams_with(Issue)
    projections.add(Recorder("all"))
    with pytest.raises(UnknownProjectionError) as caught:
        projections.find(asked)
    assert caught.value.known == ("Issue", "all")


def test_a_class_of_several_projections_names_none_of_them():
    projections = Projections()
    projections.add(Recorder("one"))
    projections.add(Recorder("two"))
    with pytest.raises(UnknownProjectionError, match="'one', 'two'"):
        projections.find(Recorder)


def test_projections_are_asynchronous_unless_said_otherwise():
    projections = Projections()
    projections.aggregate_streams_with(Issue)
    projections.transform(entry, lifecycle=Lifecycle.INLINE)
    projections.add(Recorder())
    assert [item.projection.name for item in projections.asynchronous()] == ["Issue", "recorder"]
    assert [item.projection.name for item in projections.inline()] == ["entry"]
    assert projections.of(Lifecycle.LIVE) == ()
    assert [item.projection.name for item in projections] == ["Issue", "entry", "recorder"]


def test_a_changed_version_has_progress_and_documents_of_its_own():
    first = Projections().aggregate_streams_with(Issue)
    second = Projections().aggregate_streams_with(Issue, version=2)
    assert (shard_name(first), document_key(first)) == ("Issue", "Issue")
    assert (shard_name(second), document_key(second)) == ("Issue:v2", "Issue:v2")


def test_a_projection_without_a_version_is_at_its_first():
    assert shard_name(Recorder()) == "recorder"
    assert document_key(Recorder()) is None


def test_one_name_is_registered_once():
    projections = Projections()
    projections.add(Recorder("Issue"))
    with pytest.raises(RegistrationError, match="'Issue' is registered already"):
        projections.aggregate_streams_with(Issue)
    projections.aggregate_streams_with(Issue, name="issues")


def test_a_name_that_looks_like_anothers_shard_is_refused():
    projections = Projections()
    projections.aggregate_streams_with(Issue, version=2)
    with pytest.raises(RegistrationError, match="registered already"):
        projections.add(Recorder("Issue:v2"))


def test_one_document_type_is_produced_once():
    projections = Projections()
    projections.aggregate_streams_with(Issue)
    with pytest.raises(RegistrationError, match=r"produced by 'Issue' already"):
        projections.add(Recorder(produces=Issue))
    assert projections.producing(Issue) is projections.find("Issue")
    assert projections.producing(Entry) is None


def test_event_types_are_those_that_projections_name():
    projections = Projections()
    projections.aggregate_streams_with(Issue)
    projections.transform(entry)
    projections.add(Recorder(consumes=[Opened]))
    assert set(projections.event_types()) == {Opened, Closed, Compacted}


def test_a_live_rule_needs_no_registration_and_is_the_registered_one_if_there_is():
    projections = Projections()
    assert projections.rule_for(Issue) is projections.rule_for(Issue)
    registered = projections.aggregate_streams_with(Issue)
    assert projections.rule_for(Issue) is registered.rule


def test_only_an_aggregate_can_be_live():
    projections = Projections()
    projections.aggregate_streams_with(Issue, lifecycle=Lifecycle.LIVE)
    with pytest.raises(RegistrationError, match="'recorder' can't be live"):
        projections.add(Recorder(), lifecycle=Lifecycle.LIVE)
    with pytest.raises(RegistrationError, match="no lifecycle"):
        projections.add(Recorder(), lifecycle="async")


@attrs.define
class Incomplete:
    name: str = "incomplete"

    def apply(self, session, streams) -> None: ...


@pytest.mark.parametrize(
    ("projection", "words"),
    [
        (Incomplete(), ["Incomplete", "consumes, produces, async_options"]),
        (Recorder, ["Recorder is a class"]),
        (Recorder(" "), ["can't be a projection's name"]),
        (Recorder(consumes="Opened"), ["Recorder.consumes is 'Opened'"]),
        (Recorder(consumes=3), ["Recorder.consumes is 3"]),
        (Recorder(consumes=["Opened"]), ["Recorder.consumes holds 'Opened'"]),
        (Recorder(produces="Entry"), ["Recorder.produces is 'Entry'"]),
        (Recorder(async_options=None), ["async_options of 'recorder' is None"]),
    ],
)
def test_what_is_no_projection_is_refused(projection, words):
    with pytest.raises(RegistrationError) as caught:
        Projections().add(projection)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("settings", [{"name": ""}, {"version": 0}, {"version": True}])
def test_names_and_versions_are_checked(settings):
    with pytest.raises(RegistrationError, match="can't be a projection's"):
        Projections().aggregate_streams_with(Issue, **settings)


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 0},
        {"page_size": True},
        {"page_size": 2.5},
        {"start_from": "end"},
        {"start_from": -1},
        {"start_from": None},
        {"start_from": True},
        {"start_from": datetime(2026, 1, 2)},  # noqa: DTZ001  # the point
        {"on_error": "ignore"},
        {"on_rebuild_error": None},
        {"include_archived": 1},
    ],
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(RegistrationError, match=rf"AsyncOptions\.{next(iter(options))} is"):
        AsyncOptions(**options)


@pytest.mark.parametrize("start", ["beginning", "now", "inline", 0, datetime.now(UTC)])
def test_a_projection_starts_where_it_is_told(start):
    assert AsyncOptions(start_from=start).start_from == start


def test_options_have_the_documented_defaults():
    options = AsyncOptions()
    assert (options.page_size, options.start_from) == (500, "beginning")
    assert (options.on_error, options.on_rebuild_error) == ("dead_letter", "stop")
    assert options.include_archived is False
