"""`JoinBlock` and `BatchedJoinBlock`: several inputs, one output."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from flowstore.blocks._faces import SourceFace, TargetVerbs
from flowstore.blocks._functions import check_capacity, check_count, check_exception
from flowstore.blocks._join_nodes import BatchedJoinNode, GroupJoinNode, JoinNode

if TYPE_CHECKING:
    from flowstore.blocks._inlet import Inlet

__all__ = ["BatchedJoinBlock", "JoinBlock", "JoinTarget"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
In_contra = TypeVar("In_contra", contravariant=True)
Row_co = TypeVar("Row_co", covariant=True, bound=tuple[Any, ...])


class JoinTarget(TargetVerbs[In_contra]):
    """One side of a join: takes items; it has no life and no output of its own."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet

    def complete(self) -> None:
        """Take no more items on this side; the join ends once it has used up what is there."""
        self._inlet.close()

    def fault(self, error: BaseException) -> None:
        """End the whole join with a fault.

        Raises:
            TypeError: `error` is no exception.
        """
        check_exception(error)
        self._inlet.node.fault(error)


class _Targets:
    """Gives `JoinBlock.targets` the type of each side."""

    @overload
    def __get__(
        self, block: JoinBlock[tuple[A, B]], owner: object
    ) -> tuple[JoinTarget[A], JoinTarget[B]]: ...
    @overload
    def __get__(
        self, block: JoinBlock[tuple[A, B, C]], owner: object
    ) -> tuple[JoinTarget[A], JoinTarget[B], JoinTarget[C]]: ...
    @overload
    def __get__(
        self, block: JoinBlock[tuple[Any, ...]], owner: object
    ) -> tuple[JoinTarget[Any], ...]: ...
    def __get__(self, block: Any, owner: object) -> Any:
        return self if block is None else block.all_targets


class _BatchedTargets:
    """Gives `BatchedJoinBlock.targets` the type of each side."""

    @overload
    def __get__(
        self, block: BatchedJoinBlock[tuple[tuple[A, ...], tuple[B, ...]]], owner: object
    ) -> tuple[JoinTarget[A], JoinTarget[B]]: ...
    @overload
    def __get__(
        self,
        block: BatchedJoinBlock[tuple[tuple[A, ...], tuple[B, ...], tuple[C, ...]]],
        owner: object,
    ) -> tuple[JoinTarget[A], JoinTarget[B], JoinTarget[C]]: ...
    @overload
    def __get__(
        self, block: BatchedJoinBlock[tuple[Any, ...]], owner: object
    ) -> tuple[JoinTarget[Any], ...]: ...
    def __get__(self, block: Any, owner: object) -> Any:
        return self if block is None else block.all_targets


class JoinBlock(SourceFace[Row_co], Generic[Row_co]):
    """Makes tuples of the k-th items of its sides.

    It completes once a completed side is empty: what the other sides hold then is discarded.

    Args:
        arity: how many sides it has, 2 or more.
        greedy: take items as they come. False: take nothing until every side has an item, then
            take one from each in one step; joins that share sources can't block each other so.
        max_number_of_groups: complete after so many tuples; items beyond are declined.
        bounded_capacity: unread tuples plus the items of the longest side it holds at most.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a number that is too small or not whole.
    """

    targets = _Targets()
    """The sides, in order: a tuple of targets."""

    @overload
    def __init__(
        self: JoinBlock[tuple[A, B]],
        arity: Literal[2] = 2,
        *,
        greedy: bool = ...,
        max_number_of_groups: float = ...,
        bounded_capacity: float = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: JoinBlock[tuple[A, B, C]],
        arity: Literal[3],
        *,
        greedy: bool = ...,
        max_number_of_groups: float = ...,
        bounded_capacity: float = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: JoinBlock[tuple[Any, ...]],
        arity: int,
        *,
        greedy: bool = ...,
        max_number_of_groups: float = ...,
        bounded_capacity: float = ...,
        name: str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        arity: int = 2,
        *,
        greedy: bool = True,
        max_number_of_groups: float = math.inf,
        bounded_capacity: float = 128,
        name: str | None = None,
    ) -> None:
        check_count(arity, "arity", least=2)
        check_count(max_number_of_groups, "max_number_of_groups")
        check_capacity(bounded_capacity)
        make = JoinNode if greedy else GroupJoinNode
        node = make(name or "JoinBlock", bounded_capacity, arity, max_number_of_groups)
        super().__init__(node)
        self.all_targets: tuple[JoinTarget[Any], ...] = tuple(map(JoinTarget[Any], node.sides))


class BatchedJoinBlock(SourceFace[Row_co], Generic[Row_co]):
    """Makes tuples that hold, for each side, a tuple of its items; `batch_size` items in total.

    It ends when all sides are completed; the last batch may be smaller.

    Args:
        batch_size: items of all sides together.
        arity: how many sides it has, 2 or more.
        max_number_of_groups: complete after so many batches; items beyond are declined.
        bounded_capacity: items it holds at most; by default the larger of 128 and twice the batch
            size.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a number that is too small or not whole, or a capacity below the batch size.
    """

    targets = _BatchedTargets()
    """The sides, in order: a tuple of targets."""

    @overload
    def __init__(
        self: BatchedJoinBlock[tuple[tuple[A, ...], tuple[B, ...]]],
        batch_size: int,
        arity: Literal[2] = 2,
        *,
        max_number_of_groups: float = ...,
        bounded_capacity: float | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: BatchedJoinBlock[tuple[tuple[A, ...], tuple[B, ...], tuple[C, ...]]],
        batch_size: int,
        arity: Literal[3],
        *,
        max_number_of_groups: float = ...,
        bounded_capacity: float | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: BatchedJoinBlock[tuple[Any, ...]],
        batch_size: int,
        arity: int,
        *,
        max_number_of_groups: float = ...,
        bounded_capacity: float | None = ...,
        name: str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        batch_size: int,
        arity: int = 2,
        *,
        max_number_of_groups: float = math.inf,
        bounded_capacity: float | None = None,
        name: str | None = None,
    ) -> None:
        check_count(batch_size, "batch_size")
        check_count(arity, "arity", least=2)
        check_count(max_number_of_groups, "max_number_of_groups")
        capacity = max(128, 2 * batch_size) if bounded_capacity is None else bounded_capacity
        check_capacity(capacity, batch_size)
        label = name or "BatchedJoinBlock"
        node = BatchedJoinNode(label, capacity, batch_size, arity, max_number_of_groups)
        super().__init__(node)
        self.all_targets: tuple[JoinTarget[Any], ...] = tuple(map(JoinTarget[Any], node.sides))
