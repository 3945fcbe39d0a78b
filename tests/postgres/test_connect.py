"""Opening connections."""

import socket

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.rows import dict_row

from flowstore.postgres import Connection
from flowstore.postgres._connect import check_libpq, connection_attempts


class Names(trio.abc.HostnameResolver):
    """Resolves from a table."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - trio's
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, int(port)))
            for a in self.addresses[name]
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture
async def names():
    resolver = Names(one=["10.0.0.1"], many=["10.0.0.2", "10.0.0.3"])
    trio.socket.set_custom_hostname_resolver(resolver)
    yield
    trio.socket.set_custom_hostname_resolver(None)


@pytest.fixture
async def silent_port():
    """A port that takes connections and never says a word."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener


def port_of(listener: trio.SocketListener) -> int:
    return listener.socket.getsockname()[1]


async def test_connects_over_a_unix_socket(conn):
    assert await (await conn.execute("select 1")).fetchone() == (1,)


async def test_connects_by_host_name(tcp_dsn):
    async with await Connection.connect(tcp_dsn) as conn:
        assert await (await conn.execute("select 1")).fetchone() == (1,)


async def test_tries_the_next_host_when_one_refuses(conn, relay):
    user, name = conn.info.user, conn.info.dbname
    dsn = f"host=127.0.0.1,127.0.0.1 port=1,{relay.port} user={user} dbname={name}"
    async with await Connection.connect(dsn) as second:
        assert second.info.port == relay.port


async def test_is_closed_after_its_block(pg_dsn):
    async with await Connection.connect(pg_dsn) as conn:
        pass
    assert conn.closed


async def test_is_closed_after_a_block_that_was_cancelled(pg_dsn):
    with trio.CancelScope() as scope:
        async with await Connection.connect(pg_dsn, autocommit=False) as conn:
            await conn.execute("select 1")
            scope.cancel()
    assert conn.closed


async def test_commits_each_statement_by_itself_by_default(conn):
    await conn.execute("select 1")
    assert conn.autocommit
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_names_itself_flowstore(conn, observer):
    query = "select application_name from pg_stat_activity where pid = %s"
    assert await observer.value(query, conn.info.backend_pid) == "flowstore"


async def test_keeps_the_users_application_name_behind_its_own(pg_dsn):
    dsn = psycopg.conninfo.make_conninfo(pg_dsn, application_name="billing")
    async with await Connection.connect(dsn) as conn:
        row = await (await conn.execute("show application_name")).fetchone()
    assert row == ("flowstore: billing",)


async def test_an_unknown_database_is_an_operational_error(pg_dsn):
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        await Connection.connect(pg_dsn, dbname="nope")


async def test_a_refused_connection_is_an_operational_error():
    with pytest.raises(psycopg.OperationalError, match="refused"):
        await Connection.connect("host=127.0.0.1 port=1 user=x")


async def test_when_every_address_fails_each_is_named():
    with pytest.raises(psycopg.OperationalError, match=r"port '1'(.|\n)*port '2'"):
        await Connection.connect("host=127.0.0.1,127.0.0.1 port=1,2 user=x")


async def test_gives_up_after_the_connect_timeout(silent_port, autojump_clock):
    with pytest.raises(errors.ConnectionTimeout):
        await Connection.connect(
            f"host=127.0.0.1 port={port_of(silent_port)} user=x connect_timeout=7"
        )
    assert trio.current_time() == pytest.approx(7, abs=0.5)


async def test_cancelled_while_connecting_leaves_nothing_open(silent_port):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            Connection.connect, f"host=127.0.0.1 port={port_of(silent_port)} user=x sslmode=disable"
        )
        async with await silent_port.accept() as server_side:
            assert await server_side.receive_some()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await server_side.receive_some() == b""


async def test_host_names_become_one_attempt_an_address(names):
    attempts = await connection_attempts({"host": "one,many", "port": "5,6"})
    found = [(a["host"], a["hostaddr"], a["port"]) for a in attempts]
    assert found == [
        ("one", "10.0.0.1", "5"),
        ("many", "10.0.0.2", "6"),
        ("many", "10.0.0.3", "6"),
    ]


async def test_a_host_that_cannot_be_resolved_is_passed_over(names):
    attempts = await connection_attempts({"host": "nowhere,one"})
    assert [a["hostaddr"] for a in attempts] == ["10.0.0.1"]


async def test_no_host_that_can_be_resolved_is_an_operational_error(names):
    with pytest.raises(psycopg.OperationalError, match="failed to resolve host 'nowhere'"):
        await connection_attempts({"host": "nowhere"})


@pytest.mark.parametrize(
    "params", [{}, {"host": "/run/pg"}, {"host": "@abstract"}, {"host": "x", "hostaddr": "::1"}]
)
async def test_what_needs_no_look_up_is_left_alone(params, names):
    assert list(await connection_attempts(params)) == [params]


async def test_preferring_a_standby_tries_all_as_standbys_first(names):
    attempts = await connection_attempts({"host": "many", "target_session_attrs": "prefer-standby"})
    assert [(a["hostaddr"], a["target_session_attrs"]) for a in attempts] == [
        ("10.0.0.2", "standby"),
        ("10.0.0.3", "standby"),
        ("10.0.0.2", "any"),
        ("10.0.0.3", "any"),
    ]


def test_a_libpq_that_cannot_cancel_without_blocking_is_refused():
    with pytest.raises(psycopg.NotSupportedError, match=r"libpq 16.*psycopg\[binary\]"):
        check_libpq(160004)


async def test_the_factories_asked_for_are_used(pg_dsn):
    async with await Connection.connect(
        pg_dsn, row_factory=dict_row, cursor_factory=psycopg.AsyncRawCursor
    ) as conn:
        cursor = await conn.execute("select $1::int as a", (1,))
        assert await cursor.fetchone() == {"a": 1}
