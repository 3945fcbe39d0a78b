"""Packages whose names are found in their modules when they are first asked for.

Importing a package then costs no more than what is used of it, whoever imports it: a program that
links two blocks, a worker process of a rebuild, pytest with a plugin nobody needs. No cycle hides
behind it: the modules themselves import each other at their top.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["found_late"]


def found_late(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__`.

    Hide both from type checkers, which would take every name for one that is there; they read the
    imports instead that stand under `TYPE_CHECKING`.

    Args:
        package: its name.
        homes: the names that it offers, by the module where they are: one of its own, or any by its
            full name.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    module = sys.modules[package]

    def find(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        path = home if home.startswith("flowstore.") else f"{package}.{home}"
        found = getattr(import_module(path), name)
        setattr(
            module, name, found
        )  # asked for once: from now on it is an attribute like any other
        return found

    def names() -> list[str]:
        return sorted({*vars(module), *home_of})

    return find, names
