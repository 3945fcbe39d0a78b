"""What psycopg does not promise, and the connection leans on: an upgrade that changes it fails here."""

import inspect

import psycopg
import pytest
from psycopg import _conninfo_utils, errors, generators, pq, waiting
from psycopg._preparing import PrepareManager
from psycopg.abc import PQGen


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(function) -> str:
    return inspect.getsource(function)


def test_the_version_is_one_that_was_looked_at():
    assert psycopg.__version__.startswith("3.3.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wait", ["self", "gen", "interval", "timeout"]),
        ("cancel_safe", ["self", "timeout"]),
        ("_try_cancel", ["self", "timeout"]),
        ("_should_cancel", ["self"]),
        ("transaction", ["self", "savepoint_name", "force_rollback"]),
        ("pipeline", ["self"]),
        ("_pipeline_nolock", ["self"]),
        ("commit", ["self"]),
        ("rollback", ["self"]),
        ("notifies", ["self", "timeout", "stop_after"]),
    ],
)
def test_connection_methods_take_what_they_took(name, expected):
    assert parameters(getattr(psycopg.AsyncConnection, name)) == expected


@pytest.mark.parametrize(
    "name",
    ["_autocommit", "_adapters", "_closed", "_pipeline", "_notifies_backlog", "lock"],
)
async def test_connection_attributes_exist(name, conn):
    assert hasattr(conn, name)


@pytest.mark.parametrize(
    "method",
    [psycopg.AsyncCursor.execute, psycopg.AsyncCursor.stream, psycopg.AsyncCursor.copy,
     psycopg.AsyncPipeline.sync, psycopg.AsyncPipeline.__aexit__,
     psycopg.AsyncTransaction.__aenter__, psycopg.AsyncTransaction.__aexit__],
)  # fmt: skip
def test_everything_waits_through_the_connections_own_wait(method):
    assert "self._conn.wait(" in source(inspect.unwrap(method)).replace("._conn\n", "._conn")


def test_executemany_makes_its_pipeline_through_the_connection():
    assert "self._conn._pipeline_nolock()" in source(psycopg.AsyncCursor.executemany)


def test_streams_and_copies_cancel_through_cancel_safe():
    assert "self._conn._try_cancel()" in source(psycopg.AsyncCursor.stream)
    assert "self.connection._try_cancel()" in source(psycopg.AsyncCopy.finish)
    assert "await self.cancel_safe(timeout=timeout)" in source(psycopg.AsyncConnection._try_cancel)


def test_a_transaction_that_could_not_begin_undoes_what_its_generator_began():
    """`wait` may therefore not refuse a transaction's generator before its first step."""
    text = source(psycopg.AsyncTransaction.__aenter__)
    assert "self._conn.wait(self._exit_gen(type(ex), ex, None))" in text


def test_wait_and_ready_are_bits_for_reading_and_writing():
    assert [int(value) for value in (waiting.Wait.R, waiting.Wait.W, waiting.Wait.RW)] == [1, 2, 3]
    assert [int(value) for value in waiting.Ready] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["fetch_many", "copy_end", "copy_from", "notifies"])
def test_generators_exist(name):
    assert callable(getattr(generators, name))


def test_the_timeout_of_wait_has_its_own_error():
    assert issubclass(errors._WaitTimeout, psycopg.OperationalError)


@pytest.mark.parametrize(
    "name",
    ["connect_start", "connect_poll", "cancel_conn", "finish", "notifies", "transaction_status",
     "pipeline_status", "nonblocking", "notify_handler", "socket"],
)  # fmt: skip
def test_libpq_connections_have_what_is_used(name):
    assert hasattr(pq.PGconn, name) or name == "notify_handler"


async def test_a_request_to_cancel_has_what_is_used(conn):
    request = conn.pgconn.cancel_conn()
    methods = ("start", "poll", "socket", "finish")
    assert [hasattr(type(request), name) for name in methods] == [True] * 4
    assert request.get_error_message() is not None
    request.finish()


def test_connection_strings_are_split_into_attempts():
    assert _conninfo_utils.split_attempts({"host": "a,b"}) == [{"host": "a"}, {"host": "b"}]
    assert _conninfo_utils.get_param({"host": "a"}, "host") == "a"


async def test_a_suspended_generator_asks_again_when_told_nothing_yet(conn):
    """So a wait that was cancelled can be resumed; the compiled ones refuse None."""
    conn.pgconn.send_query(b"select 1")
    generator: PQGen = generators.execute(conn.pgconn)
    wanted = next(generator)
    assert generator.send(waiting.Ready.NONE) == wanted
    await conn.drive(generator, resumed=True)


def test_statements_without_a_cursor_do_what_cursors_do():
    """`_direct` goes the way of these two, step by step."""
    steps = source(psycopg.AsyncCursor._maybe_prepare_gen)
    for step in ("_get_prepared(pgq", "_send_prepare(name", "yield from execute(self._pgconn)",
                 "_send_query_prepared(name", "maybe_add_to_cache(pgq, prep, name)",
                 "validate(key, prep, name, results)"):  # fmt: skip
        assert step in steps
    steps = source(psycopg.AsyncCursor._execute_gen)
    assert "_start_query(query)" in steps
    assert "maintain_gen(self._conn)" in steps
    manager = PrepareManager
    assert parameters(manager.get) == ["self", "query", "prepare"]
    assert parameters(manager.maybe_add_to_cache) == ["self", "query", "prep", "name"]
    assert parameters(manager.validate) == ["self", "key", "prep", "name", "results"]
    assert "(query.query, query.types)" in source(manager.key)
