"""What a scoped token says, and what may be asked for [pure].

Duty: claims; a wish read from JSON; how a wish becomes claims, alone or below a parent; which
tokens a revocation means.
Not its duty: the token's text (``protocol.token_format``), deciding by policy (``minting``).
Rules:

* a child names nothing its parent does not, speaks for the same subject and caller, and ends
  no later;
* no token lives for ever: every life has an end before ``LONGEST_LIFE``;
* a token carries its line of ancestors and the credentials of the first of them, so that who
  sees it alone can tell whether a revocation of any of them reaches it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from broker.access.principal import Grant
from broker.errors import CredentialUnknown, InsufficientScope, RequestMalformed
from broker.protocol.scopes import includes, tool_scope

LONGEST_LIFE: Final = 86400.0
"""Seconds that no token outlives, whatever is configured: so long a revocation is kept."""
GENERATIONS: Final = 8
"""Ancestors a token may have."""
NAMES: Final = 64
"""Tools, and credentials, that one token may name; globs are for more."""
CHARACTERS: Final = 128
"""Longest subject, name or glob."""
AUDIENCE_CHARACTERS: Final = 512
BYTES: Final = 2048
"""Of all the texts together as JSON, so that a signed token fits into a header."""

By: TypeAlias = Literal["id", "subject", "caller", "credential", "parent", "all"]
BY: Final[tuple[By, ...]] = get_args(By)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, with what is needed to revoke it."""

    grant: Grant
    ancestors: tuple[str, ...] = ()
    """Ids, the first one first; the last is the parent."""
    first_credentials: tuple[str, ...] = ()
    """Credentials of the first ancestor: none of the line has more."""
    sequence: int = 0
    """The newest revocation that was known when it was minted; older ones do not mean it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, understood but not decided."""

    subject: str
    tools: tuple[str, ...]
    credentials: tuple[str, ...] = ()
    audience: str = ""
    life: float | None = None
    """Seconds; None: the configured default."""
    caller: str = ""
    """Whom it is for; empty: who asks."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which tokens to revoke."""

    by: By
    value: str = ""
    """Empty for ``all``."""


def read_wish(said: Mapping[str, Any]) -> Wish:
    """Read the body of ``POST /v1/tokens``.

    Raises:
        RequestMalformed: a member that is unknown, missing, of another kind, or too long.
    """
    known = {"subject", "tools", "credentials", "audience", "expires_in", "caller"}
    if not said.keys() <= known:
        raise RequestMalformed(f"A token is asked for with {', '.join(sorted(known))} only.")
    wish = Wish(
        subject=_text(said, "subject"),
        tools=_texts(said, "tools"),
        credentials=_texts(said, "credentials") if "credentials" in said else (),
        audience=_audience(said.get("audience")),
        life=_life(said.get("expires_in")),
        caller=_text(said, "caller") if "caller" in said else "",
    )
    if not wish.tools:
        raise RequestMalformed("A token names at least one tool.")
    texts = (wish.subject, wish.audience, *wish.tools, *wish.credentials)
    if len(json.dumps(texts, ensure_ascii=False).encode()) > BYTES:
        raise RequestMalformed(f"All names of a token together have at most {BYTES} bytes.")
    return wish


def read_target(said: Mapping[str, Any]) -> Target:
    """Read the body of ``POST /v1/tokens/revoke``: ``{"subject": "alice"}``, ``{"all": true}``.

    Raises:
        RequestMalformed: it is something else.
    """
    how = 'Say what to revoke: one of id, subject, caller, credential, parent, or {"all": true}.'
    if len(said) != 1:
        raise RequestMalformed(how)
    by = next((one for one in BY if one in said), None)
    if by is None or (by == "all" and said["all"] is not True):
        raise RequestMalformed(how)
    return Target("all") if by == "all" else Target(by, _text(said, by))


def claims_of(
    wish: Wish,
    parent: Claims | None,
    *,
    token_id: str,
    caller: str,
    wall: float,
    life: float,
    sequence: int,
) -> Claims:
    """The claims of a new token.

    Args:
        wish: what is asked for; decided by policy already.
        parent: the token it is minted from.
        token_id: of the new one.
        caller: the client that may use it.
        wall: Unix time now.
        life: seconds, capped already.
        sequence: the newest revocation that is known.

    Raises:
        InsufficientScope, CredentialUnknown: the parent does not cover it.
        RequestMalformed: another subject than the parent's, or too long a line.
    """
    issued_at = int(wall * 1000) / 1000
    expires_at = int((wall + life) * 1000) / 1000
    ancestors: tuple[str, ...] = ()
    first = wish.credentials
    if parent is not None:
        _within(wish, parent.grant)
        ancestors = (*parent.ancestors, parent.grant.id)
        if len(ancestors) > GENERATIONS:
            raise RequestMalformed(f"A token has at most {GENERATIONS} ancestors.")
        expires_at = min(expires_at, parent.grant.expires_at)
        first = parent.first_credentials
    grant = Grant(
        id=token_id,
        subject=wish.subject,
        caller=caller,
        audience=wish.audience if parent is None else wish.audience or parent.grant.audience,
        tools=wish.tools,
        credentials=wish.credentials,
        issued_at=issued_at,
        expires_at=expires_at,
        parent=ancestors[-1] if ancestors else "",
    )
    return Claims(grant, ancestors, first, sequence)


def _within(wish: Wish, parent: Grant) -> None:
    if wish.subject != parent.subject:
        raise RequestMalformed("A token minted from another speaks for the same subject.")
    if parent.audience and wish.audience not in {"", parent.audience}:
        raise RequestMalformed("A token minted from another has the same audience.")
    require_tools(wish.tools, parent.tools)
    for name in wish.credentials:
        if name not in parent.credentials:
            raise CredentialUnknown(reason="not_in_token")


def require_tools(asked: Iterable[str], held: Iterable[str]) -> None:
    """See that everything asked for is within what is held.

    Raises:
        InsufficientScope: names what is missing.
    """
    held = tuple(held)
    missing = [one for one in asked if not any(includes(pattern, one) for pattern in held)]
    if missing:
        raise InsufficientScope(
            "This is more than may be passed on.",
            scope=" ".join(map(tool_scope, missing)),
            reason="tool_not_held",
        )


def names(target: Target, claims: Claims) -> bool:
    """Whether a revocation means this token, the cascade to children included.

    All of a line have one subject and caller, and no more credentials than the first of it:
    so what reaches an ancestor by any of these reaches the token.
    """
    grant = claims.grant
    if target.by == "all":
        return True
    if target.by == "id":
        return target.value == grant.id or target.value in claims.ancestors
    if target.by == "parent":
        return target.value in claims.ancestors
    if target.by == "credential":
        return target.value in claims.first_credentials
    return target.value == (grant.subject if target.by == "subject" else grant.caller)


def _text(said: Mapping[str, Any], member: str) -> str:
    value = said.get(member)
    if not isinstance(value, str):
        raise RequestMalformed(f"{member} is a text.")
    return _short(value, member)


def _short(value: str, member: str) -> str:
    if not 0 < len(value) <= CHARACTERS or not value.isprintable():
        raise RequestMalformed(f"{member} has 1 to {CHARACTERS} printable characters.")
    return value


def _texts(said: Mapping[str, Any], member: str) -> tuple[str, ...]:
    values = said.get(member)
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise RequestMalformed(f"{member} is a list of texts.")
    unique = tuple(dict.fromkeys(values))
    if len(unique) > NAMES:
        raise RequestMalformed(f"A token names at most {NAMES} {member}; write globs for more.")
    return tuple(_short(one, member) for one in unique)


def _audience(value: Any) -> str:
    """RFC 8707: an absolute URI without a fragment."""
    if value is None:
        return ""
    wrong = RequestMalformed(
        f"audience is an absolute URI without a fragment, of at most {AUDIENCE_CHARACTERS} "
        "characters."
    )
    if not isinstance(value, str) or len(value) > AUDIENCE_CHARACTERS:
        raise wrong
    try:
        parts = urlsplit(value)
    except ValueError:
        raise wrong from None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise wrong
    if not parts.scheme or not (parts.netloc or parts.path) or "#" in value:
        raise wrong
    return value


def _life(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise RequestMalformed("expires_in is a number of seconds, 1 or more.")
    return float(min(value, LONGEST_LIFE))  # in this order: a whole number may be too long
