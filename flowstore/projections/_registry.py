"""Telling a store its projections."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from flowstore.events import Event
from flowstore.projections._across_streams import (
    AcrossStreamsProjection,
    across_streams_projection,
)
from flowstore.projections._aggregate_projection import AggregateProjection, aggregate_projection
from flowstore.projections._checks import check_members
from flowstore.projections._composite import Composite
from flowstore.projections._options import AsyncOptions, Lifecycle
from flowstore.projections._process import EventProcess, event_process
from flowstore.projections._protocols import IProjection, ProjectionSession
from flowstore.projections._registered import RegisteredProjections
from flowstore.projections._subscription import Subscription, subscription
from flowstore.projections._transform import TransformProjection, transform_projection

__all__ = ["Projections"]


class Projections(RegisteredProjections):
    """Keep a store's projections, in the order of their registration.

    What is wrong with one is found here, when it is registered, not when its first event comes.
    """

    def aggregate_streams_with(
        self,
        aggregate: type,
        *,
        lifecycle: Lifecycle = Lifecycle.ASYNC,
        name: str | None = None,
        version: int = 1,
        enrich: Callable[[ProjectionSession, list[Event]], Any] | None = None,
        async_options: AsyncOptions | None = None,
    ) -> AggregateProjection:
        """Keep one document of a class for each stream, folded from its events.

        Args:
            aggregate: the class, with methods named `apply*`, `create*` and `should_delete*`.
            lifecycle: when documents follow events.
            name: the projection's name; None takes the class' name.
            version: of the rule, from 1; raising it gives documents and progress of their own.
            enrich: called once a batch with session and events; may return the same events with
                changed data. Not for live aggregates.
            async_options: how it runs in the daemon.

        Returns:
            The projection.

        Raises:
            RegistrationError: the class can't be folded; the message names class and method. Or
                name or class is registered already.
        """
        projection = aggregate_projection(
            aggregate, name=name, version=version, enrich=enrich, async_options=async_options
        )
        self._register(projection, lifecycle)
        self._rules[aggregate] = projection.rule
        return projection

    def aggregate_across_streams(
        self,
        aggregate: type,
        *,
        group_by: Mapping[type, Callable[..., Any]],
        fan_out: Mapping[type, Callable[..., Any]] | None = None,
        enrich: Callable[[ProjectionSession, list[Event]], Any] | None = None,
        lifecycle: Lifecycle = Lifecycle.ASYNC,
        name: str | None = None,
        version: int = 1,
        async_options: AsyncOptions | None = None,
    ) -> AcrossStreamsProjection:
        """Keep one document of a class for each key, folded from events of many streams.

        Args:
            aggregate: the class, with methods named `apply*`, `create*` and `should_delete*`; its
                `id` holds the key.
            group_by: by event type, what gives an event's key, its several keys, or None. A
                function's parameter gets the envelope if annotated `Event`, the data if annotated
                with the event's type, and without annotation the data's attributes and, behind
                them, the envelope's. It may be async, with a parameter named `session`.
            fan_out: by event type, what gives the data of child events, which follow their parent.
            enrich: called once a batch with session and events; may return changed events.
            lifecycle: when documents follow events; inline or async.
            name: the projection's name; None takes the class' name.
            version: of the rule, from 1; raising it gives documents and progress of their own.
            async_options: how it runs in the daemon.

        Returns:
            The projection.

        Raises:
            RegistrationError: the class can't be folded; an event type is handled but not grouped,
                or the reverse; or name or class is registered already.
        """
        projection = across_streams_projection(
            aggregate,
            group_by=group_by,
            fan_out=fan_out,
            enrich=enrich,
            name=name,
            version=version,
            async_options=async_options,
        )
        self._register(projection, lifecycle)
        return projection

    def subscribe(
        self,
        name: str,
        receive: Callable[[ProjectionSession, list[Event]], Any],
        *,
        consumes: Collection[type] = (),
        version: int = 1,
        async_options: AsyncOptions | None = None,
    ) -> Subscription:
        """Hand the events to a function, page by page in the order of their sequence.

        What it queues on the session is committed with the progress; whatever else it does may
        happen again after a failure. An exception holds the shard before the event.

        Args:
            name: the subscription's name.
            receive: takes session and events; plain or async.
            consumes: the event types it wants; empty means all of them.
            version: from 1; raising it begins again at the beginning.
            async_options: how it runs in the daemon; events are never set aside.

        Returns:
            The projection that does this.

        Raises:
            RegistrationError: `receive` isn't such a function, or the name is registered already.
        """
        projection = subscription(
            name, receive, consumes=consumes, version=version, async_options=async_options
        )
        self.add(projection)
        return projection

    def process(
        self,
        name: str,
        rule: Callable[[AsyncIterator[Event]], AsyncIterator[Any]],
        *,
        produces: type,
        consumes: Collection[type] = (),
        window: timedelta | None = None,
        version: int = 1,
        async_options: AsyncOptions | None = None,
    ) -> EventProcess:
        """Run a rule with a memory over the events, and keep the documents that it yields.

        Args:
            name: the process' name.
            rule: an async generator function of the events, in the order of their sequence; it
                yields documents, and waits for nothing but events. What it remembers is in its
                local variables, which a restart brings back by letting it see the events again.
            produces: the class of the documents. They are stored once; their ids should come of
                the events, so that a rebuild stores them under the same.
            consumes: the event types it sees; empty means all of them.
            window: how far back an event can matter to a later one, by their timestamps, so that
                a restart reads no further; None: for ever, and a restart reads from the beginning.
            version: of the rule, from 1; raising it gives documents and progress of their own.
            async_options: how it runs in the daemon; events are never set aside.

        Returns:
            The projection that does this.

        Raises:
            RegistrationError: the rule is no such function, or name or document type is
                registered already.
        """
        projection = event_process(
            name,
            rule,
            produces=produces,
            consumes=consumes,
            window=window,
            version=version,
            async_options=async_options,
        )
        self.add(projection)
        return projection

    def transform(
        self,
        source: Any,
        *,
        lifecycle: Lifecycle = Lifecycle.ASYNC,
        name: str | None = None,
        version: int = 1,
        async_options: AsyncOptions | None = None,
    ) -> TransformProjection:
        """Turn each event of some types into one document, or none.

        Args:
            source: an annotated function, or a class with methods named `transform*`.
            lifecycle: when documents follow events; inline or async.
            name: the projection's name; None takes the function's or class' name.
            version: of the rule, from 1; raising it gives documents and progress of their own.
            async_options: how it runs in the daemon.

        Returns:
            The projection.

        Raises:
            RegistrationError: an annotation is missing or wrong, or name or document type is
                registered already.
        """
        projection = transform_projection(
            source, name=name, version=version, async_options=async_options
        )
        self._register(projection, lifecycle)
        return projection

    def add(self, projection: IProjection, *, lifecycle: Lifecycle = Lifecycle.ASYNC) -> None:
        """Register any projection.

        Args:
            projection: an object with the members of `IProjection`.
            lifecycle: when it follows events; inline or async.

        Raises:
            RegistrationError: a member is missing or wrong, or its name or document type is
                registered already.
        """
        check_members(projection)
        if isinstance(projection, Composite):
            projection.check()
        self._register(projection, lifecycle)
        if isinstance(projection, AggregateProjection):
            self._rules.setdefault(projection.rule.document_type, projection.rule)
