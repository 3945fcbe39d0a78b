"""What a block may ask of the functions it was given."""

from __future__ import annotations

import functools
import inspect
import math
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check_callable",
    "check_capacity",
    "check_count",
    "check_exception",
    "check_parallelism",
    "function_name",
    "is_async",
    "is_async_generator",
    "refuse_coroutine",
]


def is_async(function: Any) -> bool:
    """Tell whether calling it gives a coroutine: functions, methods, partials, `__call__`."""
    return _is(inspect.iscoroutinefunction, function)


def is_async_generator(function: Any) -> bool:
    """Tell whether calling it gives an async generator."""
    return _is(inspect.isasyncgenfunction, function)


def _is(test: Callable[[Any], bool], function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  of any signature
    if test(function):
        return True
    kind: Any = type(function)  # pyright: ignore[reportUnknownVariableType]  of any signature
    is_object = not inspect.isroutine(function) and not inspect.isclass(function)
    return is_object and test(getattr(kind, "__call__", None))  # noqa: B004  its type's own


def function_name(function: Any) -> str:
    """Find a name that a reader of a message recognises."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  of any signature
    name = getattr(function, "__name__", None) or type(function).__name__
    return str(name).strip("<>")


def refuse_coroutine(result: Any, function: Any) -> None:
    """Raise if a plain function has returned a coroutine: it would never be awaited.

    Raises:
        TypeError: with the way out.
    """
    if type(result) is CoroutineType:
        result.close()
        message = (
            f"{function_name(function)} is a plain function that returned a coroutine: give the"
            " block the async function itself, or an async function that awaits it"
        )
        raise TypeError(message)


def check_callable(function: Any, what: str) -> None:
    """Raise early if what should be called can't be.

    Raises:
        TypeError: naming what was found.
    """
    if not callable(function):
        message = f"{what} has to be a function, found {function!r}"
        raise TypeError(message)


def check_exception(error: Any) -> None:
    """Raise if a fault is no exception.

    Raises:
        TypeError: naming what was found.
    """
    if not isinstance(error, BaseException):
        message = f"a fault has to be an exception, found {error!r}"
        raise TypeError(message)


def check_capacity(capacity: float, least: float = 1) -> None:
    """Raise if a capacity is no whole number of at least `least`, nor `math.inf`.

    Raises:
        ValueError: naming what was found.
    """
    _check_whole(capacity, "bounded_capacity", least)


def check_parallelism(parallelism: float) -> None:
    """Raise if a degree of parallelism is no whole number of at least 1, nor `math.inf`.

    Raises:
        ValueError: naming what was found.
    """
    _check_whole(parallelism, "max_degree_of_parallelism", 1)


def check_count(value: float, what: str, least: float = 1) -> None:
    """Raise if a number is not whole and at least `least`, nor `math.inf`.

    Raises:
        ValueError: naming what was found.
    """
    _check_whole(value, what, least)


def _check_whole(value: float, what: str, least: float) -> None:
    whole = value == math.inf or (isinstance(value, int) and not isinstance(value, bool))
    if not whole or value < least:
        message = f"{what} has to be a whole number of at least {least}, or math.inf: {value!r}"
        raise ValueError(message)
