"""The command line: `flowstore`."""

from flowstore.cli._main import main

__all__ = ["main"]
