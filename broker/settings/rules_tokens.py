"""Contradictions in what the configuration says about scoped tokens [pure].

Duty: lives, grace and paths against each other and against credentials' paths.
Rules: as in ``rules``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.settings.domain import Settings
from broker.settings.findings import Finding

LONGEST: Final = 86400.0
"""Seconds: ``access.tokens.model.LONGEST_LIFE``, which a test compares."""
LEAST_GRACE: Final = 3.0
"""Seconds: with less, one slow answer of Vault refuses every token."""


def token_rules(settings: Settings) -> Iterator[Finding]:
    """Yield every finding about scoped tokens."""
    tokens, at = settings.tokens, ("tokens",)
    if tokens.life < 1:
        yield Finding((*at, "life"), "leaves no time to use a token", "Write 15m.")
    if tokens.max_life > LONGEST:
        yield Finding(
            (*at, "max_life"),
            "is longer than a day: a stolen token would be good as long",
            "Write 24h at most, and let agents ask again.",
        )
    if tokens.max_life < tokens.life:
        yield Finding(
            (*at, "max_life"),
            "is shorter than life, which tokens get without asking",
            "Make max_life as long as life, or life shorter.",
        )
    if tokens.store != "shared":
        if tokens.path:
            yield Finding(
                (*at, "path"),
                f"has no effect: tokens.store is {tokens.store}",
                "Set tokens.store: shared, or remove path.",
                fatal=False,
            )
        return
    if tokens.revocation_grace < LEAST_GRACE:
        yield Finding(
            (*at, "revocation_grace"),
            "is so short that one slow answer of Vault refuses every scoped token",
            f"Write {LEAST_GRACE:g}s or more; 10s does.",
        )
    if not tokens.path:
        yield Finding(
            (*at, "path"),
            "is missing: key and revocations of an installation need a place of their own",
            "Write a path that no other installation uses: broker/prod-eu/tokens.",
        )
        return
    yield from _paths(settings)


def _paths(settings: Settings) -> Iterator[Finding]:
    """No credential may be read from, nor a rotation keep its state, where the key is."""
    tokens = settings.tokens
    own = f"{tokens.mount}/{tokens.path}/"
    for name, one in settings.credentials.items():
        source = one.source
        if source.kind == "kv" and f"{source.mount}/{source.path}/".startswith(own):
            yield Finding(
                ("credentials", name, "source", "path"),
                "lies where scoped tokens have their key: it would hand out the key",
                "Keep tokens.path for tokens alone.",
            )
    state = settings.rotation.state
    rotations = f"{state.mount}/{state.prefix}/rotation/"
    if settings.rotation.mode != "off" and own.startswith(rotations):
        yield Finding(
            ("tokens", "path"),
            "lies where rotations keep their state",
            "Take another path: broker/prod-eu/tokens.",
        )
