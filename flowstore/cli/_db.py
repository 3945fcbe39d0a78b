"""`flowstore db`: brings a schema up, checks it, and writes the SQL for those who do it by hand."""

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from flowstore.cli._problems import (
    EXIT_DISAGREES,
    EXIT_INPUT,
    EXIT_STORE,
    InputError,
    leaves,
    one_line,
)
from flowstore.errors import FlowstoreError, RegistrationError, SchemaError
from flowstore.store import (
    StoreOptions,
    apply_schema,
    assert_schema,
    dump_schema,
    patch_schema,
    schema_grants,
)

__all__ = ["run"]


@attrs.frozen
class Request:
    """What the command line asks for.

    Attributes:
        dsn: where the database is; None for commands that ask none.
        options: what the schema is for.
        role: who grants are for.
    """

    dsn: str | None
    options: StoreOptions
    role: str | None

    @property
    def database(self) -> str:
        """Where the database is.

        Raises:
            InputError: nobody said.
        """
        if self.dsn is None:
            raise InputError("no database was named: give --dsn, or set FLOWSTORE_DSN")
        return self.dsn


def run(options: argparse.Namespace) -> int:
    """Run a command over a schema, and return the exit status; what went wrong is on stderr."""
    try:
        text = trio.run(_COMMANDS[options.action], _read_request(options))
        _write(text, options.output)
    except (FlowstoreError, BaseExceptionGroup) as error:
        return _told([*leaves(error)])
    return 0


def _told(causes: list[BaseException]) -> int:
    for cause in causes:
        if not isinstance(cause, FlowstoreError):
            raise cause
    first = causes[0]
    if isinstance(first, SchemaError):
        # A line for each difference; anything else is one line.
        print(f"flowstore: {first}", file=sys.stderr)
        return EXIT_DISAGREES
    print(f"flowstore: {one_line(first)}", file=sys.stderr)
    return EXIT_INPUT if isinstance(first, (InputError, RegistrationError)) else EXIT_STORE


def _write(text: str, output: str | None) -> None:
    """Write what a command gives, only now that all of it is there.

    Raises:
        InputError: the file can't be written.
    """
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as cause:
        raise InputError(f"{output} can't be written: {cause.strerror or cause}") from cause


# -- commands --------------------------------------------------------------------------------------


async def _apply(request: Request) -> str:
    done = await apply_schema(request.database, request.options)
    lines = "".join(f"created    {title}\n" for title in done)
    return f"{lines}schema {request.options.schema!r} is up to date\n"


async def _assert(request: Request) -> str:
    await assert_schema(request.database, request.options)
    return f"schema {request.options.schema!r} is what this store needs\n"


async def _patch(request: Request) -> str:
    return await patch_schema(request.database, request.options)


async def _dump(request: Request) -> str:
    return dump_schema(request.options)


async def _grants(request: Request) -> str:
    return schema_grants(request.options, request.role or "")


_COMMANDS: Final[dict[str, Callable[[Request], Awaitable[str]]]] = {
    "apply": _apply,
    "assert": _assert,
    "patch": _patch,
    "dump": _dump,
    "grants": _grants,
}


# -- what is asked for -----------------------------------------------------------------------------


def _read_request(options: argparse.Namespace) -> Request:
    """Turn the parsed command line into a request.

    Raises:
        InputError: the application can't be found, or gives no options.
        SchemaError: the schema's name is impossible.
    """
    told = StoreOptions() if options.app is None else _options_of(options.app)
    given = {"schema": options.schema, "stream_identity": options.stream_identity}
    try:
        told = attrs.evolve(
            told, **{name: value for name, value in given.items() if value is not None}
        )
    except SchemaError as error:
        raise InputError(str(error)) from error
    # An empty FLOWSTORE_DSN is none.
    dsn = options.dsn or os.environ.get("FLOWSTORE_DSN") or None
    return Request(dsn, told, getattr(options, "role", None))


def _options_of(named: str) -> StoreOptions:
    """Find an application's options.

    Raises:
        InputError: what was named isn't there, fails, or gives something else.
    """
    module_name, colon, attribute = named.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--app {named}: write it as MODULE:ATTRIBUTE, as in shop.store:options")
    # As `python -m` does: an application lies where its commands are given.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    found = _calling(named, partial(importlib.import_module, module_name))
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"--app {named}: {module_name} has no {attribute}")
        found = getattr(found, part)
    if callable(found) and not inspect.iscoroutinefunction(found):
        found = _calling(named, found)
    if not isinstance(found, StoreOptions):
        raise InputError(
            f"--app {named} is a {type(found).__name__}: name a StoreOptions, or a plain function"
            " that returns one"
        )
    return found


def _calling(named: str, application: Callable[[], Any]) -> Any:
    """Run the application's code, whose failures are its own.

    Raises:
        InputError: it fails.
    """
    try:
        return application()
    except Exception as cause:
        raise InputError(f"--app {named} fails: {type(cause).__name__}: {cause}") from cause
