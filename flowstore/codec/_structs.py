"""msgspec's structs, where msgspec is installed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from cattrs import Converter

from flowstore.codec._problems import MisfitError

__all__ = ["is_struct", "register_structs", "struct_keys"]


def _find_msgspec() -> Any:
    try:
        return import_module("msgspec")
    except ImportError:
        return None


_msgspec = _find_msgspec()


def register_structs(converter: Converter) -> None:
    """Have structs converted by msgspec, and what it doesn't know in them by the converter.

    A struct means what msgspec says: its renamed fields, tags and defaults count.
    """
    if _msgspec is not None:
        converter.register_unstructure_hook_factory(is_struct, _unstructure_factory)
        converter.register_structure_hook_factory(is_struct, _structure_factory)


def is_struct(kind: Any) -> bool:
    """Tell whether a class is a struct."""
    return _msgspec is not None and isinstance(kind, type) and issubclass(kind, _msgspec.Struct)


def struct_keys(kind: Any) -> dict[str, str] | None:
    """Give the names of a struct's fields, and of its tag, by their keys in its JSON.

    Returns:
        None for a struct that is written as an array.
    """
    config = kind.__struct_config__
    if config.array_like:
        return None
    keys = {each.encode_name: each.name for each in _msgspec.structs.fields(kind)}
    return keys if config.tag is None else keys | {config.tag_field: config.tag_field}


def _unstructure_factory(_: Any, converter: Converter) -> Callable[[Any], Any]:
    def unstructure(value: Any) -> Any:
        return _msgspec.to_builtins(
            value, str_keys=True, order="deterministic", enc_hook=converter.unstructure
        )

    return unstructure


def _structure_factory(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    def restore(wanted: Any, value: Any) -> Any:
        return converter.structure(value, wanted)

    def structure(value: Any, _: Any) -> Any:
        try:
            return _msgspec.convert(value, kind, str_keys=True, dec_hook=restore)
        except _msgspec.ValidationError as cause:
            raise MisfitError(str(cause)) from cause

    return structure
