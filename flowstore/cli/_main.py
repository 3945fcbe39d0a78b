"""Reads the command line and hands over to the module of the command.

This module imports nothing heavy, and neither does the package above it: `flowstore --help` and a
mistyped option answer at once. A command's own module, with trio, psycopg and the store behind
it, is imported by its name when the command line was right; the table `_COMMANDS` is the only
place that knows those names.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

__all__ = ["main"]

EXIT_INTERRUPTED = 130
_EXIT_PIPE = 141  # what a shell reports of a program that SIGPIPE ended

_COMMANDS = {"db": "flowstore.cli._db", "demo": "flowstore.cli._demo", "sim": "flowstore.cli._sim"}

_DEMO = """\
Publishes the history of each repository as one stream of events, while the projection daemon folds
them into documents; then checks every document against a live fold of its stream and against the
history itself, rebuilds all documents, and checks again.

A run that was stopped, or killed, goes on where it was when the same command is given again.

exit status: 0 all agree, 1 something disagrees, 2 wrong command line or no readable history,
3 no store (the server can't be reached or started, or a projection stopped), 130 Ctrl-C."""

_DB = """\
Brings the schema of a store up, checks it, or writes the SQL for whoever does that by hand.

With --app the document types and flat tables of an application are included; without, only what
every store has.

exit status: 0 done, 1 the schema isn't what is needed and can't be brought there or wasn't to be,
2 wrong command line or application, 3 the database refused or can't be reached, 130 Ctrl-C."""

_SIM = """\
Runs store, daemons and writers in one process and in virtual time, where processes are killed and
stopped, replies are lost and the database restarts, and holds every commit against the laws of
order. What happens is drawn by a seed: the same seed gives the same run again.

exit status: 0 every law holds, 1 one is broken, 2 wrong command line or scenario, 130 Ctrl-C."""

_DB_ACTIONS = {
    "apply": "create what is missing, in one transaction",
    "assert": "fail, and name what is missing or different",
    "patch": "print the SQL that apply would run",
    "dump": "print the SQL of the whole schema from nothing; asks no database",
    "grants": "print what a role that owns nothing has to be granted; asks no database",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status.

    Args:
        arguments: the command line without the program's name; None takes the process' own.
    """
    options = _parser().parse_args(arguments)
    try:
        # By name, so that only the command that runs is imported: see the module's docstring.
        status: int = importlib.import_module(_COMMANDS[options.command]).run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("flowstore: stopped by Ctrl-C", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowstore",
        description="Event store and document store on PostgreSQL, with projections.",
    )
    parser.add_argument(
        "--version", action="version", version=f"flowstore {metadata.version('flowstore')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="fold real git histories into documents, and check them",
        description=_DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_demo_options(demo)
    db = commands.add_parser(
        "db",
        help="create, check or print the database schema",
        description=_DB,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = db.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, told in _DB_ACTIONS.items():
        _add_db_options(actions.add_parser(name, help=told, description=f"{told}."), name)
    sim = commands.add_parser(
        "sim",
        help="simulate crashes, and hold every commit against the laws of order",
        description=_SIM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_sim_options(sim)
    return parser


def _add_sim_options(sim: argparse.ArgumentParser) -> None:
    what = sim.add_mutually_exclusive_group()
    what.add_argument(
        "--seed", type=int, metavar="N", help="run one seed, and print all that happens"
    )
    what.add_argument(
        "--seeds",
        type=_count,
        default=100,
        metavar="N",
        help="run so many seeds (default: %(default)s)",
    )
    sim.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="the first of the seeds (default: %(default)s)",
    )
    sim.add_argument(
        "--scenario",
        default="default",
        metavar="NAME",
        help="'default', or where yours is, as MODULE:ATTRIBUTE (default: %(default)s)",
    )
    sim.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="processes that share the seeds (default: one a processor)",
    )
    sim.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)


def _add_db_options(action: argparse.ArgumentParser, name: str) -> None:
    action.add_argument("--dsn", help="the PostgreSQL to use (default: $FLOWSTORE_DSN)")
    action.add_argument(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        help="an application's StoreOptions, or a function that returns them",
    )
    action.add_argument("--schema", help="the schema (default: the application's, else flowstore)")
    action.add_argument(
        "--stream-identity",
        choices=("uuid", "string"),
        help="what streams are known by (default: as the application says, else uuid)",
    )
    action.add_argument("--output", metavar="FILE", help="write to a file, not to stdout")
    if name == "grants":
        action.add_argument("--role", required=True, help="who is to run the application")


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "repositories",
        nargs="*",
        metavar="REPO",
        help="a git repository, or a file that git log was exported to (default: the repository"
        " around the current folder)",
    )
    demo.add_argument(
        "--events",
        type=_count,
        metavar="N",
        help="publish a made-up history of N events of many projects instead",
    )
    demo.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="S",
        help="which made-up history: the same N and S give the same events (default: 1)",
    )
    place = demo.add_mutually_exclusive_group()
    place.add_argument(
        "--dsn",
        help="the PostgreSQL to use (default: $FLOWSTORE_DSN, else an embedded server)",
    )
    place.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="where the embedded server keeps its data",
    )
    demo.add_argument(
        "--schema",
        default="flowstore_demo",
        help="the schema that holds the demo's tables (default: %(default)s)",
    )


def _count(text: str) -> int:
    """Read a number of things; thousands may be set apart as in 100_000."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events, at least 1")
    return number
