"""Logs, metrics and the in-process event bus."""
