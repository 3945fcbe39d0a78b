"""How fast `flowstore.blocks` is beside its peers: ratios to channels written by hand, in one run.

    python benchmarks/blocks.py [--quick] [--only WORKLOAD] [--rounds 5] [--json FILE]

Peers that aren't installed are skipped; `pip install flowstore[bench]` brings them.
"""

import argparse
import gc
import importlib
from collections.abc import Sequence
from pathlib import Path

import trio
from _blocks_kinds import Memory, measure_memory
from _blocks_table import (
    Outcome,
    Target,
    document,
    told,
    told_machine,
    told_memory,
    told_targets,
    write,
)
from _peers import Peer
from _report import LEAST_ROUNDS, Case, measure

PEER_MODULES = (
    "_peers_trio",
    "_peers_blocks",
    "_blocks_kinds",
    "_peers_python",
    "_peers_asyncio",
    "_peers_anyio",
    "_peers_aiostream",
    "_peers_streamz",
    "_peers_reactivex",
    "_peers_bytewax",
)
WORKLOADS = {
    "chain": "A chain of three stages, plain functions, capacity 128",
    "async chain": "The same chain, async functions that don't wait",
    "hop": "One hop: a chain of ten buffers, relays where there are channels",
    "parallel": "Eight at once, results in order, an async function with one checkpoint",
    "pair": "One send and one receive, taking turns in one task",
    "send": "One send, without bounds, unread",
    "two tasks": "Send in one task, take in another, capacity 128",
    "kinds": "Every kind of block between a source and a sink of plain functions",
}
OURS = "flowstore.blocks"
BACK_PRESSURE = (
    "anyio on trio",
    "anyio on asyncio",
    "asyncio queues",
    "aiostream",
    "streamz",
    "streamz with buffers",
    "threads with queue.Queue",
    "Bytewax item by item",
    "Bytewax, batches of 128",
)
TARGETS = (
    Target("chain", OURS, 20),
    *(Target("chain", OURS, 1, over) for over in BACK_PRESSURE),
    Target("chain", OURS, 1, "reactivex"),
    Target("async chain", OURS, 10),
    Target("hop", OURS, 8),
    Target("parallel", OURS, 4),
    Target("parallel", OURS, 4, "trio, a task per item, between channels"),
    Target("send", OURS, 1),
    Target("pair", OURS, 1),
)
MEMORY = "memory"
MANY = 1_000_000
QUICK = 500
"""A quick run handles this part of the items; its times mean nothing."""
LEAST_ITEMS = 200


def main() -> None:
    arguments = _arguments()
    peers, skipped = load_peers()
    trio.run(_run, arguments, peers, skipped)


async def _run(
    arguments: argparse.Namespace, peers: Sequence[Peer], skipped: Sequence[str]
) -> None:
    part = QUICK if arguments.quick else 1
    for line in skipped:
        print(line)
    outcomes: list[Outcome] = []
    for key in WORKLOADS:
        if arguments.only in {None, key}:
            outcomes.append(await _measure(key, peers, part, arguments.rounds))
            print(f"\n{told(outcomes[-1])}", flush=True)
    memory: list[Memory] = []
    if arguments.only in {None, MEMORY}:
        memory = await measure_memory(MANY // part)
        print(f"\n{told_memory(memory)}")
    print(f"\n{told_targets(TARGETS, outcomes)}\n\n{told_machine()}")
    write(document(outcomes, memory, skipped), arguments)


async def _measure(key: str, peers: Sequence[Peer], part: int, rounds: int) -> Outcome:
    """Let all cases of a workload take turns; the first one is the base."""
    chosen = [peer for peer in peers if peer.workload == key]
    results = await measure([_case(peer, part) for peer in chosen], rounds=rounds)
    remarks = {peer.name: peer.remark for peer in chosen}
    return Outcome(key, WORKLOADS[key], chosen[0].name, results, remarks)


def _case(peer: Peer, part: int) -> Case:
    count = max(peer.count // part, LEAST_ITEMS)
    return Case(peer.name, lambda: peer.run(count), count, "items", prepare=gc.collect)


def load_peers() -> tuple[list[Peer], list[str]]:
    """Import whatever is installed; tell of each peer that isn't."""
    peers: list[Peer] = []
    skipped: list[str] = []
    for name in PEER_MODULES:
        try:
            peers += importlib.import_module(name).PEERS
        except ModuleNotFoundError as error:
            skipped.append(f"skipped {name.removeprefix('_peers_')}: {error.name} isn't installed")
    return peers, skipped


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few items: only shows that it works")
    parser.add_argument("--only", choices=[*WORKLOADS, MEMORY], help="one workload")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="at least 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON into this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
