"""What a store is told when it is opened."""

from typing import Any, Literal, TypeAlias, get_args

import attrs

from flowstore.codec import EventRegistry
from flowstore.errors import SchemaError
from flowstore.projections import Projections
from flowstore.store._document_types import DocumentTypes
from flowstore.store._names import check_schema_name
from flowstore.store._schema import AutoCreate

__all__ = ["StoreOptions"]

StreamIdentity: TypeAlias = Literal["uuid", "string"]
Tenancy: TypeAlias = Literal["single", "conjoined"]


def _check_name(_: "StoreOptions", __: Any, schema: str) -> None:
    check_schema_name(schema)


def _one_of(kind: Any) -> Any:
    choices: tuple[str, ...] = get_args(kind)

    def check(_: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value not in choices:
            raise SchemaError(
                f"{attribute.name}={value!r} isn't an option: choose one of"
                f" {', '.join(map(repr, choices))}"
            )

    return check


@attrs.define(kw_only=True)
class StoreOptions:
    """Say how a store keeps its events and documents. Set it up before the store is opened.

    Attributes:
        schema: the PostgreSQL schema that holds everything; any name of up to 63 bytes. Several
            stores can live in one database, each in a schema of its own.
        stream_identity: what streams are known by: "uuid" or "string". Stays with the schema.
        tenancy: "single", or "conjoined": tenants share the tables, and a session sees only the
            streams and documents of its tenant.
        auto_create: what opening may create: "all" and "create_or_update" everything that is
            missing, "create_only" nothing in a schema that exists except tables of new document
            types, "none" nothing.
        mandatory_stream_types: refuse streams that are begun without a stream type.
        events: the event types, and what is recorded of events.
        projections: the rules from events to documents.
        documents: the document types.

    Raises:
        SchemaError: a value isn't possible.
    """

    schema: str = attrs.field(default="flowstore", validator=_check_name)
    stream_identity: StreamIdentity = attrs.field(default="uuid", validator=_one_of(StreamIdentity))
    tenancy: Tenancy = attrs.field(default="single", validator=_one_of(Tenancy))
    auto_create: AutoCreate = attrs.field(default="all", validator=_one_of(AutoCreate))
    mandatory_stream_types: bool = False
    events: EventRegistry = attrs.field(factory=EventRegistry)
    projections: Projections = attrs.field(factory=Projections)
    documents: DocumentTypes = attrs.field(factory=DocumentTypes)
