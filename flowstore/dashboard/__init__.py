"""A web page that shows where a daemon's shards stand. Needs the extra `dashboard`."""

from flowstore.dashboard._server import DashboardError, serve_dashboard

__all__ = ["DashboardError", "serve_dashboard"]
