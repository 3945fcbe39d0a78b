"""Events and documents as JSON: which types there are, what they are called, how they are read."""

from flowstore.codec._converter import make_converter
from flowstore.codec._documents import DocumentCodec
from flowstore.codec._events import EventCodec
from flowstore.codec._json import EncodingLimits
from flowstore.codec._keys import stored_keys
from flowstore.codec._metadata import EventMetadata
from flowstore.codec._registry import EventRegistry, Reading, Upcaster, stored_name_of

__all__ = [
    "DocumentCodec",
    "EncodingLimits",
    "EventCodec",
    "EventMetadata",
    "EventRegistry",
    "Reading",
    "Upcaster",
    "make_converter",
    "stored_keys",
    "stored_name_of",
]
