"""What a rebuild can ask of a store in memory."""

from contextlib import AbstractAsyncContextManager

import attrs

from flowstore.projections import IProjection
from flowstore.store._rebuilding import HeldReplay, Rebuilding
from flowstore.store._shadow import Shadow
from flowstore.store._shadow_unit import NoShadowError
from flowstore.store.memory._errors import NotInMemoryError

__all__ = ["MemoryRebuilding"]


@attrs.frozen(eq=False)
class MemoryRebuilding(Rebuilding):
    """Rebuild in place only: there are no shadows in memory."""

    async def open_shadow(self, projection: IProjection) -> Shadow:
        """Refuse: there are no tables to be kept beside each other.

        Raises:
            NoShadowError: always.
        """
        raise NoShadowError(projection.name, "a store in memory keeps no second view")

    async def forget_shadows(self, projection: IProjection) -> None:
        """Do nothing: no shadow can have been left."""

    def holding_appends(
        self, projection: IProjection, shadow: Shadow | None, floor: int
    ) -> AbstractAsyncContextManager[HeldReplay | None]:
        """Refuse to rebuild what runs inline.

        Raises:
            NotInMemoryError: always.
        """
        del shadow, floor
        raise NotInMemoryError(
            f"{projection.name!r} runs inline, which only a store on PostgreSQL rebuilds"
        )
