"""What a store without a database refuses."""

from flowstore.errors import FlowstoreError

__all__ = ["NotInMemoryError"]


class NotInMemoryError(FlowstoreError):
    """Something was asked for that only a store on a database can do."""
