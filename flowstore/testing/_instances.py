"""Drawing instances of event classes that PostgreSQL takes."""

from types import UnionType
from typing import Any, Final, Union, cast, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

__all__ = ["instances"]

_LONGEST: Final = 20
"""Characters of a drawn text at most: what longer ones break is the codec's, and tested there."""

_SCALARS: Final[dict[Any, st.SearchStrategy[Any]]] = {
    # jsonb holds no NUL and no half of a surrogate pair; JSON knows neither NaN nor infinity.
    str: st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=_LONGEST
    ),
    float: st.floats(allow_nan=False, allow_infinity=False),
}
_CONTAINERS: Final[dict[Any, Any]] = {list: st.lists, set: st.sets, frozenset: st.frozensets}


def instances(kind: type) -> st.SearchStrategy[Any]:
    """Draw instances by `st.builds`, in whose text and numbers is nothing that can't be stored.

    Fields that have a default keep it; those with a validator or converter are left to Hypothesis,
    which knows some of them.
    """
    if not attrs.has(kind):
        return st.builds(kind)
    hints = get_type_hints(kind)
    drawn = {
        field.alias or field.name: _values(hints[field.name])
        for field in attrs.fields(kind)
        if _is_plain(field) and field.name in hints
    }
    return st.builds(kind, **drawn)


def _is_plain(field: Any) -> bool:
    required = field.init and field.default is attrs.NOTHING
    return required and field.validator is None and field.converter is None


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    """Draw values of an annotation; whatever holds no text or float is Hypothesis' to draw."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        return st.one_of(*map(_values, arguments))
    if origin in _CONTAINERS:
        return cast("st.SearchStrategy[Any]", _CONTAINERS[origin](_values(arguments[0])))
    if isinstance(annotation, type) and attrs.has(annotation):
        return st.deferred(lambda: instances(annotation))
    return cast("st.SearchStrategy[Any]", st.from_type(annotation))
