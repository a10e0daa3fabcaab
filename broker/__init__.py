"""Secrets for MCP servers on Kubernetes: a sidecar between Vault and the tools.

Map of the packages, top to bottom; a line may import what stands below it,
never up, never sideways (import-linter checks it, see ``pyproject.toml``)::

    cli            commands: parse, call, exit code
    demo           the told story on real parts (not in the image)
    app            composition root: build, named tasks, reload, stop
    api            listeners, hot path, routes, problem documents
    handout        the one use case: authenticate, authorize, read, audit, answer
    access         who is calling and what the caller may have
    credentials    what to do next and when; keepers; the store
    vault          the only way to Vault or OpenBao; login, session, generations
    audit telemetry settings
    client         for authors of MCP servers
    protocol       what client and server share
    secret clock errors
"""

__version__ = "0.1.0"
