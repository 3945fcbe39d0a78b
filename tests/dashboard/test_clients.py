"""What clients do to a connection, on a virtual clock: nothing they do reaches the daemon."""

from string import Template

import trio
from trio.testing import memory_stream_pair

from flowstore.dashboard._answers import Site
from flowstore.dashboard._connection import serve_client
from flowstore.dashboard._page import Board


async def test_a_client_that_sends_nothing_is_cut_off(autojump_clock, nursery):
    theirs, ours = memory_stream_pair()
    site = Site(Template("$rows"), lambda: Board(0, ()), local_only=True)
    nursery.start_soon(serve_client, ours, site)
    await theirs.send_all(b"GET / HTTP/1.1\r\n")
    begin = trio.current_time()
    assert await theirs.receive_some() == b""
    assert trio.current_time() - begin == 15


async def test_a_page_that_cannot_be_drawn_is_answered_and_ends_nothing(caplog):
    theirs, ours = memory_stream_pair()

    def fail():
        raise RuntimeError("no statuses today")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_client, ours, Site(Template(""), fail, local_only=True))
        await theirs.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await theirs.receive_some()).startswith(b"HTTP/1.1 500 ")
    assert "no statuses today" in caplog.text


async def test_a_client_that_leaves_before_the_answer_ends_nothing():
    theirs, ours = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await theirs.aclose()
        site = Site(Template("$rows"), lambda: Board(0, ()), local_only=True)
        nursery.start_soon(serve_client, ours, site)
