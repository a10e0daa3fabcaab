"""No key that was handed out reaches a log of this process.

Duty: learn every value that the client receives; have them masked in records and tracebacks.
Not its duty: finding them in a text (``protocol.redaction``); masking a record (``records``);
what an MCP server answers
(``client.mcp.masking``); texts that pass neither (call ``mask``).
Rules:

* values are learned whether or not ``install`` was called, so that the order does not matter;
* a value is masked until so many newer versions came that nobody can be using it;
* only what was handed out is masked, exactly. Patterns are the author's wish, never a guess of
  ours: a presigned URL looks like a secret and is the answer.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from broker.client import records, tracebacks
from broker.client.credential import Credential
from broker.errors import SettingsError
from broker.protocol.redaction import Redactor
from broker.secret import MASK, SecretValue

KEPT_VERSIONS: Final = 8
"""Versions of one credential that stay masked: with the usual hold, minutes at the least."""

KEPT_TOKENS: Final = 1024
"""Tokens of agents that stay masked; older ones ended or were refused long ago."""
LEARNED: Final = 1024
"""Characters of a token that are masked: without them the rest is of no use, and learning what
strangers send costs little."""


class Memory:
    """The newest versions of each credential, known to a ``Redactor``."""

    def __init__(self) -> None:
        self._redactor = Redactor()
        self._lock = threading.Lock()
        self._versions: dict[str, deque[Credential]] = {}
        self._tokens: dict[bytes, SecretValue] = {}
        self._patterns: tuple[re.Pattern[str], ...] = ()

    def mask(self, text: str) -> str:
        """Return ``text`` with every live value, and what a pattern matches, as ``***``."""
        text = self._redactor.mask(text)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def tells(self, texts: Sequence[str]) -> bool:
        """Whether ``mask`` would change one of ``texts``; quicker than trying each."""
        # No escape and no base64 goes on after a line's end, so what is found in one of them
        # is found in all together. Found across an end, it is looked for again by ``mask``.
        together = "\n".join(texts)
        return self._redactor.mask(together) != together or any(
            pattern.search(text) for pattern in self._patterns for text in texts
        )

    def add(self, patterns: Iterable[str | re.Pattern[str]]) -> None:
        """Mask what these match too, from now on.

        Raises:
            SettingsError: one is no regular expression, or matches nothing at all, everywhere.
        """
        more = []
        for number, pattern in enumerate(patterns):
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise _unusable(number, "is no regular expression") from error
            if compiled.search("") is not None:
                raise _unusable(number, "matches an empty text")
            more.append(compiled)
        with self._lock:
            self._patterns = tuple(dict.fromkeys((*self._patterns, *more)))

    def learn(self, credential: Credential) -> None:
        """Mask its values from now on, and in place of the oldest version."""
        with self._lock:
            versions = self._versions.setdefault(credential.name, deque())
            # By value too: two brokers, or a test's, may call different values the same.
            for known in versions:
                if (known.version, known.data) == (credential.version, credential.data):
                    versions.remove(known)
                    versions.append(credential)  # in use still, so it is among the newest
                    return
            versions.append(credential)
            for value in credential.data.values():
                self._redactor.learn(value)
            if len(versions) > KEPT_VERSIONS:
                for value in versions.popleft().data.values():
                    self._redactor.forget(value)

    def learn_token(self, token: SecretValue) -> None:
        """Mask a token that an agent showed, in place of the oldest."""
        text = token.reveal()
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        if len(text) > LEARNED:
            token = SecretValue(text[:LEARNED])
        with self._lock:
            if digest in self._tokens:
                return
            self._tokens[digest] = token
            self._redactor.learn(token)
            if len(self._tokens) > KEPT_TOKENS:
                self._redactor.forget(self._tokens.pop(next(iter(self._tokens))))


def _unusable(number: int, why: str) -> SettingsError:
    return SettingsError(
        f"The pattern {why}.",
        file="install()",
        key=f"patterns.{number}",
        remedy='Write an expression for the secrets that shall be masked, such as r"ghp_\\w{36}".',
    )


MEMORY: Final = Memory()
"""What this process was handed out."""
learn: Final = MEMORY.learn
"""Learn the values of a credential; the clients call it for each that arrives."""
learn_token: Final = MEMORY.learn_token
"""Learn a token that an agent showed; the guard calls it for each."""
mask: Final = MEMORY.mask
"""Return a text with every live value as ``***``."""


def install(patterns: Iterable[str | re.Pattern[str]] = ()) -> None:
    """Mask every log record and traceback of this process from now on; twice is as once.

    Args:
        patterns: regular expressions of further texts to mask; those of earlier calls stay.

    Raises:
        SettingsError: a pattern that cannot be used; then nothing has changed.
    """
    MEMORY.add(patterns)
    tracebacks.install(mask)
    records.install(mask)
