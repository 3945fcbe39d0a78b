"""Make what a developer, a demo or a CI run needs, with nothing but the standard library.

Started by scripts/dev.sh (which finds the Python) for the Makefile and .ci/run. Every step says
what it does in one line; a step that fails says so in one line after its own output.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "flowstore-setup.txt"
INSTALL_LOG = VENV / "install.log"

# What each task needs. The demo's is small, so that a newcomer waits for seconds.
DEMO_EXTRAS = frozenset({"embedded", "cli"})
DEV_EXTRAS = frozenset({"dev"})

# A process for each of up to four processors; the tests of a file stay together, with what is made
# for them. What is handed on comes last, so that `-n 0` runs them in one process.
SHARED_OUT = ("-n", "auto", "--maxprocesses=4", "--dist=loadfile")

LINTS = (
    ("ruff format", ("ruff", "format", "--check", ".")),
    ("ruff check", ("ruff", "check", ".")),
    ("pyright", ("pyright",)),
    ("lint-imports", ("lint-imports",)),
)

# What is looked for longer than a CI run has time for: faults, simulations, and laws over drawn
# histories.
SOAK_TESTS = (
    "tests/faults",
    "tests/testing",
    "tests/daemon/test_laws.py",
    "tests/blocks/test_drawn_graphs.py",
)
SOAK_OPTIONS = (
    "--hypothesis-profile=soak",
    "--durations=20",
    "--log-cli-level=INFO",  # the tests' figures, without what the product says to faults
    *(f"--log-disable=flowstore.{room}" for room in ("blocks", "daemon", "postgres", "store")),
)

CLEANED = (
    ".venv",
    ".pytest_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
    ".coverage",
    "build",
    "dist",
)


class StepError(Exception):
    """A step failed; the message is the one line to show."""


def say(text: str) -> None:
    """Print one plain line, at once, so that it stands before the step's own output."""
    print(f"dev: {text}", flush=True)


def run(arguments: Sequence[str | Path]) -> int:
    """Run a command in the checkout with its output shown, and return its exit status."""
    # Tools that look for their interpreter (pyright for node, lint-imports) find the venv's first.
    path = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", os.defpath)])
    try:
        return subprocess.call(
            list(map(str, arguments)), cwd=ROOT, env={**os.environ, "PATH": path}
        )
    except FileNotFoundError as error:
        raise StepError(f"{error.filename} is missing: run 'make clean', then try again") from error


def timed(name: str, arguments: Sequence[str | Path]) -> bool:
    """Run a named command, tell how it ended and how long it took, and whether it passed."""
    say(name)
    begin = time.monotonic()
    status = run(arguments)
    ending = "passed" if status == 0 else f"FAILED (exit status {status})"
    say(f"{name} {ending} in {time.monotonic() - begin:.1f} s")
    return status == 0


# --- the virtual environment ---


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What an installation was made from: where it differs, it is made anew.

    The checkout's path is part of it, because an editable installation, and every script in
    .venv/bin, points to the place where it was made: a copied .venv would run the other checkout.

    Attributes:
        pyproject: the hash of pyproject.toml.
        checkout: the path of the checkout.
        extras: the extras that are installed.
    """

    pyproject: str
    checkout: str
    extras: frozenset[str]


def current_stamp(extras: frozenset[str]) -> Stamp:
    """Describe what an installation with these extras would be made from, now and here."""
    pyproject = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return Stamp(pyproject, str(ROOT), extras)


def read_stamp() -> Stamp | None:
    """Read what the last installation was made from, None where there was none."""
    try:
        pyproject, checkout, extras = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return Stamp(pyproject, checkout, frozenset(extras.split(",")))


def write_stamp(stamp: Stamp) -> None:
    """Remember what the installation was made from."""
    lines = [stamp.pyproject, stamp.checkout, ",".join(sorted(stamp.extras))]
    STAMP.write_text("\n".join(lines) + "\n", encoding="utf-8")


def venv_runs() -> bool:
    """Tell whether .venv's Python starts, has pip, and is new enough."""
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        return (
            subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def venv_version() -> tuple[str, ...]:
    """Ask .venv's Python for its major and minor version."""
    probe = "import platform; print(*platform.python_version_tuple()[:2])"
    return tuple(subprocess.check_output([PYTHON, "-c", probe], text=True).split())


def make_venv() -> None:
    """Make .venv with this Python, with pip in it.

    Some distributions split ensurepip off (python3-venv on Debian). Then the base's own pip, if it
    has one, installs pip into the new environment.
    """
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not has_ensurepip and importlib.util.find_spec("pip") is None:
        raise StepError(
            f"{sys.executable} can make no environment: it has neither ensurepip nor pip. Install"
            " them (Debian, Ubuntu: apt-get install python3-venv), or name another Python with"
            " PYTHON=/path/to/python"
        )
    say(f"making .venv with Python {platform.python_version()} ({sys.executable})")
    if VENV.exists():
        shutil.rmtree(VENV)
    without = () if has_ensurepip else ("--without-pip",)
    quietly("making .venv", [sys.executable, "-m", "venv", *without, VENV])
    if not has_ensurepip:
        base_pip = [sys.executable, "-m", "pip", "--python", PYTHON]
        quietly("installing pip into .venv", [*base_pip, "install", "-q", "pip"])


def quietly(what: str, arguments: Sequence[str | Path]) -> None:
    """Run a command whose output matters only when it fails; then show its last lines."""
    done = subprocess.run(
        list(map(str, arguments)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if VENV.is_dir():
        INSTALL_LOG.write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-15:]), file=sys.stderr)
        raise StepError(f"{what} failed: see the lines above, and the rest in .venv/install.log")


def venv_serves(stamp: Stamp | None) -> bool:
    """Tell whether .venv can be kept: it runs, was made here, and with the Python asked for.

    One without a stamp was made by hand in this checkout: it is completed, not thrown away.
    """
    if not venv_runs() or (stamp is not None and stamp.checkout != str(ROOT)):
        return False
    asked = os.environ.get("PYTHON")
    return not asked or venv_version() == platform.python_version_tuple()[:2]


def setup(needed: frozenset[str]) -> None:
    """Make .venv hold the package with these extras; nothing to do where it does already."""
    stamp = read_stamp()
    if not venv_serves(stamp):
        make_venv()
        stamp = None
    have: frozenset[str] = stamp.extras if stamp else frozenset()
    if stamp == current_stamp(have) and (needed <= have or have >= DEV_EXTRAS):
        return
    begin = time.monotonic()
    wanted = current_stamp(needed | have)
    what = f".[{','.join(sorted(wanted.extras))}]"
    say(f"installing flowstore{what[1:]} into .venv (the first time, this downloads)")
    STAMP.unlink(missing_ok=True)
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    quietly("installing (pip needs its package index)", [*pip, "-e", what])
    write_stamp(wanted)
    say(f"installed in {time.monotonic() - begin:.1f} s")


# --- the tasks ---


def do_setup(_: Sequence[str]) -> int:
    """Install everything a developer needs."""
    setup(DEV_EXTRAS)
    say("ready: .venv holds flowstore and its tools")
    return 0


def do_demo(arguments: Sequence[str]) -> int:
    """Run the demo; what follows is handed to `flowstore demo`."""
    setup(DEMO_EXTRAS)
    say(f"flowstore demo {' '.join(arguments)}".rstrip())
    # Replaces this process, so that Ctrl-C and kill reach the demo alone, and its status is ours.
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "flowstore.cli", "demo", *arguments])  # noqa: S606 - no shell is meant


def do_lint(_: Sequence[str]) -> int:
    """Run every check except the tests; all of them, also after one has failed."""
    setup(DEV_EXTRAS)
    failed = [
        name
        for name, command in LINTS
        if not timed(name, [VENV / "bin" / command[0], *command[1:]])
    ]
    if failed:
        say(f"checks that FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def do_test(arguments: Sequence[str]) -> int:
    """Run the tests; what follows is handed to pytest, whose summary is the last output."""
    setup(DEV_EXTRAS)
    arguments = [*SHARED_OUT, *arguments]
    say(f"pytest {' '.join(arguments)}")
    return run([PYTHON, "-m", "pytest", *arguments])


def do_soak(arguments: Sequence[str]) -> int:
    """Look for long; what follows is handed to pytest, in the place of the tests to run."""
    setup(DEV_EXTRAS)
    os.environ["FLOWSTORE_SOAK"] = "1"
    tests = [*SOAK_OPTIONS, *(arguments or SOAK_TESTS)]
    say(f"FLOWSTORE_SOAK=1 pytest {' '.join(tests)}")
    return run([PYTHON, "-m", "pytest", *tests])


def do_check(arguments: Sequence[str]) -> int:
    """Run every check, then the tests; fails if any of them did."""
    lint = do_lint(())
    return do_test(arguments) or lint


def do_clean(_: Sequence[str]) -> int:
    """Remove .venv and every cache."""
    for name in CLEANED:
        path = ROOT / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for cache in ROOT.rglob("__pycache__"):
        shutil.rmtree(cache)
    say("removed .venv and the caches")
    return 0


TASKS = {
    "setup": do_setup,
    "demo": do_demo,
    "lint": do_lint,
    "test": do_test,
    "soak": do_soak,
    "check": do_check,
    "clean": do_clean,
}


def main() -> int:
    """Run the task named on the command line."""
    parser = argparse.ArgumentParser(prog="dev", description="Make, check and show flowstore.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed on to demo or pytest")
    options = parser.parse_args()
    try:
        return TASKS[options.task](options.arguments)
    except StepError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dev: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
