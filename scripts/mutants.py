"""Break the block library once for every law, and see that the tests notice.

    python scripts/mutants.py [--list] [--only NAME ...] [--jobs N]

A mutant is one deliberate break: a text replaced in one file of flowstore/blocks, with the law that
it makes untrue and the test files that have to go red. They stand in mutants_blocks.toml beside
this script; how to add one is told there.

The checkout is copied into a temporary folder; nothing in it is touched. First the unbroken code
has to pass the test files. Then every mutant gets a copy of its own, in which only its test files
run, each up to the first red test. Some breaks hang, and a hang is a red test too: a test may take
`QUIET` seconds, and a mutant `LIMIT`. The table names the law, the mutant, and the test that caught
it.

    --list      show the mutants, and which are stale, without running anything
    --only NAME run only this one; may be repeated, and shell patterns (`join-*`) are allowed
    --jobs N    so many at once; 2 by default

The exit status is 1 if a mutant survives, if one is stale (its text isn't in its file exactly
once: the code was changed, so change the mutant), if one is broken (the tests couldn't run at all),
or if the unbroken code is red.

Random tests draw the same inputs in every run, so that a mutant is caught every time or never.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).with_name("mutants_blocks.toml")
ROOM = Path("flowstore", "blocks")
TESTS = Path("tests", "blocks")

QUIET = 40  # seconds a test; the slowest needs 4 on an idle machine
LIMIT = 300  # seconds a mutant; the slowest group of test files needs 20 on an idle machine
BASELINE_LIMIT = 900  # seconds for all test files over the unbroken code
MEMORY = 3 << 30  # bytes a run; a mutant may collect items for ever

# No shrinking: which test goes red matters, not its smallest example.
CONFTEST = """
from hypothesis import Phase, settings

settings.register_profile(
    "mutants", database=None, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants")
"""

PYTEST = ("-m", "pytest", "-x", "-v", "--tb=no", "--color=no", "-p", "no:cacheprovider")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One deliberate break.

    Attributes:
        name: what `--only` asks for.
        law: the sentence that becomes untrue.
        file: the file's name in flowstore/blocks.
        old: the text to replace; it occurs exactly once in the file.
        new: what stands there instead.
        tests: names of files in tests/blocks.
    """

    name: str
    law: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def is_stale(self, tree: Path) -> bool:
        """Tell whether a file is missing, or the text isn't in its file exactly once."""
        path = tree / ROOM / self.file
        if not path.is_file() or not all((tree / TESTS / test).is_file() for test in self.tests):
            return True
        return path.read_text(encoding="utf-8").count(self.old) != 1

    def apply(self, tree: Path) -> None:
        """Break the code of a copied tree."""
        path = tree / ROOM / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a mutant's run ended.

    Attributes:
        verdict: "caught", or what is wrong: "SURVIVED", "STALE", "BROKEN".
        detail: the test that went red, or hung.
    """

    verdict: str
    detail: str = ""


class Run:
    """The tests of one mutant, or of the unbroken code, at work in a copied tree."""

    def __init__(self, tree: Path, tests: Sequence[str], limit: float) -> None:
        self.tree = tree
        self._end = time.monotonic() + limit
        self._heard = 0  # bytes of the log
        self._patience = 0.0  # when the test at hand counts as hanging
        self._log = tree / "pytest.log"
        files = [str(TESTS / test) for test in tests]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *PYTEST, *files],
                cwd=tree,  # comes before an installed flowstore in the path
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a hanging run goes with all its processes
            )
        if hasattr(resource, "prlimit"):  # Linux only; elsewhere the time limit has to do
            with contextlib.suppress(ProcessLookupError):  # through already
                resource.prlimit(self._process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))

    def outcome(self) -> Outcome | None:
        """Tell how it ended; None while it is under way."""
        status = self._process.poll()
        if status is None:
            if not self._is_over():
                return None
            self.kill()
            return Outcome("caught", f"{self._hanging()} (by hanging)")
        if status == 0:
            return Outcome("SURVIVED")
        red = re.search(r"(?m)^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", self.log())
        if status == 1 and red:
            return Outcome("caught", _short(red[1]))
        return Outcome("BROKEN", f"pytest ended with status {status}")

    def _is_over(self) -> bool:
        """Tell whether the test at hand, or the whole run, has taken too long."""
        now, size = time.monotonic(), self._log.stat().st_size
        if size != self._heard or not self._patience:
            self._heard, self._patience = size, now + QUIET
        return now >= min(self._patience, self._end)

    def kill(self) -> None:
        """End the run with all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def log(self) -> str:
        """Read what pytest has said up to now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _hanging(self) -> str:
        begun = re.findall(r"(?m)^(tests/\S+::.+?)(?: [A-Z]+ +\[.*)?$", self.log())
        return _short(begun[-1]) if begun else "the import"


def _short(test: str) -> str:
    return test.removeprefix(f"{TESTS.as_posix()}/").strip()


def load() -> list[Mutant]:
    """Read the mutants, in the order of the file."""
    tables = tomllib.loads(DATA.read_text(encoding="utf-8"))
    return [
        Mutant(name=name, **{**table, "tests": tuple(table["tests"])})
        for name, table in tables.items()
    ]


def copy_tree(source: Path, target: Path) -> None:
    """Copy what the tests of the blocks need, and tell Hypothesis how to draw."""
    ignore = shutil.ignore_patterns("__pycache__", "typing")
    for folder in ("flowstore", TESTS):
        shutil.copytree(source / folder, target / folder, ignore=ignore)
    shutil.copy(source / "pyproject.toml", target)
    (target / "conftest.py").write_text(CONFTEST, encoding="utf-8")


def check_unbroken(tree: Path, tests: Sequence[str]) -> bool:
    """Run the tests over the unbroken code; tell whether they pass."""
    print(f"unbroken code: {len(tests)} test files ...", flush=True)
    run = Run(tree, tests, BASELINE_LIMIT)
    outcome = _wait([run])[run]
    if outcome.verdict == "SURVIVED":
        return True
    print(f"the unbroken code is red: {outcome.detail}\n{run.log()[-2000:]}", file=sys.stderr)
    return False


def run_all(
    pristine: Path, mutants: Sequence[Mutant], jobs: int
) -> Iterator[tuple[Mutant, Outcome, float]]:
    """Run every mutant, so many at once; yields how each ended, and its seconds, as it ends."""
    waiting = list(reversed(mutants))
    running: dict[Run, tuple[Mutant, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                if mutant.is_stale(pristine):
                    yield mutant, Outcome("STALE", f"see {mutant.file} and the test files"), 0.0
                else:
                    running[_start(pristine, mutant)] = mutant, time.monotonic()
            for run, outcome in _wait(running).items():
                mutant, begin = running.pop(run)
                shutil.rmtree(run.tree)
                yield mutant, outcome, time.monotonic() - begin
    finally:
        for run in running:
            run.kill()


def _start(pristine: Path, mutant: Mutant) -> Run:
    tree = pristine.parent / mutant.name
    copy_tree(pristine, tree)
    mutant.apply(tree)
    return Run(tree, mutant.tests, LIMIT)


def _wait(runs: Iterator[Run] | Sequence[Run] | dict[Run, object]) -> dict[Run, Outcome]:
    """Wait until some of the runs have ended, if there are any."""
    watched = list(runs)
    while watched:
        ended = {run: outcome for run in watched if (outcome := run.outcome()) is not None}
        if ended:
            return ended
        time.sleep(0.05)
    return {}


def show_list(mutants: Sequence[Mutant]) -> int:
    """Print the mutants, and which of them are stale."""
    stale = 0
    for mutant in mutants:
        mark = "  STALE" if mutant.is_stale(ROOT) else ""
        stale += bool(mark)
        print(f"{mutant.name:<45} {mutant.file:<20} {mutant.law}{mark}")
    print(f"{len(mutants)} mutants, {stale} stale")
    return int(stale > 0)


def show_run(mutants: Sequence[Mutant], jobs: int) -> int:
    """Run the mutants, print the table, and return the exit status."""
    counts = dict.fromkeys(("caught", "SURVIVED", "STALE", "BROKEN"), 0)
    with tempfile.TemporaryDirectory(prefix="flowstore-mutants-") as home:
        pristine = Path(home, "pristine")
        copy_tree(ROOT, pristine)
        tests = sorted(
            {test for each in mutants if not each.is_stale(pristine) for test in each.tests}
        )
        if tests and not check_unbroken(pristine, tests):
            return 1
        for mutant, outcome, seconds in run_all(pristine, mutants, jobs):
            counts[outcome.verdict] += 1
            caught = outcome.verdict == "caught"
            result = (
                f"caught by {outcome.detail}" if caught else f"{outcome.verdict} {outcome.detail}"
            )
            print(
                f"{mutant.law}\n    {mutant.name}: {result.strip()} [{seconds:.0f} s]", flush=True
            )
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return int(counts["caught"] < len(mutants))


def main() -> int:
    """Read the command line and do what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--only", action="append", metavar="NAME", help="run only this one")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at once")
    asked = parser.parse_args()
    mutants = load()
    for pattern in asked.only or ():
        if not fnmatch.filter((mutant.name for mutant in mutants), pattern):
            parser.error(f"there is no mutant {pattern!r}: see --list")
    if asked.only:
        mutants = [
            mutant
            for mutant in mutants
            if any(fnmatch.fnmatch(mutant.name, pattern) for pattern in asked.only)
        ]
    return show_list(mutants) if asked.list else show_run(mutants, max(1, asked.jobs))


if __name__ == "__main__":
    sys.exit(main())
