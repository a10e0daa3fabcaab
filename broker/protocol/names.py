"""Names on the wire between the broker and its clients [pure].

Duty: paths, header names, media types, environment keys, each spelled once.
Not its duty: shapes (``models``), errors (``problems``).
Rules: a name that was released is never given another meaning.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

# --- environment of a client ------------------------------------------------------

ENV_URL: Final = "BROKER_URL"
"""``http://127.0.0.1:8210`` or ``unix:///run/broker/<client>/broker.sock``."""
ENV_TOKEN_FILE: Final = "BROKER_TOKEN_FILE"
"""Path of the client-token file."""

# --- files in a client's directory --------------------------------------------------

SOCKET_FILE: Final = "broker.sock"
TOKEN_FILE: Final = "client-token"

# --- paths --------------------------------------------------------------------------

CREDENTIALS_PATH: Final = "/v1/credentials"
WHOAMI_PATH: Final = "/v1/whoami"
TOKENS_PATH: Final = "/v1/tokens"
INTROSPECT_PATH: Final = TOKENS_PATH + "/introspect"
REVOKE_PATH: Final = TOKENS_PATH + "/revoke"
DECISIONS_PATH: Final = "/v1/decisions"
EVENTS_PATH: Final = "/v1/events"
ROTATION_PATH: Final = "/v1/rotation"
STATUS_PATH: Final = "/v1/status"
QUIT_PATH: Final = "/v1/quit"
CLIENTS_PATH: Final = "/v1/clients"
REPORTS_SUFFIX: Final = "/reports"


def credential_path(name: str) -> str:
    """Path of a hand-out; ``name`` is percent-encoded as one segment."""
    return f"{CREDENTIALS_PATH}/{quote(name, safe='')}"


def reports_path(name: str) -> str:
    """Path that takes reports about the credential."""
    return credential_path(name) + REPORTS_SUFFIX


# --- headers of a request -------------------------------------------------------------

TOOL: Final = "Broker-Tool"
"""Name of the MCP tool on whose behalf the caller asks: a claim."""
SUBJECT_TOKEN: Final = "Broker-Subject-Token"
"""A scoped token; with it tool and subject are proved, not claimed."""
MCP_REQUEST_ID: Final = "Broker-Mcp-Request-Id"
"""Id of the MCP request behind this one: a claim that joins both audits."""

# --- headers of an answer ---------------------------------------------------------------

REQUEST_ID: Final = "Broker-Request-Id"
"""The broker's id of the request; stands in the audit record and in problems."""
# A 304 has no body, so what changes while the version stays the same travels here.
ISSUED_AT: Final = "Broker-Issued-At"
EXPIRES_AT: Final = "Broker-Expires-At"
EXPIRES_IN: Final = "Broker-Expires-In"
USE_UNTIL: Final = "Broker-Use-Until"
STATE: Final = "Broker-State"

# --- media types ---------------------------------------------------------------------------

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
"""RFC 9457."""
EVENT_STREAM: Final = "text/event-stream"

FORM: Final = "application/x-www-form-urlencoded"

TOKEN_ISSUER: Final = "urn:mcp-secrets-broker"
"""``iss`` of scoped tokens: the broker that the client asks, whichever it is."""
REALM: Final = "mcp-secrets-broker"
"""Realm of the bearer challenge (RFC 6750)."""

LONGEST_ASSERTED: Final = 512
"""Characters of issuer, bar and subject of who shows another issuer's token."""
