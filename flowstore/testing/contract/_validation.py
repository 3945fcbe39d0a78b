# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Bad input gets a clear error, before anything is written."""

from typing import Any
from uuid import uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError, InvalidEventError
from flowstore.events import Event, NewEvent
from flowstore.testing.contract._domain import Deposited, Opened, commit, values


@attrs.frozen
class Measured:
    """An event that takes anything."""

    value: Any


def nested(depth: int) -> list[Any]:
    """Make a list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class TestValidation:
    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), "a\0b", "\ud800", "x" * (2 << 20), nested(500)],
        ids=["nan", "infinity", "nul", "half a pair", "two megabytes", "deep"],
    )
    async def test_what_can_not_be_kept_is_refused(self, store: Store, value: Any) -> None:
        stream = uuid4()
        async with store.session() as session:
            with pytest.raises(InvalidEventError):
                session.events.append(stream, Measured(value))
                await session.save_changes()
        assert await values(store, stream) == []

    async def test_the_error_names_type_and_place(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(InvalidEventError, match=r"Measured.*value"):
                session.events.append(uuid4(), Measured(float("nan")))
                await session.save_changes()

    @pytest.mark.parametrize("wrong", [None, "text", 7, {"a": 1}, [Deposited(1)], object()])
    async def test_what_is_no_event_is_refused(self, store: Store, wrong: Any) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.events.append(uuid4(), wrong)
                await session.save_changes()

    async def test_a_class_is_no_event(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.events.append(uuid4(), Deposited)
                await session.save_changes()

    async def test_a_recorded_event_is_not_appended_as_it_is(self, store: Store) -> None:
        [event] = (await commit(store, uuid4(), Deposited(1))).events
        assert isinstance(event, Event)
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.events.append(uuid4(), event)
                await session.save_changes()

    def test_an_envelope_takes_no_envelope(self) -> None:
        with pytest.raises(FlowstoreError):
            NewEvent(NewEvent(Deposited(1)))

    async def test_a_refused_event_keeps_its_whole_session_from_being_written(
        self, store: Store
    ) -> None:
        good, bad = uuid4(), uuid4()
        async with store.session() as session:
            session.events.append(good, Opened("Ada"))
            with pytest.raises(InvalidEventError):
                session.events.append(bad, Measured(float("nan")))
                await session.save_changes()
        assert await values(store, good) == []
        assert await values(store, bad) == []

    async def test_later_changes_of_a_queued_event_are_not_recorded(self, store: Store) -> None:
        stream, several = uuid4(), [1]
        async with store.session() as session:
            session.events.append(stream, Measured(several))
            await session.save_changes()
            several.append(2)
        assert await values(store, stream) == [Measured([1])]

    @pytest.mark.parametrize("value", ["", "☃", "\n\t", 0, -1, 2**60, 0.1, True, None, [], {}])
    async def test_the_edges_of_json_are_kept(self, store: Store, value: Any) -> None:
        stream = uuid4()
        await commit(store, stream, Measured(value))
        assert await values(store, stream) == [Measured(value)]
