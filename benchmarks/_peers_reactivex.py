"""reactivex: observables push, and nothing holds them back."""

import reactivex
from _peers import Peer, Sink, add_one
from reactivex import operators


def raise_again(error: Exception) -> None:
    raise error


def chain(count: int) -> None:
    sink = Sink()
    reactivex.from_iterable(range(count)).pipe(operators.map(add_one)).subscribe(
        sink.keep, raise_again
    )
    sink.check(count)


PEERS = (
    Peer(
        "chain", "reactivex", chain, 500_000, "no back-pressure: nested calls, no buffers, no tasks"
    ),
)
