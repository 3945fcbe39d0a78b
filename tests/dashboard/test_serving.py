"""The dashboard over real sockets on loopback, beside a real daemon."""

import json
from functools import partial
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import open_store
from flowstore.dashboard import DashboardError, serve_dashboard
from flowstore.store import StoreOptions


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, counted: Counted) -> None:
        self.total += counted.by


@pytest.fixture
async def store(pg_dsn, schema):
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(Total, name="Totals <b>")
    async with open_store(pg_dsn, options) as opened:
        yield opened


@pytest.fixture
async def daemon(store):
    async with store.build_projection_daemon() as built:
        yield built


@pytest.fixture
async def port(daemon, nursery):
    address = await nursery.start(partial(serve_dashboard, daemon, port=0))
    return int(address.rstrip("/").rpartition(":")[2])


async def exchange(port, sent):
    """Send bytes and read until the server closes the connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        return b"".join([part async for part in stream])


async def get(port, target="/", method="GET", host="127.0.0.1", extra=""):
    """Ask once; gives status, headers and body."""
    request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n"
    head, _, body = (await exchange(port, request.encode("latin-1"))).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body.decode()


async def test_the_page_shows_the_daemons_shards(port):
    status, headers, body = await get(port)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "Totals &lt;b&gt;" in body
    assert "stopped" in body


async def test_the_statuses_follow_the_daemon(store, daemon, port):
    await daemon.start_all()
    async with store.session() as session:
        session.events.start_stream(uuid4(), Counted(1), Counted(2))
        await session.save_changes()
    await daemon.wait_for_non_stale_results(timeout=30)
    _, headers, body = await get(port, "/statuses.json")
    found = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert found["high_water_mark"] == 2
    assert [(each["state"], each["progress"]) for each in found["statuses"]] == [("running", 2)]


async def test_the_page_may_neither_load_nor_run_anything(port):
    _, headers, _ = await get(port)
    assert headers["content-security-policy"].startswith("default-src 'none';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_head_gets_the_headers_alone(port):
    status, headers, body = await get(port, method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "DELETE", "CONNECT"])
async def test_other_methods_are_refused(port, method):
    status, headers, _ = await get(port, method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("target", ["/nothing", "//[", "*", "/../etc/passwd", "/\xff"])
async def test_other_places_are_not_found(port, target):
    # Some of these are no target at all, and h11 says so.
    assert (await get(port, target))[0] in {400, 404}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8025", "[::1]:80", "LOCALHOST:1"])
async def test_this_machine_may_be_asked_for_by_any_of_its_names(port, host):
    assert (await get(port, host=host))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
async def test_another_hosts_name_is_refused(port, host):
    assert (await get(port, "/statuses.json", host=host))[0] == 421


async def test_a_connection_may_ask_again(port):
    ask = b"GET /statuses.json HTTP/1.1\r\nHost: localhost\r\n"
    replies = await exchange(port, ask + b"\r\n" + ask + b"Connection: close\r\n\r\n")
    assert replies.count(b"HTTP/1.1 200 ") == 2


async def test_what_a_client_would_rather_speak_is_passed_over(port):
    ask = b"GET /statuses.json HTTP/1.1\r\nHost: localhost\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    replies = await exchange(port, ask + upgrade + ask + b"Connection: close\r\n\r\n")
    assert replies.count(b"HTTP/1.1 200 ") == 2


async def test_a_head_that_is_too_long_is_refused(port):
    # No end of the head: what is unread when a connection closes would reset it.
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 16_400
    assert (await exchange(port, long)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("header", ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_a_body_is_refused_unread(port, header):
    assert (await get(port, extra=header))[0] == 413


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"hello\r\n\r\n"])
async def test_what_is_no_http_is_refused(port, sent):
    assert (await exchange(port, sent)).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_leaves_in_the_middle_harms_nobody(port):
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HT")
    assert (await get(port))[0] == 200


async def test_a_port_in_use_is_a_clear_error(daemon, port):
    with pytest.raises(DashboardError) as caught:
        await serve_dashboard(daemon, port=port)
    assert str(caught.value) == (
        f"the dashboard can't listen on '127.0.0.1', port {port}: another program listens there;"
        " choose another with port=, or 0 for any free one"
    )


async def test_an_address_of_another_machine_is_a_clear_error(daemon):
    with pytest.raises(DashboardError, match=r"'192\.0\.2\.1', port 0: .*of this machine"):
        await serve_dashboard(daemon, host="192.0.2.1", port=0)


async def test_only_loopback_is_listened_on_by_default(daemon, nursery):
    address = await nursery.start(partial(serve_dashboard, daemon, port=0))
    assert address.startswith("http://127.0.0.1:")


async def test_the_port_is_free_again_after_a_cancellation(daemon):
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve_dashboard, daemon, port=0))
        nursery.cancel_scope.cancel()
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
