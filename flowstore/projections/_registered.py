"""The projections of a store, found by name, by document type and by class."""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

from flowstore.errors import UnknownProjectionError
from flowstore.projections._aggregate import Aggregate, aggregate_rule
from flowstore.projections._aggregate_projection import AggregateProjection
from flowstore.projections._checks import check_lifecycle, check_options
from flowstore.projections._composite import Composite, members_of, produced_by
from flowstore.projections._flat_table import FlatTable
from flowstore.projections._identities import check_identity
from flowstore.projections._options import Lifecycle
from flowstore.projections._protocols import IProjection
from flowstore.projections._registration import Registration, answers_to, check_apart
from flowstore.projections._shards import document_key, shard_name
from flowstore.projections._tables import Table

__all__ = ["RegisteredProjections"]

_T = TypeVar("_T")


class RegisteredProjections:
    """Keep projections in the order of their registration, and find them again."""

    def __init__(self) -> None:
        self._registered: list[Registration] = []
        self._rules: dict[type, Aggregate[Any]] = {}

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._registered))

    def __len__(self) -> int:
        return len(self._registered)

    def find(self, name_or_type: Any) -> Registration:
        """Find a projection.

        Args:
            name_or_type: its name or its shard's; the document type it produces; its class, or
                the function or class it was made from; or the projection itself.

        Raises:
            UnknownProjectionError: there is none; or it is a class of which there are several.
        """
        found = [item for item in self._registered if answers_to(item, name_or_type)]
        if len(found) != 1:
            raise UnknownProjectionError(
                getattr(name_or_type, "__name__", name_or_type), self.names()
            )
        return found[0]

    def names(self) -> tuple[str, ...]:
        """List the registered names, sorted."""
        return tuple(sorted(item.projection.name for item in self._registered))

    def of(self, lifecycle: Lifecycle) -> tuple[Registration, ...]:
        """List the projections of a lifecycle, in the order of their registration."""
        return tuple(item for item in self._registered if item.lifecycle is lifecycle)

    def inline(self) -> tuple[Registration, ...]:
        """List the projections that run in the transaction that appends."""
        return self.of(Lifecycle.INLINE)

    def asynchronous(self) -> tuple[Registration, ...]:
        """List the projections that the daemon runs."""
        return self.of(Lifecycle.ASYNC)

    def producing(self, document_type: type) -> Registration | None:
        """Find the projection that produces a document type; None if none does."""
        for item in self._registered:
            if document_type in produced_by(item.projection):
                return item
        return None

    def produced(self) -> dict[type, int]:
        """List the document types that projections produce, with their projection's version."""
        return {
            document_type: version
            for item in self._registered
            for document_type, version in produced_by(item.projection).items()
        }

    def tables(self) -> tuple[Table, ...]:
        """List the flat tables that projections keep."""
        members = (member for item in self._registered for member in members_of(item.projection))
        return tuple(member.table for member in members if isinstance(member, FlatTable))

    def check_stream_identity(self, stream_identity: type) -> None:
        """Refuse aggregates of one stream whose `id` can't hold a stream's identity.

        Args:
            stream_identity: what the store's streams are known by: UUID or str.

        Raises:
            RegistrationError: the message names class and field.
        """
        for item in self._registered:
            for member in members_of(item.projection):
                if isinstance(member, AggregateProjection):
                    check_identity(member, stream_identity)

    def event_types(self) -> tuple[type, ...]:
        """List the event types that any registered projection names."""
        members = (member for item in self._registered for member in members_of(item.projection))
        named = (kind for member in members for kind in member.consumes)
        return tuple(dict.fromkeys(named))

    def rule_for(self, aggregate: type[_T]) -> Aggregate[_T]:
        """Give the rule that folds a class, registered or not; built once.

        Raises:
            RegistrationError: the class can't be folded; the message names class and method.
        """
        rule = self._rules.get(aggregate)
        if rule is None:
            rule = aggregate_rule(aggregate)
            self._rules[aggregate] = rule
        return cast("Aggregate[_T]", rule)

    def _register(self, projection: IProjection, lifecycle: Lifecycle) -> None:
        check_options(projection)
        check_lifecycle(projection, lifecycle)
        new = Registration(projection, lifecycle, shard_name(projection), document_key(projection))
        for other in self._registered:
            check_apart(new, other)
        for part in (projection, *members_of(projection)):
            if isinstance(part, (Composite, FlatTable)):
                part.seal()
        self._registered.append(new)
