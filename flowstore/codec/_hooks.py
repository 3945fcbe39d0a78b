"""The converter's hooks, looked up once for each type."""

from collections.abc import Callable
from typing import Any, TypeAlias

from cattrs import Converter

from flowstore.errors import FlowstoreError, RegistrationError

__all__ = ["Hooks"]

_Structure: TypeAlias = Callable[[Any, Any], Any]
_Unstructure: TypeAlias = Callable[[Any], Any]


class Hooks:
    """Keep the hooks of one converter by class.

    Args:
        converter: whose hooks.
        error: the class of error for values that a hook refuses.
    """

    def __init__(self, converter: Converter, error: type[FlowstoreError]) -> None:
        self._converter = converter
        self._error = error
        self._structure: dict[type, _Structure] = {}
        self._unstructure: dict[type, _Unstructure] = {}

    def put(self, kind: type, structure: _Structure, unstructure: _Unstructure) -> None:
        """Have a class read and written by functions that the converter isn't told of.

        Registering anything with a converter, which may be shared, makes it forget what it has
        worked out about all classes.
        """
        self._structure[kind], self._unstructure[kind] = structure, unstructure

    def structure_hook(self, kind: type) -> _Structure:
        """Give the function that makes an instance of `kind` from a JSON value.

        Raises:
            RegistrationError: the class has an annotation that can't be resolved or converted.
        """
        hook = self._structure.get(kind)
        if hook is None:
            hook = self._make(kind, self._converter.get_structure_hook)
            self._structure[kind] = hook
        return hook

    def unstructure(self, value: object) -> Any:
        """Turn a value into a JSON value, by the hook of its exact class.

        Raises:
            FlowstoreError: as `error`; the value nests endlessly, or a hook refused it.
            RegistrationError: its class has an annotation that can't be resolved or converted.
        """
        kind = type(value)
        hook = self._unstructure.get(kind)
        if hook is None:
            hook = self._make(kind, self._converter.get_unstructure_hook)
            self._unstructure[kind] = hook
        try:
            return hook(value)
        except RecursionError as cause:
            raise self._error(
                f"{kind.__name__} is nested too deeply, or contains itself: flatten it"
            ) from cause
        except Exception as cause:  # the application's hooks may raise anything
            raise self._error(
                f"{kind.__name__} can't be turned into JSON: {type(cause).__name__}: {cause}"
            ) from cause

    def _make(self, kind: type, make: Callable[[Any], Any]) -> Any:
        try:
            return make(kind)
        except Exception as cause:  # resolving annotations runs the application's code
            raise RegistrationError(
                f"{kind.__module__}.{kind.__qualname__} can't be converted:"
                f" {type(cause).__name__}: {cause}; its annotations must be resolvable in its"
                " module at run time, or have hooks on options.events.converter"
            ) from cause
