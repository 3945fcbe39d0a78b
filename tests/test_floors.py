"""Imports go downward only; pyproject.toml says which way is down."""

from pathlib import Path

from importlinter.cli import lint_imports

CONFIG = Path(__file__).parents[1] / "pyproject.toml"


def test_imports_go_downward_only(monkeypatch):
    monkeypatch.chdir(CONFIG.parent)
    assert lint_imports(config_filename=str(CONFIG), no_cache=True) == 0
