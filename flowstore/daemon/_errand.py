"""What a rebuild's worker process is told, and what it tells: values that can be pickled.

A class or function is sent as the name that it is imported by. `__main__` is never run again for that,
as a program that doesn't look whether it is the program would begin its work anew.
"""

import io
import pickle
from collections.abc import Sequence
from types import FunctionType
from typing import Any, Final, Literal, cast

import attrs

from flowstore.codec import EventRegistry
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._settings import DaemonSettings
from flowstore.errors import FlowstoreError, RegistrationError
from flowstore.projections import IProjection
from flowstore.store import DocumentType, DocumentTypes, Shadow, ShadowPart, StoreOptions

__all__ = ["Done", "Errand", "Failed", "Logged", "Moved", "News", "UnsendableError", "errand_for"]

_PROTOCOL: Final = pickle.HIGHEST_PROTOCOL


class UnsendableError(FlowstoreError):
    """A worker process can't be told what it needs to know."""


@attrs.frozen
class Errand:
    """Tell a worker what to do.

    Attributes:
        dsn: where the database is; may hold a password.
        schema: the store's.
        stream_identity: the store's.
        tenancy: the store's.
        events: how the events that the projection consumes are read.
        projection: what is rebuilt.
        kinds: how its documents are kept.
        settings: the daemon's.
        part: what is to be filled.
        ceiling: up to where; inclusive.
    """

    dsn: str = attrs.field(repr=False)
    schema: str
    stream_identity: Literal["uuid", "string"]
    tenancy: Literal["single", "conjoined"]
    events: EventRegistry
    projection: IProjection
    kinds: Sequence[DocumentType]
    settings: DaemonSettings
    part: ShadowPart
    ceiling: int

    def options(self) -> StoreOptions:
        """Make the options that a worker opens the store with: it creates nothing."""
        return StoreOptions(
            schema=self.schema,
            stream_identity=self.stream_identity,
            tenancy=self.tenancy,
            auto_create="none",
            events=self.events,
            documents=DocumentTypes.of(self.kinds),
        )

    def packed(self) -> bytes:
        """Write it down for another process.

        Raises:
            UnsendableError: it names something that can't be imported there; the message says what.
        """
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, _PROTOCOL).dump(self)
        except UnsendableError:
            raise
        except Exception as error:
            raise UnsendableError(
                f"{type(error).__name__}: {error}; define what it names at the top of a module that"
                " can be imported"
            ) from error
        return buffer.getvalue()


def errand_for(
    store: DaemonStore,
    shadow: Shadow,
    settings: DaemonSettings,
    *,
    part: ShadowPart,
    ceiling: int,
) -> Errand:
    """Put together what a worker has to know.

    Raises:
        UnsendableError: the store's converter can't be sent.
    """
    options = store.options
    try:
        events = options.events.only(*shadow.projection.consumes)
    except RegistrationError as error:
        raise UnsendableError(str(error)) from error
    return Errand(
        dsn=store.dsn,
        schema=options.schema,
        stream_identity=options.stream_identity,
        tenancy=options.tenancy,
        events=events,
        projection=shadow.projection,
        kinds=shadow.places.kinds,
        settings=settings,
        part=part,
        ceiling=ceiling,
    )


class _Pickler(pickle.Pickler):
    """Pickle by name, and say of what can't be imported by its name what it is."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)):
            named = cast("type[Any] | FunctionType", obj)
            what = "class" if isinstance(obj, type) else "function"
            name = f"{named.__module__}.{named.__qualname__}"
            if named.__module__ == "__main__":
                raise UnsendableError(
                    f"{what} {name} is defined in the program itself, which a worker process doesn't"
                    " run again: define it in a module that the program imports"
                )
            if "<" in named.__qualname__:
                raise UnsendableError(
                    f"{what} {name} is defined inside of a function, where a worker process can't"
                    " find it: define it at the top of a module"
                )
        return NotImplemented


# -- what it tells ---------------------------------------------------------------------------------


@attrs.frozen
class Moved:
    """Tell how far it has come, and why it doesn't move, empty while it does."""

    progress: int
    reason: str = ""


@attrs.frozen
class Logged:
    """Hand over what was logged."""

    level: int
    text: str


@attrs.frozen
class Failed:
    """Tell why it has ended before its ceiling.

    Attributes:
        kind: "event": an event can't be applied; "conflict": another rebuild has begun; "refused":
            the projection does what no shadow can take in; "unsent": something that it needs can't be
            imported; "other": anything else.
        sequence: the event's place.
        error: the error's type, and its message.
        pickled: the error itself; None if it can't be sent.
        trace: where it was raised, in the worker.
    """

    kind: Literal["event", "conflict", "refused", "unsent", "other"]
    sequence: int
    error: str
    pickled: bytes | None = attrs.field(repr=False)
    trace: str = attrs.field(repr=False)


@attrs.frozen
class Done:
    """Tell that it has come to its ceiling."""


News = Moved | Logged | Failed | Done
