"""Ending the backend of an owner that is stuck."""

from datetime import timedelta

import attrs
import pytest

from flowstore.postgres import backend_of, end_backend


@pytest.fixture
async def stuck(conn, observer):
    """The backend of an owner that stopped in the middle of a pipeline, inside a transaction."""
    backend = await backend_of(conn)
    conn.pgconn.enter_pipeline_mode()
    conn.pgconn.send_query_params(b"begin", None)
    conn.pgconn.send_query_params(b"select pg_advisory_xact_lock(7300)", None)
    conn.pgconn.send_flush_request()
    conn.pgconn.flush()
    await observer.until_waiting(backend.pid, "ClientRead")
    return backend


async def test_an_owner_stuck_in_a_pipeline_looks_active_to_the_server(stuck, observer):
    await observer.until_active(stuck.pid)


async def test_a_recorded_backend_is_ended_with_all_it_holds(stuck, observer):
    assert await end_backend(observer.connection, stuck)
    await observer.until("select count(*) = 0 from pg_stat_activity where pid = %s", stuck.pid)
    await observer.until("select pg_try_advisory_lock(7300)")
    await observer.value("select pg_advisory_unlock(7300)")


async def test_a_backend_that_got_the_number_of_an_earlier_one_is_left_alone(conn, observer):
    backend = await backend_of(conn)
    earlier = attrs.evolve(backend, started=backend.started - timedelta(seconds=1))
    assert not await end_backend(observer.connection, earlier)
    assert await (await conn.execute("select 1")).fetchone() == (1,)
