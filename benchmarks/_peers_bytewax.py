"""Bytewax: dataflows on Timely, in Rust, with stages in Python."""

from collections.abc import Callable
from functools import partial

import bytewax.operators as op
from _peers import CAPACITY, Peer, Sink, add_one, in_thread
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main


class Calls(DynamicSink[int], StatelessSinkPartition[int]):
    """Calls a function for every item; it's its own only partition."""

    def __init__(self, keep: Callable[[int], None]) -> None:
        self._keep = keep

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> "Calls":
        return self

    def write_batch(self, items: list[int]) -> None:
        for item in items:
            self._keep(item)


def chain(batch_size: int, count: int) -> None:
    sink = Sink()
    flow = Dataflow("chain")
    items = op.input("source", flow, TestingSource(range(count), batch_size=batch_size))
    op.output("sink", op.map("transform", items, add_one), Calls(sink.keep))
    in_thread(lambda: run_main(flow))
    sink.check(count)


PEERS = (
    Peer("chain", "Bytewax item by item", partial(chain, 1), 20_000),
    Peer("chain", "Bytewax, batches of 128", partial(chain, CAPACITY), 200_000),
)
