"""Looking for events by a condition of one's own."""

from uuid import uuid4

import attrs
import pytest

from flowstore.errors import DatabaseError, UnknownEventTypeError
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Deposited:
    amount: int


@attrs.frozen
class Closed:
    why: str


@pytest.fixture
async def streams(store):
    """Two streams: 1, 2, closed; and 3, 4."""
    one, two = uuid4(), uuid4()
    async with store.session(user_name="me") as session:
        session.events.append(one, Deposited(1), Deposited(2), Closed("100%"))
        session.events.append(two, Deposited(3), Deposited(4))
        await session.save_changes()
    return one, two


async def found(store, *args, **how):
    return [event.data for event in await store.session().events.query(*args, **how)]


async def test_events_of_all_streams_are_found_in_sequence_order(store, streams):
    where = "type = 'deposited' and (data ->> 'amount')::int >= %s"
    assert await found(store, where, 2) == [Deposited(2), Deposited(3), Deposited(4)]


async def test_what_is_found_are_whole_events(store, streams):
    one, _ = streams
    (event,) = await store.session().events.query("stream_id = %s and version = 2", one)
    assert [event] == await store.session().events.fetch_stream(one, from_version=2, version=2)


async def test_another_order_and_a_limit_may_follow(store, streams):
    backwards = "true order by sequence desc limit %s"
    assert await found(store, backwards, 2) == [Deposited(4), Deposited(3)]


async def test_without_parameters_a_percent_sign_means_itself(store, streams):
    assert await found(store, "data ->> 'why' like '100%'") == [Closed("100%")]


async def test_an_or_does_not_show_another_tenants_events(opening):
    async with opening(tenancy="conjoined") as store:
        for tenant in ("a", "b"):
            async with store.session(tenant_id=tenant) as session:
                session.events.append(uuid4(), Deposited(1))
                await session.save_changes()
        events = await store.session(tenant_id="a").events.query("false or true")
        assert [event.tenant_id for event in events] == ["a"]


async def test_archived_events_are_found_only_if_asked_for(store, streams):
    one, _ = streams
    async with store.session() as session:
        session.events.archive_stream(one)
        await session.save_changes()
    assert await found(store, "true") == [Deposited(3), Deposited(4)]
    assert len(await found(store, "true", include_archived=True)) == 5


async def test_a_condition_that_is_no_sql_is_the_databases_error(store, streams):
    with pytest.raises(DatabaseError):
        await found(store, "no such column")


async def test_an_unknown_type_among_what_is_found_is_an_error(pg_dsn, store, streams):
    options = StoreOptions(schema=store.options.schema)
    async with open_event_store(pg_dsn, options) as stranger:
        with pytest.raises(UnknownEventTypeError):
            await found(stranger, "true")
        assert await found(stranger, "false") == []
