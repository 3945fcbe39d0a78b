"""The blocks that call a function an item: transform, transform-many, action, stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from flowstore.blocks._async import AsyncNode
from flowstore.blocks._faces import SourceFace, TargetFace
from flowstore.blocks._failures import error_handler
from flowstore.blocks._functions import (
    check_callable,
    check_capacity,
    check_parallelism,
    function_name,
    is_async,
)
from flowstore.blocks._many import ManyNode
from flowstore.blocks._plain import PlainNode
from flowstore.blocks._stream_node import StreamNode

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Hashable,
        Iterable,
    )

    from flowstore.blocks._node import Node

__all__ = ["ActionBlock", "StreamBlock", "TransformBlock", "TransformManyBlock"]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


def _one_to_one(
    name: str,
    function: Callable[[Any], Any],
    capacity: float,
    *,
    gives: bool,
    parallelism: float,
    ordered: bool,
    key: Callable[[Any], Hashable] | None,
    on_error: Callable[[Any, Exception], Any] | None,
) -> Node:
    """Choose the machine: a plain function is called by the run, an async one by workers."""
    check_callable(function, "the block's function")
    check_capacity(capacity)
    check_parallelism(parallelism)
    if key is not None:
        check_callable(key, "partition_by")
    handler = error_handler(on_error)
    if not is_async(function):
        return PlainNode(name, capacity, function, gives=gives, key=key, on_error=handler)
    return AsyncNode(
        name,
        capacity,
        function,
        gives=gives,
        parallelism=parallelism,
        ordered=ordered,
        key=key,
        on_error=handler,
    )


class TransformBlock(TargetFace[In_contra], SourceFace[Out_co]):
    """Makes one output of every input, in input order unless told otherwise.

    Args:
        function: takes an item, returns the output; plain or async. A plain one runs to its end
            before anything else does: work that takes long belongs into a worker process.
        bounded_capacity: items it holds at most, from acceptance until the output has left;
            `math.inf` for no bound.
        max_degree_of_parallelism: async functions under way at once; `math.inf` for no bound.
        ensure_ordered: outputs leave in input order at any parallelism; False: as they get ready.
        partition_by: gives an item's key; items of one key start and finish in order, different
            keys run side by side, and outputs are in order by key.
        on_error: called with item and exception when the function raises; the item counts as
            failed and the block goes on. Without it the block faults.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a capacity or parallelism below 1 or not whole.
        TypeError: a function that can't be called.
    """

    @overload
    def __init__(
        self,
        function: Callable[[In_contra], Awaitable[Out_co]],
        *,
        bounded_capacity: float = ...,
        max_degree_of_parallelism: float = ...,
        ensure_ordered: bool = ...,
        partition_by: Callable[[In_contra], Hashable] | None = ...,
        on_error: Callable[[In_contra, Exception], object] | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[In_contra], Out_co],
        *,
        bounded_capacity: float = ...,
        max_degree_of_parallelism: float = ...,
        ensure_ordered: bool = ...,
        partition_by: Callable[[In_contra], Hashable] | None = ...,
        on_error: Callable[[In_contra, Exception], object] | None = ...,
        name: str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        function: Callable[[In_contra], Any],
        *,
        bounded_capacity: float = 128,
        max_degree_of_parallelism: float = 1,
        ensure_ordered: bool = True,
        partition_by: Callable[[In_contra], Hashable] | None = None,
        on_error: Callable[[In_contra, Exception], object] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            _one_to_one(
                name or f"TransformBlock({function_name(function)})",
                function,
                bounded_capacity,
                gives=True,
                parallelism=max_degree_of_parallelism,
                ordered=ensure_ordered,
                key=partition_by,
                on_error=on_error,
            )
        )


class ActionBlock(TargetFace[In_contra]):
    """Calls a function for every item: a sink.

    Args:
        function: takes an item; plain or async, its result is ignored.
        bounded_capacity: items it holds at most, the running ones included; `math.inf` for no
            bound.
        max_degree_of_parallelism: async functions under way at once; `math.inf` for no bound.
        partition_by: gives an item's key; items of one key start and finish in order, different
            keys run side by side.
        on_error: called with item and exception when the function raises; the item counts as
            failed and the block goes on. Without it the block faults.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a capacity or parallelism below 1 or not whole.
        TypeError: a function that can't be called.
    """

    def __init__(
        self,
        function: Callable[[In_contra], object],
        *,
        bounded_capacity: float = 128,
        max_degree_of_parallelism: float = 1,
        ensure_ordered: bool = True,
        partition_by: Callable[[In_contra], Hashable] | None = None,
        on_error: Callable[[In_contra, Exception], object] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            _one_to_one(
                name or f"ActionBlock({function_name(function)})",
                function,
                bounded_capacity,
                gives=False,
                parallelism=max_degree_of_parallelism,
                ordered=ensure_ordered,
                key=partition_by,
                on_error=on_error,
            )
        )


class TransformManyBlock(TargetFace[In_contra], SourceFace[Out_co]):
    """Makes any number of outputs of every input, pulling only as many as there is room for.

    Args:
        function: takes an item, returns an iterable; plain, async, or an async generator function.
        bounded_capacity: inputs it holds at most, where one that is worked on counts as the number
            of its unread outputs; `math.inf` for no bound.
        max_degree_of_parallelism: inputs that are worked on at once; `math.inf` for no bound.
        ensure_ordered: outputs leave in the order of their inputs; False: as they get ready.
        on_error: called with item and exception when the function or its iterator raises; outputs
            that were made already stay. Without it the block faults.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a capacity or parallelism below 1 or not whole.
        TypeError: a function that can't be called.
    """

    @overload
    def __init__(
        self,
        function: Callable[[In_contra], AsyncIterable[Out_co]],
        *,
        bounded_capacity: float = ...,
        max_degree_of_parallelism: float = ...,
        ensure_ordered: bool = ...,
        on_error: Callable[[In_contra, Exception], object] | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[In_contra], Awaitable[Iterable[Out_co]]],
        *,
        bounded_capacity: float = ...,
        max_degree_of_parallelism: float = ...,
        ensure_ordered: bool = ...,
        on_error: Callable[[In_contra, Exception], object] | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[In_contra], Iterable[Out_co]],
        *,
        bounded_capacity: float = ...,
        max_degree_of_parallelism: float = ...,
        ensure_ordered: bool = ...,
        on_error: Callable[[In_contra, Exception], object] | None = ...,
        name: str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        function: Callable[[In_contra], Any],
        *,
        bounded_capacity: float = 128,
        max_degree_of_parallelism: float = 1,
        ensure_ordered: bool = True,
        on_error: Callable[[In_contra, Exception], object] | None = None,
        name: str | None = None,
    ) -> None:
        check_callable(function, "the block's function")
        check_capacity(bounded_capacity)
        check_parallelism(max_degree_of_parallelism)
        super().__init__(
            ManyNode(
                name or f"TransformManyBlock({function_name(function)})",
                bounded_capacity,
                function,
                is_async=is_async(function),
                parallelism=max_degree_of_parallelism,
                ordered=ensure_ordered,
                on_error=error_handler(on_error),
            )
        )


class StreamBlock(TargetFace[In_contra], SourceFace[Out_co]):
    """Runs one async generator function over all inputs: for stages that keep a state.

    The function takes an async iterator of the inputs and yields outputs whenever it likes: windows,
    sessions, complex event processing. It should read its input to the end; one that returns while
    accepted items are unread is a fault.

    Args:
        function: an async generator function of one argument.
        bounded_capacity: inputs plus unread outputs it holds at most; `math.inf` for no bound.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a capacity below 1 or not whole.
        TypeError: `function` is no async generator function.
    """

    def __init__(
        self,
        function: Callable[[AsyncIterator[In_contra]], AsyncIterator[Out_co]],
        *,
        bounded_capacity: float = 128,
        name: str | None = None,
    ) -> None:
        check_callable(function, "the block's function")
        check_capacity(bounded_capacity)
        if is_async(function):
            message = (
                f"{function_name(function)} is a coroutine function: a stream block takes an async"
                " generator function, one that yields its outputs"
            )
            raise TypeError(message)
        label = name or f"StreamBlock({function_name(function)})"
        super().__init__(StreamNode(label, bounded_capacity, function))
