"""Finding an aggregate's handlers by their names."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import NoneType
from typing import Any, TypeAlias, get_args

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event
from flowstore.projections._signatures import (
    HandlerSignature,
    read_signature,
    resolve,
)

__all__ = ["Handler", "Role", "find_handlers"]

_Call: TypeAlias = Callable[[Any, Event], Any]


class Role(Enum):
    """Say what a handler does for its events."""

    CREATE = "create"
    APPLY = "apply"
    EVOLVE = "evolve"
    SHOULD_DELETE = "should_delete"


@attrs.frozen
class Handler:
    """Hold one handler, ready to be called.

    Attributes:
        role: what it does.
        where: its class and name, for messages.
        event_types: the exact types that it takes.
        call: takes the state, which `create` ignores, and the envelope.
        takes_missing: whether it wants to be called where there is no aggregate yet, with None.
    """

    role: Role
    where: str
    event_types: tuple[type, ...]
    call: _Call
    takes_missing: bool = False


def find_handlers(aggregate: type) -> Iterator[Handler]:
    """Yield the handlers of a class, inherited ones too, by name.

    Raises:
        RegistrationError: a method has a handler's name but can't be one.
    """
    for name in dir(aggregate):
        role = _role_of(name)
        if role is None:
            continue
        member = inspect.getattr_static(aggregate, name)
        if _is_method(member):
            where = f"{aggregate.__qualname__}.{name}"
            if not _is_helper(role, name, member):
                yield _make_handler(aggregate, role, name, member, where)


def _role_of(name: str) -> Role | None:
    if name == "evolve":
        return Role.EVOLVE
    for role in (Role.CREATE, Role.APPLY, Role.SHOULD_DELETE):
        if name.startswith(role.value):
            return role
    return None


def _is_method(member: Any) -> bool:
    # Fields and properties may be called `created` or `applied_at`: they aren't handlers.
    return inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))


def _is_helper(role: Role, name: str, member: Any) -> bool:
    # `created_recently(self)` asks something; `create(self, ...)` is a forgotten decorator.
    is_maker_name = name == "create" or name.startswith("create_")
    return role is Role.CREATE and inspect.isfunction(member) and not is_maker_name


def _make_handler(aggregate: type, role: Role, name: str, member: Any, where: str) -> Handler:
    _check_kind(role, member, where)
    names = {aggregate.__name__: aggregate, **vars(aggregate)}
    bound: Callable[..., Any] = getattr(aggregate, name)
    skip = 0 if role is Role.CREATE else 1
    if role is Role.EVOLVE:
        _expect_state(bound, where)
    signature = read_signature(bound, where=where, skip=skip, names=names)
    if role is Role.CREATE:
        return Handler(role, where, signature.event_types, _maker(bound, signature))
    takes_missing = role is Role.EVOLVE and _takes_none(bound, where, names)
    call = _caller(bound, signature)
    return Handler(role, where, signature.event_types, call, takes_missing)


def _check_kind(role: Role, member: Any, where: str) -> None:
    if role is Role.CREATE:
        if inspect.isfunction(member):
            raise RegistrationError(
                f"{where} makes an aggregate where there is none: decorate it with @classmethod"
            )
    elif role is Role.EVOLVE:
        if isinstance(member, classmethod):
            raise RegistrationError(
                f"{where} takes the state and the event: decorate it with @staticmethod"
            )
    elif not inspect.isfunction(member):
        raise RegistrationError(
            f"{where} needs an aggregate to work on: make it a method, without a decorator"
        )


def _expect_state(evolve: Callable[..., Any], where: str) -> None:
    if len(inspect.signature(evolve).parameters) == 1:
        raise RegistrationError(
            f"{where} takes no state: it takes the state, None where there is none yet if that is"
            " annotated, and then the event's data, as in evolve(state, event)"
        )


def _maker(create: Callable[..., Any], signature: HandlerSignature) -> _Call:
    if signature.wants_envelope:
        return lambda _, event: create(event.data, event)
    return lambda _, event: create(event.data)


def _caller(function: Callable[..., Any], signature: HandlerSignature) -> _Call:
    if signature.wants_envelope:
        return lambda state, event: function(state, event.data, event)
    return lambda state, event: function(state, event.data)


def _takes_none(evolve: Callable[..., Any], where: str, names: Mapping[str, Any]) -> bool:
    state = next(iter(inspect.signature(evolve).parameters))
    hints = resolve(evolve, iter((state,)), where, names)
    return NoneType in get_args(hints.get(state))
