"""Drivers: how one kind of provider mints, proves, lists and retires keys."""
