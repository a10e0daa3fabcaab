"""Listeners, the hot path, routes and problem documents."""
