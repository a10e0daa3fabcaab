"""For authors of MCP servers: ask the broker, use the value, report a refusal."""
