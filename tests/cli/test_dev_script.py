"""The script behind `make`: it says what is wrong in one line, and leaves what is right alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """A checkout with the scripts only."""
    (tmp_path / "scripts").mkdir()
    for name in ("dev.py", "dev.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def dev(folder, *arguments, **environment):
    return subprocess.run(
        ["sh", "scripts/dev.sh", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def fake(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_a_python_one_line_tells_the_way_out(copy):
    tools = copy / "bin"
    tools.mkdir()
    (tools / "dirname").symlink_to(shutil.which("dirname"))
    (tools / "sh").symlink_to(shutil.which("sh"))
    done = dev(copy, "demo", PATH=str(tools), PYTHON="")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("dev: no Python 3.11 or newer found: install one")


def test_a_python_that_does_not_run_is_passed_over(copy):
    shim = fake(copy, "bin/python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    done = dev(copy, "clean", PATH=f"{shim.parent}{os.pathsep}{os.environ['PATH']}", PYTHON="")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "dev: removed .venv and the caches\n"


def test_a_python_that_was_named_is_the_only_one_tried(copy):
    done = dev(copy, "clean", PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert done.stderr == (
        "dev: PYTHON=/nowhere/python is no Python 3.11 or newer with the venv module\n"
    )


def test_an_unknown_task_lists_the_known(copy):
    done = dev(copy, "dance")
    assert done.returncode == 2
    assert "choose from" in done.stderr
    assert "demo" in done.stderr


def test_clean_removes_what_was_made_and_nothing_else(copy):
    for made in (".venv/bin", ".ruff_cache", "flowstore/__pycache__"):
        (copy / made).mkdir(parents=True)
    (copy / "flowstore" / "kept.py").touch()
    assert dev(copy, "clean").returncode == 0
    left = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert left == {"flowstore/kept.py", "pyproject.toml", "scripts/dev.py", "scripts/dev.sh"}
    assert not (copy / ".venv").exists()
