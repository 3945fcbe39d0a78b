"""to_mermaid() and to_dot(): the network as a drawing, with live counts."""

import re

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BufferBlock,
    JoinBlock,
    Network,
    TransformBlock,
    pipe,
)

FORMATS = ["to_mermaid", "to_dot"]
ARROW = {"to_mermaid": r"-->|-\.->|==>", "to_dot": r"->"}


def arrows(picture, way):
    return sum(1 for line in picture.splitlines() if re.search(ARROW[way], line))


async def test_a_mermaid_picture_is_a_flowchart():
    async with Network() as network:
        network.add(BufferBlock(name="only"))
        assert re.match(r"\s*(graph|flowchart)\s+(TD|TB|LR|RL|BT)\b", network.to_mermaid())


async def test_a_dot_picture_is_a_digraph():
    async with Network() as network:
        network.add(BufferBlock(name="only"))
        picture = network.to_dot().strip()
        assert re.match(r"digraph\b[^{]*\{", picture)
        assert picture.endswith("}")
        assert picture.count("{") == picture.count("}")


@pytest.mark.parametrize("way", FORMATS)
async def test_it_draws_every_block_by_name(way):
    async with Network() as network:
        network.add(
            pipe(
                TransformBlock(str, name="parser"),
                BufferBlock(name="shelf"),
                ActionBlock(print, name="printer"),
            )
        )
        picture = getattr(network, way)()
        assert all(name in picture for name in ("parser", "shelf", "printer"))


@pytest.mark.parametrize("way", FORMATS)
async def test_it_draws_every_link(way):
    async with Network() as network:
        source = network.add(BufferBlock(name="alpha"))
        targets = [ActionBlock(print, name=name) for name in ("beta", "gamma", "delta")]
        for target in targets:
            source.link_to(target, lambda _: True)
        assert arrows(getattr(network, way)(), way) == 3


@pytest.mark.parametrize("way", FORMATS)
async def test_a_closed_link_is_drawn_no_more(way):
    async with Network() as network:
        source = network.add(BufferBlock(name="alpha"))
        link = source.link_to(ActionBlock(print, name="beta"))
        network.add(ActionBlock(print, name="gamma"))
        assert arrows(getattr(network, way)(), way) == 1
        link.close()
        assert arrows(getattr(network, way)(), way) == 0


@pytest.mark.parametrize("way", FORMATS)
async def test_links_to_the_sides_of_a_join_are_drawn(way):
    async with Network() as network:
        left, right = network.add(BufferBlock(name="alpha"), BufferBlock(name="beta"))
        join = JoinBlock(name="gamma")
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        picture = getattr(network, way)()
        assert "gamma" in picture
        assert arrows(picture, way) == 2


@pytest.mark.parametrize("way", FORMATS)
async def test_its_counts_are_live(way):
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(crawl, name="sink"))
        before = getattr(network, way)()
        assert not re.search(r"\b73\b", before)
        for item in range(73):
            sink.post(item)
        await wait_all_tasks_blocked()
        during = getattr(network, way)()
        assert re.search(r"\b7[23]\b", during)
        gate.set()
        await network.wait_idle()
        after = getattr(network, way)()
        assert len({before, during, after}) == 3


@pytest.mark.parametrize("way", FORMATS)
async def test_it_draws_without_waiting_and_changes_nothing(way):
    async with Network() as network:
        buffer = network.add(BufferBlock(name="shelf"))
        buffer.post("item")
        await wait_all_tasks_blocked()
        assert getattr(network, way)() == getattr(network, way)()
        assert buffer.try_receive() == "item"


@pytest.mark.parametrize("way", FORMATS)
async def test_an_empty_network_draws_an_empty_picture(way):
    async with Network() as network:
        assert arrows(getattr(network, way)(), way) == 0


@pytest.mark.parametrize("way", FORMATS)
async def test_blocks_of_one_name_stay_two_blocks(way):
    async with Network() as network:
        first, second = network.add(BufferBlock(name="twin"), BufferBlock(name="twin"))
        first.link_to(second)
        assert getattr(network, way)().count("twin") >= 2


async def test_quotes_in_a_name_do_not_end_the_label_of_a_dot_picture():
    async with Network() as network:
        network.add(BufferBlock(name='say "hello"'))
        picture = network.to_dot()
        assert re.sub(r"\\.", "", picture).count('"') % 2 == 0
        assert 'say "hello"' not in picture


async def test_quotes_in_a_name_do_not_end_the_label_of_a_mermaid_picture():
    async with Network() as network:
        network.add(BufferBlock(name='say "hello"'))
        assert 'say "hello"' not in network.to_mermaid()


@pytest.mark.parametrize("way", FORMATS)
async def test_a_finished_network_can_still_be_drawn(way):
    async with Network() as network:
        network.add(ActionBlock(lambda _: None, name="sink")).post("item")
    assert "sink" in getattr(network, way)()
