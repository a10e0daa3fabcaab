"""A process in the same pod that has no client token, and tries.

Duty: ask the broker for a key without proof and with a made-up one; print the answers.
Not its duty: anything useful.

Usage: ``python -m broker.demo.stranger http://127.0.0.1:PORT search-api``
"""

from __future__ import annotations

import sys

import httpx2


def main(origin: str, credential: str) -> int:
    """Try both; 0 when both were refused, 1 when the broker gave anything away."""
    refused = 0
    with httpx2.Client(base_url=origin, trust_env=False, timeout=5.0) as client:
        for proof, headers in (
            ("without a token", {}),
            ("with a made-up token", {"Authorization": "Bearer let-me-in"}),
        ):
            answer = client.get(f"/v1/credentials/{credential}", headers=headers)
            title = answer.json().get("title", "") if answer.content else ""
            print(f"{proof}: {answer.status_code} {title}")
            refused += answer.status_code == 401
    return 0 if refused == 2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
