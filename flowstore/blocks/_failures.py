"""The per-item error policy: `on_error=` of the function blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.blocks._functions import check_callable, is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.blocks._node import Node

__all__ = ["ErrorHandler", "error_handler"]


class ErrorHandler:
    """Shows a failed item to the user's handler; if that raises, the block faults with it."""

    __slots__ = ("_function", "is_async")

    def __init__(self, function: Callable[[Any, Exception], Any]) -> None:
        check_callable(function, "on_error")
        self._function = function
        self.is_async = is_async(function)

    def handle(self, node: Node, item: Any, error: Exception) -> None:
        """Call a plain handler."""
        try:
            self._function(item, error)
        except BaseException as raised:  # noqa: BLE001  a user's function may raise anything
            _keep_context(raised, error)
            node.fail(raised, item, "the error handler for item")

    async def handle_later(self, node: Node, item: Any, error: Exception) -> None:
        """Call a plain or an async handler; cancellation passes through."""
        if not self.is_async:
            self.handle(node, item, error)
            return
        try:
            await self._function(item, error)
        except Exception as raised:  # noqa: BLE001  a user's function may raise anything
            _keep_context(raised, error)
            node.fail(raised, item, "the error handler for item")


def error_handler(function: Callable[[Any, Exception], Any] | None) -> ErrorHandler | None:
    """Make the policy that `on_error=` asks for."""
    return None if function is None else ErrorHandler(function)


def _keep_context(raised: BaseException, error: Exception) -> None:
    """Keep the item's own error visible behind the handler's."""
    if raised is not error and raised.__context__ is None:
        raised.__context__ = error
