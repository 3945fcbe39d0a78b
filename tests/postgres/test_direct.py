"""Statements without a cursor: the same promises, the bytes of one row."""

from functools import partial

import attrs
import psycopg
import pytest
import trio
from psycopg import pq

from flowstore.postgres import Connection, DirectStatement

IDLE = pq.TransactionStatus.IDLE
SLEEP = DirectStatement(b"select pg_sleep($1::text::float)::text")
ECHO = DirectStatement(b"select $1::text, $2::bigint")


async def one(conn, query, *params):
    return (await (await conn.execute(query, params)).fetchone())[0]


async def usable(conn) -> bool:
    return (
        not conn.closed
        and conn.info.transaction_status == IDLE
        and await one(conn, "select 42") == 42
        and await conn.fetch_row(ECHO, ["42", None]) == (b"42", None)
    )


async def prepared(conn):
    """How many statements the server has prepared, but for the one that asks."""
    query = "select count(*) from pg_prepared_statements where statement like '%%$1::text, $2%%'"
    return (await (await conn.execute(query, prepare=False)).fetchone())[0]


async def test_columns_come_in_binary_and_null_as_none(conn):
    assert await conn.fetch_row(ECHO, ["ü", "7"]) == ("ü".encode(), bytes(7) + b"\7")
    assert await conn.fetch_row(ECHO, [None, None]) == (None, None)


async def test_text_arrives_as_it_was_whatever_the_clients_encoding(pg_dsn):
    async with await Connection.connect(pg_dsn, client_encoding="latin1") as conn:
        row = await conn.fetch_row(DirectStatement(b"select length($1::text)"), ["für"])
        assert row == (bytes(3) + b"\3",)


@pytest.mark.parametrize("text", ["\0", "a\0b", "a\0"])
async def test_a_nul_is_refused_and_cuts_nothing_off(conn, text):
    with pytest.raises(psycopg.DataError, match="NUL"):
        await conn.fetch_row(ECHO, [text, "1"])
    assert await usable(conn)


async def test_a_statement_is_prepared_once_it_has_run_as_often_as_the_connection_says(pg_dsn):
    async with await Connection.connect(pg_dsn, prepare_threshold=2) as conn:
        found = []
        for number in range(4):
            assert await conn.fetch_row(ECHO, [str(number), None]) == (b"%d" % number, None)
            found.append(await prepared(conn))
    assert found == [0, 0, 1, 1]


async def test_a_statement_that_is_planned_each_time_is_never_prepared(pg_dsn):
    async with await Connection.connect(pg_dsn, prepare_threshold=0) as conn:
        for number in range(4):
            statement = attrs.evolve(ECHO, prepare=False)
            assert await conn.fetch_row(statement, [str(number), None]) == (b"%d" % number, None)
        assert await prepared(conn) == 0


async def test_what_is_prepared_counts_among_the_cursors_own(conn):
    conn.prepare_threshold, conn._prepared.prepared_max = 0, 2
    for number in range(6):
        await conn.fetch_row(ECHO, ["a", "1"])
        await conn.execute(f"select %s::int + {number}", [1])
        await conn.execute(f"select %s::int - {number}", [1])
    held = await conn.execute("select count(*) from pg_prepared_statements", prepare=False)
    assert await held.fetchone() <= (3,)
    assert await usable(conn)


async def test_a_rollback_that_makes_psycopg_forget_what_it_prepared_is_survived(conn):
    conn.prepare_threshold = 0
    for _ in range(3):
        async with conn.transaction(force_rollback=True):
            assert await conn.fetch_row(ECHO, ["a", None]) == (b"a", None)
    assert await usable(conn)


async def test_the_servers_refusal_is_psycopgs_error_and_leaves_the_connection_usable(conn):
    for _ in range(3):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="not a number"):
            await conn.fetch_row(ECHO, ["a", "not a number"])
    with pytest.raises(psycopg.errors.SyntaxError):
        await conn.fetch_row(DirectStatement(b"nonsense"), [])
    assert await usable(conn)


@pytest.mark.parametrize("query", [b"values (1), (2)", b"select 1 where false", b"set x.y = '1'"])
async def test_anything_but_one_row_is_an_error(conn, query):
    with pytest.raises(psycopg.InternalError, match="no row, or several"):
        await conn.fetch_row(DirectStatement(query), [])
    assert await usable(conn)


async def test_without_autocommit_a_transaction_begins(pg_dsn):
    async with await Connection.connect(pg_dsn, autocommit=False) as conn:
        await conn.fetch_row(ECHO, ["a", None])
        assert conn.info.transaction_status == pq.TransactionStatus.INTRANS
        await conn.rollback()


async def test_in_a_pipeline_it_is_refused(conn):
    async with conn.pipeline():
        with pytest.raises(psycopg.NotSupportedError, match="pipeline"):
            await conn.fetch_row(ECHO, ["a", None])
    assert await usable(conn)


async def test_a_closed_connection_says_so(conn):
    await conn.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await conn.fetch_row(ECHO, ["a", None])


async def test_tasks_that_share_a_connection_take_turns(conn):
    found = []

    async def ask(number):
        found.append((number, await conn.fetch_row(ECHO, [str(number), None])))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert sorted(found) == [(number, (b"%d" % number, None)) for number in range(20)]


@pytest.mark.parametrize("threshold", [0, None])
async def test_cancelled_it_ends_on_the_server_and_leaves_the_connection_usable(
    conn, cancelled, observer, threshold
):
    conn.prepare_threshold = threshold
    await cancelled(partial(conn.fetch_row, SLEEP, ["60"]))
    assert await observer.state(conn.info.backend_pid) == "idle"
    assert await usable(conn)


async def test_a_cancellation_never_hits_the_next_statement(conn):
    for number in range(60):
        with trio.move_on_after(0.001 * (number % 4)):
            await conn.fetch_row(SLEEP, ["0.002"])
        assert await conn.fetch_row(ECHO, [str(number), None]) == (b"%d" % number, None)


async def test_none_begins_in_a_cancelled_scope(conn, observer):
    await conn.execute("select 'first'")
    with trio.CancelScope() as scope:
        scope.cancel()
        await conn.fetch_row(ECHO, ["a", None])
    assert scope.cancelled_caught
    last = "select query from pg_stat_activity where pid = %s"
    assert await observer.value(last, conn.info.backend_pid) == "select 'first'"


async def test_a_connection_that_is_closed_under_it_ends_the_wait(conn, observer):
    async with trio.open_nursery() as nursery:

        async def ask():
            with pytest.raises(psycopg.OperationalError, match="taken away"):
                await conn.fetch_row(SLEEP, ["60"])

        nursery.start_soon(ask)
        await observer.until_active(conn.info.backend_pid)
        assert conn.silent_since is not None
        conn.abandon("taken away")


async def test_a_parameter_beyond_what_the_socket_takes_at_once_arrives(conn):
    text = "ü" * 5_000_000
    row = await conn.fetch_row(DirectStatement(b"select length($1::text)"), [text])
    assert row == ((5_000_000).to_bytes(4, "big"),)


async def test_a_notification_that_comes_with_the_answer_is_kept(conn, observer):
    await conn.execute("listen news")
    await observer.value("select pg_notify('news', 'heard')")
    await conn.fetch_row(ECHO, ["a", None])
    got = [note.payload async for note in conn.notifies(timeout=5, stop_after=1)]
    assert got == ["heard"]


# -- a second statement along with it --------------------------------------------------------------

TELL = DirectStatement(b"select pg_notify('along', $1)")
PLACE = DirectStatement(b"insert into placed (number) values ($1::int) returning number")


@pytest.fixture
async def placed(conn):
    await conn.execute("create temporary table placed (number int primary key)")


async def heard(listener, count):
    """The next notifications, on a connection that listens."""
    with trio.fail_after(20):
        return [notify.payload async for notify in listener.notifies(stop_after=count)]


@pytest.fixture
async def listener(pg_dsn):
    async with await Connection.connect(pg_dsn) as connection:
        await connection.execute("listen along")
        yield connection


async def test_both_are_carried_out_however_often_and_prepared_like_any_other(
    conn, placed, listener
):
    for number in range(8):
        along = (TELL, [str(number)])
        assert await conn.fetch_row(PLACE, [str(number)], along) == (number.to_bytes(4, "big"),)
        assert conn.is_alone
        assert not conn.in_pipeline
    assert await heard(listener, 8) == [str(number) for number in range(8)]
    cursor = await conn.execute("select statement from pg_prepared_statements", prepare=False)
    prepared = {statement for (statement,) in await cursor.fetchall()}
    assert prepared == {PLACE.query.decode(), TELL.query.decode()}


async def test_each_is_a_transaction_of_its_own(conn, placed, listener):
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.fetch_row(DirectStatement(b"select 1 / 0"), [], (TELL, ["after a refusal"]))
    assert await heard(listener, 1) == ["after a refusal"]
    refused = DirectStatement(b"select 1 / 0")
    for number in range(7):
        assert await conn.fetch_row(PLACE, [str(number)], (refused, []))
        assert conn.is_alone
    cursor = await conn.execute("select count(*) from placed")
    assert await cursor.fetchone() == (7,)


async def test_nothing_goes_along_in_a_transaction(conn):
    async with conn.transaction():
        assert not conn.is_alone
        with pytest.raises(psycopg.NotSupportedError):
            await conn.fetch_row(ECHO, ["a", "1"], (TELL, ["never"]))
    await conn.set_autocommit(False)
    assert not conn.is_alone
    with pytest.raises(psycopg.NotSupportedError):
        await conn.fetch_row(ECHO, ["a", "1"], (TELL, ["never"]))


@pytest.mark.parametrize("slow", [0, 1])
async def test_cancelled_both_are_over_and_the_connection_is_usable(conn, slow):
    pair = [(ECHO, ["a", "1"]), (TELL, ["b"])]
    pair[slow] = (DirectStatement(b"select pg_sleep($1)::text"), ["20"])
    for _ in range(7):
        with trio.fail_after(10), trio.move_on_after(0.05) as scope:
            await conn.fetch_row(*pair[0], pair[1])
        assert scope.cancelled_caught
        assert conn.is_alone
        assert not conn.in_pipeline
        assert await conn.fetch_row(ECHO, ["still here", None]) == (b"still here", None)


async def test_a_connection_that_is_lost_meanwhile_says_so(conn, pg_dsn):
    slow = DirectStatement(b"select pg_sleep(20)::text")

    async def end():
        async with await Connection.connect(pg_dsn) as other:
            await trio.sleep(0.05)
            await other.execute("select pg_terminate_backend(%s)", (conn.pgconn.backend_pid,))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            with pytest.raises(psycopg.OperationalError):
                await conn.fetch_row(slow, [], (TELL, ["a"]))
    assert conn.closed
