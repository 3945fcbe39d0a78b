"""The trace that an application is in, where it uses OpenTelemetry."""

from importlib import import_module
from typing import Any

__all__ = ["active_trace_id"]


def _find_api() -> Any:
    # Tried, not looked for: other packages live in the namespace `opentelemetry` without its API.
    try:
        return import_module("opentelemetry.trace")
    except ImportError:
        return None


_api = _find_api()


def active_trace_id() -> str | None:
    """Give the trace id of the active span, in hexadecimal; None if there is no span."""
    if _api is None:
        return None
    context = _api.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
