"""`flowstore demo`: publishes while the daemon projects, checks, rebuilds, checks again."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

from flowstore import StoreOptions, open_store
from flowstore.cli._history import generated_history
from flowstore.cli._phases import check, find_histories, publish, rebuild, show_table
from flowstore.cli._problems import (
    EXIT_DISAGREES,
    EXIT_INPUT,
    EXIT_STORE,
    InputError,
    leaves,
    one_line,
)
from flowstore.cli._projects import ActiveProject
from flowstore.cli._publish import Published
from flowstore.errors import EmbeddedServerError, FlowstoreError

__all__ = ["run"]

_OTHER_PLACES = (
    " (--data-dir FOLDER puts its data elsewhere; --dsn uses a server that runs already)"
)


@attrs.frozen
class Request:
    """What the command line asks the demo for.

    Attributes:
        paths: the histories to read; none if one is made up.
        events: how many events to make up, None to read histories.
        seed: which made-up history.
        dsn: the PostgreSQL to use, None for the embedded one.
        data_dir: where the embedded one keeps its data, None for its usual place.
        schema: the schema of the demo's tables.
    """

    paths: Sequence[Path]
    events: int | None
    seed: int
    dsn: str | None
    data_dir: Path | None
    schema: str


def run(options: argparse.Namespace) -> int:
    """Run the demo, and return the exit status; what went wrong is one line on stderr."""
    try:
        return trio.run(_run_until_signal, _read_request(options))
    except (FlowstoreError, BaseExceptionGroup) as error:
        causes = list(leaves(error))
        for cause in causes:
            if isinstance(cause, (KeyboardInterrupt, BrokenPipeError)):
                raise cause from None  # the caller's to tell; the rest is what it brought about
        if not all(isinstance(cause, FlowstoreError) for cause in causes):
            raise
        first = min(causes, key=lambda cause: not isinstance(cause, InputError))
        hint = _OTHER_PLACES if isinstance(first, EmbeddedServerError) else ""
        print(f"flowstore: {one_line(first)}{hint}", file=sys.stderr)
        return EXIT_INPUT if isinstance(first, InputError) else EXIT_STORE


def _read_request(options: argparse.Namespace) -> Request:
    """Turn the parsed command line into a request.

    Raises:
        InputError: two options exclude each other.
    """
    if options.repositories and options.events:
        raise InputError("repositories and --events exclude each other: name one of them")
    # An empty FLOWSTORE_DSN is none; a folder that was named means the embedded server.
    dsn = options.dsn or (None if options.data_dir else os.environ.get("FLOWSTORE_DSN") or None)
    return Request(
        paths=[Path(each) for each in options.repositories] or [Path.cwd()],
        events=options.events,
        seed=options.seed,
        dsn=dsn,
        data_dir=Path(options.data_dir) if options.data_dir else None,
        schema=options.schema,
    )


async def _run_until_signal(request: Request) -> int:
    """Run the demo; the first Ctrl-C or SIGTERM ends it in order, a second one at once."""
    published = Published()
    status = 0
    stopped_by: signal.Signals | None = None

    async def demo() -> None:
        nonlocal status
        status = await _demo(request, published)
        nursery.cancel_scope.cancel()

    async def listen() -> None:
        nonlocal stopped_by
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            stopped_by = signal.Signals(await anext(aiter(signals)))
        # From here on the signals have their usual effect again: nobody waits for a slow end.
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        nursery.start_soon(demo)
    if stopped_by is None:
        return status
    # Only now, below whatever was drawn until the end.
    name = "Ctrl-C" if stopped_by is signal.SIGINT else stopped_by.name
    print(f"flowstore: stopped by {name}; {published.kept()}", file=sys.stderr)
    return 128 + stopped_by


async def _demo(request: Request, published: Published) -> int:
    """Run all phases, and return the exit status."""
    if request.events is None:
        histories = await find_histories(request.paths)
    else:
        histories = [generated_history(request.events, request.seed)]
        print(f"reading    {histories[0].source}")
    options = StoreOptions(schema=request.schema)
    options.projections.aggregate_streams_with(ActiveProject)
    where = "the server of the DSN" if request.dsn else "the embedded PostgreSQL"
    print(f"store      {where}, schema {request.schema}", flush=True)
    async with open_store(request.dsn, options, data_dir=request.data_dir) as store:
        await publish(store, histories, published)
        await show_table(store, published)
        disagreements = await check(store, published)
        await rebuild(store)
        disagreements += await check(store, published)
    return EXIT_DISAGREES if disagreements else 0
