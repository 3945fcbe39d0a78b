"""The pictures in the documents are what the library draws."""

import re
from pathlib import Path

import trio
import trio.testing

from flowstore.blocks import ActionBlock, FanOutBlock, Network, SourceBlock, TransformBlock, pipe

DOCUMENT = Path(__file__).parents[2] / "docs" / "blocks.md"


async def test_the_picture_of_the_stuck_network_is_what_to_mermaid_gives():
    async def never(item):
        await trio.sleep_forever()

    async with Network(name="orders") as network:
        orders = SourceBlock(range(1000), name="orders", bounded_capacity=32)
        priced = TransformBlock(lambda order: order * 2, name="price", bounded_capacity=8)
        tee = FanOutBlock(name="tee", bounded_capacity=4)
        network.add(pipe(orders, priced, tee))
        tee.link_to(ActionBlock(never, name="ship", bounded_capacity=4))
        tee.link_to(ActionBlock(lambda order: None, name="book"))
        await trio.testing.wait_all_tasks_blocked()
        picture = network.to_mermaid()
        network.cancel()

    [shown] = re.findall(r"^```mermaid\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert shown == picture
