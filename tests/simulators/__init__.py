"""Simulators of our own ports. Each is held to the contract suite in ``tests/contract``."""
