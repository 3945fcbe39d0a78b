"""Running several projections over events that are read and committed once."""

from collections.abc import Sequence
from typing import Any, Self, cast

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import EventStream
from flowstore.projections._aggregate_projection import aggregate_projection
from flowstore.projections._checks import check_members
from flowstore.projections._options import AsyncOptions
from flowstore.projections._process import EventProcess
from flowstore.projections._protocols import IProjection, ProjectionSession, apply_projection
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._subscription import Subscription

__all__ = ["Composite", "members_of", "produced_by"]


@attrs.define(eq=False)
class Composite:
    """Run projections in stages, over the same events and in the same transaction.

    The events are read once, and all effects are committed once, with one progress. What a stage
    has queued, its successors see when they load. Say the stages by `stage`, then register it by
    `projections.add`; its members are not registered by themselves.

    Attributes:
        name: the name that progress, status and dead letters of all members go by.
        version: of the whole, from 1; raising it begins again at the beginning. Documents follow
            the version of the member that produces them.
        async_options: how it runs in the daemon; those of the members are left aside.
    """

    name: str = attrs.field(validator=check_name)
    version: int = attrs.field(kw_only=True, default=1, validator=check_version)
    async_options: AsyncOptions = attrs.field(kw_only=True, factory=AsyncOptions)
    _stages: list[tuple[IProjection, ...]] = attrs.field(
        init=False, repr=False, factory=list[tuple[IProjection, ...]]
    )
    _is_sealed: bool = attrs.field(init=False, repr=False, default=False)

    @property
    def consumes(self) -> tuple[type, ...]:
        """The event types that any member consumes; empty if one consumes all."""
        wanted = [tuple(member.consumes) for member in self.members]
        if not all(wanted):
            return ()
        return tuple(dict.fromkeys(kind for kinds in wanted for kind in kinds))

    @property
    def produces(self) -> None:
        """No document type by itself; see the members'."""
        return

    @property
    def members(self) -> tuple[IProjection, ...]:
        """The projections, stage by stage."""
        return tuple(member for stage in self._stages for member in stage)

    def stage(self, *projections: IProjection | type) -> Self:
        """Add a stage, which runs after those before it.

        Args:
            *projections: at least one; a class stands for the aggregate that it is.

        Returns:
            This composite.

        Raises:
            RegistrationError: something is no projection, can't be part of a composite, or is
                there already by name or document type.
        """
        where = f"composite {self.name!r}, stage {len(self._stages) + 1}"
        if self._is_sealed:
            raise RegistrationError(
                f"{where} comes too late: the composite is registered already; say every .stage"
                " before that"
            )
        if not projections:
            raise RegistrationError(f"{where} is empty: name at least one projection")
        members = tuple(_member(given, where) for given in projections)
        _check_apart((*self.members, *members), where)
        self._stages.append(members)
        return self

    def check(self) -> None:
        """Refuse a composite of nothing.

        Raises:
            RegistrationError: it has no stages.
        """
        if not self._stages:
            raise RegistrationError(
                f"composite {self.name!r} has no stages: say .stage(projection, ...) before it is"
                " registered"
            )

    def seal(self) -> None:
        """Take no more stages: what it does and consumes is settled once it is registered."""
        self._is_sealed = True

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Run every member over the events that it consumes, one after the other."""
        for member in self.members:
            wanted = _wanted(streams, frozenset(member.consumes))
            if wanted:
                await apply_projection(member, session, wanted)

    async def teardown(self, session: ProjectionSession) -> None:
        """Let every member delete what it alone knows of; documents are the store's to delete."""
        for member in self.members:
            own: Any = getattr(member, "teardown", None)
            if own is not None:
                await own(session)


def members_of(projection: IProjection) -> tuple[IProjection, ...]:
    """List the projections that do the work: a composite's members, or the projection itself."""
    return projection.members if isinstance(projection, Composite) else (projection,)


def produced_by(projection: IProjection) -> dict[type, int]:
    """List the document types that a projection, or its members, produce, with their versions."""
    return {
        member.produces: getattr(member, "version", 1)
        for member in members_of(projection)
        if member.produces is not None
    }


def _member(given: Any, where: str) -> IProjection:
    if isinstance(given, type) and not hasattr(given, "consumes"):
        return aggregate_projection(cast("type[Any]", given))
    check_members(given)
    projection = cast("IProjection", given)
    if isinstance(projection, (Composite, EventProcess, Subscription)):
        raise RegistrationError(
            f"{where} has {projection.name!r}, which is of kind {type(projection).__name__}: register"
            " it by itself, with progress and failures of its own"
        )
    return projection


def _check_apart(members: Sequence[IProjection], where: str) -> None:
    for place, member in enumerate(members):
        for other in members[:place]:
            if member.name == other.name:
                raise RegistrationError(
                    f"{where} has {member.name!r}, which is there already: give one of them"
                    " another name"
                )
            if member.produces is not None and member.produces is other.produces:
                raise RegistrationError(
                    f"{where} has {member.name!r}, which produces"
                    f" {member.produces.__qualname__} as {other.name!r} does: let it produce a"
                    " class of its own"
                )


def _wanted(streams: Sequence[EventStream], types: frozenset[type]) -> Sequence[EventStream]:
    if not types:
        return streams
    left = (
        EventStream(stream.id, [event for event in stream.events if type(event.data) in types])
        for stream in streams
    )
    # What comes first of a stream decides its place, and may have been left out.
    return sorted((stream for stream in left if stream.events), key=_first_sequence)


def _first_sequence(stream: EventStream) -> int:
    return stream.events[0].sequence
