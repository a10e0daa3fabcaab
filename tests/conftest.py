"""Shared fixtures. Warnings are errors (``pyproject.toml``)."""
