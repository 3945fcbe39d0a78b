# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Bringing many events in, and taking all of them out."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError, FlowstoreError
from flowstore.events import NewEvent
from flowstore.store import StoreOptions
from flowstore.testing.contract._archiving import archive
from flowstore.testing.contract._domain import Deposited, Opened, commit, read, values
from flowstore.testing.contract._fixtures import Capability, OpenStore, needs

THEN = datetime(2001, 2, 3, 4, 5, 6, 7, UTC)


class TestImporting:
    async def test_the_order_of_the_source_is_kept(self, store: Store) -> None:
        one, other = uuid4(), uuid4()
        count = await store.import_events(
            (one if number % 3 else other, Deposited(number)) for number in range(30)
        )
        assert count == 30
        page = await store.fetch_page(0, await store.high_water())
        assert [event.data.amount for event in page.events] == list(range(30))
        assert [event.version for event in await read(store, one)] == list(range(1, 21))

    async def test_the_source_may_be_async(self, store: Store) -> None:
        stream = uuid4()

        async def source():
            for number in range(3):
                yield stream, Deposited(number)

        assert await store.import_events(source()) == 3
        assert [value.amount for value in await values(store, stream)] == [0, 1, 2]

    async def test_metadata_comes_along(self, store: Store) -> None:
        stream, identity = uuid4(), uuid4()
        event = NewEvent(Opened("Ada"), id=identity, timestamp=THEN, headers={"a": 1})
        await store.import_events([(stream, event)])
        [found] = await read(store, stream)
        assert (found.id, found.timestamp, found.headers) == (identity, THEN, {"a": 1})

    async def test_an_existing_stream_goes_on(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await store.import_events([(stream, Deposited(1))])
        await commit(store, stream, Deposited(2))
        assert [event.version for event in await read(store, stream)] == [1, 2, 3]

    async def test_a_failing_source_leaves_nothing(self, store: Store) -> None:
        stream = uuid4()

        def source():
            yield stream, Deposited(1)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.import_events(source())
        assert await read(store, stream) == []
        assert (await store.fetch_page(0, await store.high_water())).events == ()

    async def test_nothing_is_no_error(self, store: Store) -> None:
        assert await store.import_events([]) == 0

    async def test_recorded_events_of_another_store(
        self, store: Store, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1), user_name="ada")
        recorded = await read(store, stream)
        async with open_store_for(StoreOptions(), "other") as copy:
            await copy.import_events((event.stream_id, event) for event in recorded)
            found = await read(copy, stream)
        assert [attrs.evolve(each, sequence=0) for each in found] == [
            attrs.evolve(each, sequence=0) for each in recorded
        ]

    async def test_a_recorded_event_out_of_turn_is_refused(
        self, store: Store, open_store_for: OpenStore
    ) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        recorded = await read(store, stream)
        async with open_store_for(StoreOptions(), "other") as copy:
            with pytest.raises(ConcurrencyError):
                await copy.import_events([(stream, recorded[1])])
            assert await read(copy, stream) == []

    async def test_a_bad_event_is_refused_whole(self, store: Store) -> None:
        stream = uuid4()
        with pytest.raises(FlowstoreError):
            await store.import_events([(stream, Deposited(1)), (stream, object())])
        assert await read(store, stream) == []


@needs(Capability.FILES)
class TestFiles:
    async def fill(self, store: Store) -> tuple[Any, Any]:
        """Commit a stream and an archived one."""
        stream, archived = uuid4(), uuid4()
        own = NewEvent(Opened("ünï ☃\n"), id=uuid4(), timestamp=THEN, headers={"a": [1, None]})
        await commit(store, stream, own, correlation_id="c", causation_id="d", user_name="u")
        await commit(store, archived, Opened("gone"))
        await commit(store, stream, Deposited(1))
        await archive(store, archived)
        return stream, archived

    async def test_a_copy_is_equal(
        self, store: Store, open_store_for: OpenStore, tmp_path: Path
    ) -> None:
        stream, archived = await self.fill(store)
        path = tmp_path / "events.jsonl"
        assert await store.export_events(path) == 3
        options = StoreOptions()
        options.events.add_types(Opened, Deposited)
        async with open_store_for(options, "other") as copy:
            assert await copy.import_events(path) == 3
            assert await read(copy, stream) == await read(store, stream)
            assert await read(copy, archived) == []
            kept = await values(copy, archived, include_archived=True)
            assert kept == [Opened("gone")]

    async def test_exporting_the_copy_gives_the_same_file(
        self, store: Store, open_store_for: OpenStore, tmp_path: Path
    ) -> None:
        await self.fill(store)
        await store.export_events(tmp_path / "one.jsonl")
        async with open_store_for(StoreOptions(), "other") as copy:
            await copy.import_events(tmp_path / "one.jsonl")
            await copy.export_events(tmp_path / "two.jsonl")
        assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()

    async def test_an_open_file_will_do(self, store: Store) -> None:
        await self.fill(store)
        file = io.StringIO()
        assert await store.export_events(file) == 3
        assert len(file.getvalue().splitlines()) == 3

    async def test_an_empty_store_is_an_empty_file(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        assert await store.export_events(path) == 0
        assert path.read_text() == ""
        assert await store.import_events(path) == 0

    async def test_a_broken_line_is_an_error_that_names_it(
        self, store: Store, tmp_path: Path
    ) -> None:
        await self.fill(store)
        path = tmp_path / "events.jsonl"
        await store.export_events(path)
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], "{broken", *lines[2:]]))
        with pytest.raises(FlowstoreError, match="2"):
            await store.import_events(path)
