"""The configuration in three steps: load, schema, domain."""
