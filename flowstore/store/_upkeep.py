"""What is done to a store as a whole, beside its sessions: bringing in, taking out, mending."""

from contextlib import aclosing
from typing import Any, get_args
from uuid import UUID

from flowstore.events import DeadLetter, StreamId
from flowstore.projections import IProjection, shard_name
from flowstore.store._amend import mask, skip
from flowstore.store._bulk import DocumentSource, OnConflict, insert_all
from flowstore.store._engine import Engine
from flowstore.store._feed import Feed
from flowstore.store._files import (
    ExportTarget,
    ImportSource,
    export_all,
    is_at_hand,
    read_parts,
)
from flowstore.store._import import import_all
from flowstore.store._options import StoreOptions
from flowstore.store._progress import discard, read_dead_letters
from flowstore.store._retry import retry
from flowstore.store._session import run_callbacks

__all__ = ["StoreUpkeep"]


class StoreUpkeep:
    """Bring events in and out of a store, and mend what went wrong.

    A face of `EventStore`, which keeps what it needs.
    """

    __slots__ = ()

    options: StoreOptions
    _engine: Engine
    _feed: Feed

    # -- in and out ------------------------------------------------------------------------------

    async def import_events(self, source: ImportSource, *, tenant_id: str | None = None) -> int:
        """Store events from elsewhere, all of them or none, in the order of their source.

        They get sequences in that order. A recorded `Event` keeps its version, which must be the
        next of its stream, its identity, its time and what was said about it; anything else gets
        the next version. Projections in the daemon read them like any others, inline ones don't
        see them: rebuild those. Streams with an `Archived` are archived. Until the end their
        streams are locked and the high-water mark is held.

        Args:
            source: pairs of a stream's identity and an event (an application's value, a
                `NewEvent`, or a recorded `Event`), plain or async; or a path to, or a text file
                of, lines as `export_events` writes them, whose types need not be known here.
            tenant_id: whose events those are that name no tenant; stores with conjoined tenancy.

        Returns:
            How many were stored.

        Raises:
            ConcurrencyError: an event isn't the next one of its stream.
            StreamArchivedError: a stream that is there already is archived.
            EventIdConflictError: an event's identity is stored already, or comes twice.
            InvalidEventError: an event or a line can't be stored.
            RegistrationError: an event type's name is another type's.
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
            OSError: the file can't be read.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        self._engine.tenant(tenant_id)
        async with aclosing(read_parts(self._engine, tenant_id, source)) as parts:
            count = await import_all(self._engine, parts, ahead=is_at_hand(source))
        if count:
            self._engine.appended()
        return count

    async def bulk_insert(
        self,
        documents: DocumentSource,
        *,
        on_conflict: OnConflict = "refuse",
        tenant_id: str | None = None,
    ) -> int:
        """Store many documents by COPY, all of them or none; they may be of several types.

        Nothing is asked of a version, also of types with optimistic concurrency. It takes the
        right to create temporary tables.

        Args:
            documents: plain or async; read as they are written.
            on_conflict: what becomes of a document that is stored already: "refuse" it, and with
                it all, "ignore" it, or "overwrite" the stored one. Of one that comes twice, the
                first is kept by "ignore", the last by "overwrite".
            tenant_id: whose documents they are; stores with conjoined tenancy.

        Returns:
            How many were written.

        Raises:
            InvalidDocumentError: a document is stored already, has no usable `id`, or can't be
                stored.
            RegistrationError: a class can't be a document.
            ValueError: an unknown `on_conflict`.
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        if on_conflict not in get_args(OnConflict):
            raise ValueError(
                f"on_conflict={on_conflict!r} isn't possible: choose one of"
                f" {', '.join(map(repr, get_args(OnConflict)))}"
            )
        return await self._insert_all(self._engine.tenant(tenant_id), documents, on_conflict)

    async def export_events(self, target: ExportTarget) -> int:
        """Write every event below the high-water mark as a line of JSON, in sequence order.

        Archived and skipped ones too, of all tenants, as they are stored: their types need not
        be known.

        Args:
            target: a path, whose file is replaced, or an open text file.

        Returns:
            How many were written.

        Raises:
            OSError: the file can't be written.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        mark = await self._feed.high_water(0.0)
        return await export_all(self._engine, target, mark)

    # -- mending ---------------------------------------------------------------------------------

    async def mask_stream(self, stream_id: StreamId, *, tenant_id: str | None = None) -> int:
        """Take personal data out of a stream's events, for good, by the rules of the options.

        Archived and skipped events too. Each rule of `options.events.mask` runs on each event of
        its type; events that no rule changes stay as they are. Documents made of the events stay
        as well: rebuild their projections. Appending to the stream waits meanwhile.

        Args:
            stream_id: the stream's identity; one that doesn't exist has nothing to mask.
            tenant_id: whose stream it is; stores with conjoined tenancy only.

        Returns:
            How many events were changed.

        Raises:
            UnknownEventTypeError: an event's stored type is not known; nothing was changed.
            InvalidEventError: stored or masked data doesn't fit; nothing was changed.
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        checked = self._engine.checked_stream(stream_id)
        return await mask(self._engine, self._engine.tenant(tenant_id), checked)

    async def skip_event(self, event_id: UUID) -> None:
        """Have projections, and live aggregation, pass an event over from now on.

        It stays in its stream and keeps its version. Documents that it was applied to stay as
        they are until their projections are rebuilt. Skipping it again changes nothing.

        Raises:
            InvalidEventError: no event is stored under the identity.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await skip(self._engine, event_id)

    # -- dead letters ----------------------------------------------------------------------------

    async def dead_letters(self, name_or_type: Any = None) -> list[DeadLetter]:
        """List the events that a projection, or any, has set aside, by shard and sequence.

        Raises:
            UnknownProjectionError: there is no such projection.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        shard = None if name_or_type is None else self._shard(name_or_type)
        return await read_dead_letters(self._engine, shard)

    async def retry_dead_letter(self, letter: DeadLetter) -> None:
        """Apply an event that was set aside to its projection, and discard the letter.

        Both in one transaction; if the projection fails again the letter stays. Later events of
        the stream may have been applied already. A letter that is gone, or whose event is to be
        skipped, applies nothing. The shard may run: it doesn't commit meanwhile, and applies a
        page that it has begun before once more, so that neither overwrites the other.

        Raises:
            UnknownProjectionError: no such projection is registered.
            InvalidEventError: the event is gone, or its data doesn't fit its type.
            UnknownEventTypeError: its stored type is not known.
            DatabaseError: PostgreSQL refused, or can't be reached.
            Exception: whatever the projection raises.
        """
        projection = self.options.projections.find(letter.shard).projection
        await run_callbacks(await retry(self._engine, projection, letter))

    async def discard_dead_letter(self, letter: DeadLetter) -> None:
        """Forget a dead letter; it may be gone already.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        await discard(self._engine, letter)

    async def _insert_all(
        self, tenant: str, documents: DocumentSource, on_conflict: OnConflict
    ) -> int:
        return await insert_all(self._engine, tenant, documents, on_conflict)

    def _shard(self, name_or_type: Any) -> str:
        if not isinstance(name_or_type, type) and isinstance(name_or_type, IProjection):
            return shard_name(name_or_type)
        return self.options.projections.find(name_or_type).shard
