"""The one use case: authenticate, authorize, read the store, audit, answer."""
