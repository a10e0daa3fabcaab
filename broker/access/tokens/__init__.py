"""Scoped tokens: short-lived, for one subject, some tools and some credentials."""
