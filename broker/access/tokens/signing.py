"""Signed tokens: what they say is in them, under a key that all replicas read [pure].

Duty: claims to bytes and back; the signature; the keys' document; ids that tell their owner.
Not its duty: reading keys from Vault (``documents``), what is revoked (``revocations``).
Rules:

* HMAC-SHA-256: who verifies is who signs, so a public key would add nothing, and 32 bytes fit
  in a header beside the claims;
* each use of a key has a key of its own, derived from it;
* the signature is compared, in constant time, before anything signed is read;
* a token names its key, so that keys can be replaced while tokens of the old one still live.

Source: RFC 2104 (HMAC), RFC 5869 section 3.2 (one derived key for each use).
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from broker.access.principal import Grant
from broker.access.tokens.model import Claims
from broker.errors import TokensUnavailable
from broker.protocol.token_format import content, signed
from broker.secret import SecretValue

KEY_BYTES: Final = 32
CURRENT: Final = "current"
"""Member of the keys' document that names the key to sign with; every other one is a key."""
FORM: Final = re.compile(r"[a-z0-9-]{1,16}")
KEY_CHARACTERS: Final = 43
"""Least length of a key's text: 256 bits in base64."""

_VERSION: Final = 1
_MAC: Final = 32
_TAG: Final = 8
"""Bytes of an id that prove its caller: a guess is one in 2**64, and names a token at most."""
_CHANCE: Final = 12
_END: Final = 4
_ID: Final = re.compile(r"[A-Za-z0-9_-]{32}")


class Key:
    """One signing key.

    Args:
        name: in tokens and in the document.
        secret: its text, of 256 bits or more.
    """

    __slots__ = ("_ids", "_tokens", "name")

    def __init__(self, name: str, secret: SecretValue) -> None:
        self.name = name
        master = secret.reveal().encode()
        self._tokens = hmac.digest(master, b"mcp-secrets-broker token 1", "sha256")
        self._ids = hmac.digest(master, b"mcp-secrets-broker token id 1", "sha256")

    def __repr__(self) -> str:
        return f"Key({self.name})"

    def same(self, other: Key | None) -> bool:
        """Whether ``other`` signs alike."""
        mine = self.sign(b"")
        return other is not None and hmac.compare_digest(mine, other.sign(b""))

    def sign(self, text: bytes) -> bytes:
        """The signature of a token's content."""
        return hmac.digest(self._tokens, text, "sha256")

    def tag(self, head: bytes, caller: str) -> bytes:
        """What in an id proves its caller."""
        return hmac.digest(self._ids, head + caller.encode(), "sha256")[:_TAG]


class Keys:
    """The keys of an installation as they were read.

    Args:
        data: members of the document.

    Raises:
        TokensUnavailable: it is no such document.
    """

    def __init__(self, data: Mapping[str, SecretValue]) -> None:
        current = data.get(CURRENT)
        name = "" if current is None else current.reveal()
        self._keys = {
            each: Key(each, secret)
            for each, secret in data.items()
            if each != CURRENT and FORM.fullmatch(each)
        }
        weak = [each for each in self._keys if len(data[each].reveal()) < KEY_CHARACTERS]
        if weak:
            raise TokensUnavailable(
                f"The key {weak[0]} is too short.",
                remedy=f"Write keys of {KEY_BYTES} random bytes in base64.",
            )
        if name not in self._keys:
            raise TokensUnavailable(
                "The document of signing keys does not name the current one.",
                remedy=f"Let its member '{CURRENT}' be the name of one of its keys.",
            )
        self.current = self._keys[name]

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, name: str) -> Key | None:
        """The key of this name."""
        return self._keys.get(name)

    def keep(self, before: Keys) -> bool:
        """Take over the objects of keys that are the same, so that they can be compared.

        Returns:
            Whether no key of before is gone or another one now.
        """
        kept = {name: key for name, key in before._keys.items() if key.same(self._keys.get(name))}
        self._keys.update(kept)
        self.current = self._keys[self.current.name]
        return len(kept) == len(before._keys)

    def owner(self, token_id: str, caller: str) -> bool:
        """Whether the id was made for ``caller`` under any of the keys."""
        if _ID.fullmatch(token_id) is None:
            return False
        raw = urlsafe_b64decode(token_id)
        head, tag = raw[:-_TAG], raw[-_TAG:]
        return any(hmac.compare_digest(key.tag(head, caller), tag) for key in self._keys.values())


def new_keys(name: str, chance: bytes) -> dict[str, SecretValue]:
    """The first document of keys."""
    text = urlsafe_b64encode(chance).decode("ascii")
    return {CURRENT: SecretValue(name), name: SecretValue(text)}


def new_id(key: Key, caller: str, expires_at: float, chance: bytes) -> str:
    """An id that tells its owner and its end to who has the key, and nothing to others."""
    head = chance + int(expires_at + 1).to_bytes(_END, "big")
    return urlsafe_b64encode(head + key.tag(head, caller)).decode("ascii")


def end_of(token_id: str) -> float | None:
    """Unix time by which a token of this id has ended; None when it is no id of ours."""
    if _ID.fullmatch(token_id) is None:
        return None
    return float(int.from_bytes(urlsafe_b64decode(token_id)[_CHANCE : _CHANCE + _END], "big"))


def chance_for_id() -> int:
    """Random bytes that ``new_id`` takes."""
    return _CHANCE


def encode(claims: Claims, key: Key) -> bytes:
    """The text of a token."""
    grant = claims.grant
    first = () if claims.first_credentials == grant.credentials else claims.first_credentials
    said = [
        grant.id,
        grant.subject,
        grant.caller,
        grant.audience,
        grant.tools,
        grant.credentials,
        round(grant.issued_at * 1000),
        round(grant.expires_at * 1000),
        claims.ancestors,
        first,
        claims.sequence,
    ]
    name = key.name.encode("ascii")
    body = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    head = bytes((_VERSION, len(name))) + name + body
    return signed(head + key.sign(head))


def key_of(token: bytes) -> tuple[str, bytes]:
    """Which key a well-formed token names, and its content; the name is empty if it has none."""
    raw = content(token)
    if raw is None or len(raw) < 2 + _MAC or raw[0] != _VERSION:
        return "", b""
    size = raw[1]
    try:
        return raw[2 : 2 + size].decode("ascii"), raw
    except UnicodeDecodeError:
        return "", b""


def decode(raw: bytes, key: Key) -> Claims | None:
    """The claims of a token's content; None when the signature is wrong."""
    head, mac = raw[:-_MAC], raw[-_MAC:]
    if not hmac.compare_digest(key.sign(head), mac):
        return None
    # Signed by a broker of this installation, so it has this form.
    said: list[Any] = json.loads(head[2 + head[1] :])
    token_id, subject, caller, audience, tools, credentials, issued, expires, line, first, at = said
    ancestors = tuple(line)
    grant = Grant(
        id=token_id,
        subject=subject,
        caller=caller,
        audience=audience,
        tools=tuple(tools),
        credentials=tuple(credentials),
        issued_at=issued / 1000,
        expires_at=expires / 1000,
        parent=ancestors[-1] if ancestors else "",
    )
    return Claims(grant, ancestors, tuple(first) or grant.credentials, at)
