"""The ways to come by a Vault token.

Duty: one login: read the file afresh, ask Vault, judge whether the token will do.
Not its duty: when to log in, retries, the token's life (``session``).
Rules:

* the file is opened at each login: the kubelet replaces a service-account token long
  before it expires, and a path kept open would go on showing the old one;
* any refusal of a login is ``LoginFailed`` and may heal by itself: OpenBao answers 403
  for whatever goes wrong with its TokenReview;
* a token with a use limit is refused (``TokenUnfit``), not used up.

Files are read on the event loop, not in a thread: they are small (capped), and lie in
memory-backed volumes; a FIFO or a device in their place is refused, not waited for.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from broker.errors import LoginFailed, TokenFileUnusable, TokenUnfit, VaultError, VaultRefused
from broker.secret import SecretValue
from broker.vault.interface import TokenGrant, VaultPort

FILE_CAP: Final = 64 * 1024
"""Most bytes of a token file; service-account tokens have one or two thousand."""
PRINTABLE: Final = re.compile(rb"[!-~]+")
"""What may stand in a header: ASCII without white space."""


class Login(Protocol):
    """One way to come by a Vault token."""

    @property
    def own(self) -> bool:
        """Whether the broker is the token's owner, and so may revoke it."""
        ...

    async def login(self) -> TokenGrant:
        """One attempt.

        Raises:
            TokenFileUnusable: the file is missing, empty, unreadable or no token.
            LoginFailed: Vault refused.
            TokenUnfit: the token has a use limit.
            VaultUnavailable: Vault could not answer.
        """
        ...

    def changed(self) -> bool:
        """Whether another token lies ready than the one the last login brought."""
        ...


class KubernetesLogin:
    """The kubernetes auth method: the pod's service-account token for a Vault token.

    Args:
        port: Vault.
        mount: where the auth method is mounted.
        role: the Vault role.
        token_file: the projected service-account token.

    Source: https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login
    """

    own: Final = True

    def __init__(self, port: VaultPort, *, mount: str, role: str, token_file: str) -> None:
        self._port, self._mount, self._role = port, mount, role
        self._path = Path(token_file)

    async def login(self) -> TokenGrant:
        """See ``Login.login``."""
        jwt = read_token(self._path)
        if not _is_jwt(jwt):
            raise TokenFileUnusable(f"{self._path} holds no service-account token (JWT)")
        try:
            grant = await self._port.login_kubernetes(mount=self._mount, role=self._role, jwt=jwt)
        except VaultRefused as refusal:
            raise LoginFailed(
                f"Vault refused the login as role {self._role!r} at auth/{self._mount}: {refusal}"
            ) from refusal
        if grant.num_uses:
            if grant.kind == "service":
                with suppress(VaultError):
                    await self._port.revoke_self(grant.token)
            raise _unfit(grant.num_uses)
        return grant

    def changed(self) -> bool:
        """Never: a newer service-account token does not end the Vault token."""
        return False


class TokenFileLogin:
    """A Vault token that somebody else keeps in a file, such as Vault Agent's sink.

    Args:
        port: Vault.
        token_file: the file.
    """

    own: Final = False

    def __init__(self, port: VaultPort, *, token_file: str) -> None:
        self._port = port
        self._path = Path(token_file)
        self._last: SecretValue | None = None

    async def login(self) -> TokenGrant:
        """See ``Login.login``; here it is a look-up of the token."""
        token = read_token(self._path)
        try:
            info = await self._port.lookup_self(token)
        except VaultRefused as refusal:
            raise LoginFailed(
                f"Vault does not accept the token in {self._path}: {refusal}",
                remedy="Write a living Vault token into the file, with auth/token/lookup-self "
                "allowed (the default policy does).",
            ) from refusal
        if info.num_uses:
            raise _unfit(info.num_uses)
        self._last = token
        return TokenGrant(
            token=token,
            accessor=info.accessor,
            ttl=info.ttl,
            renewable=info.renewable,
            kind=info.kind,
            sent_at=info.sent_at,
            num_uses=info.num_uses,
            policies=info.policies,
            period=info.period,
        )

    def changed(self) -> bool:
        """Whether the file now holds another token than the last one that would do."""
        try:
            return read_token(self._path) != self._last
        except TokenFileUnusable:
            return False  # being replaced, perhaps; the token in use is not worse for it


def read_token(path: Path) -> SecretValue:
    """The content of a token file, white space around it removed.

    Raises:
        TokenFileUnusable: it is missing, unreadable, no plain file, too large, empty or
            not printable ASCII.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer must not stand still.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TokenFileUnusable(f"{path} is not a plain file")
            content = os.read(descriptor, FILE_CAP + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TokenFileUnusable(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_CAP:
        raise TokenFileUnusable(f"{path} is larger than {FILE_CAP} bytes")
    text = content.strip()
    if not text:
        raise TokenFileUnusable(f"{path} is empty")
    if not PRINTABLE.fullmatch(text):
        # Also what would split or end a header.
        raise TokenFileUnusable(f"{path} holds no token: white space or bytes not in ASCII")
    return SecretValue(text.decode("ascii"))


def _is_jwt(token: SecretValue) -> bool:
    """Whether it has the shape of a signed JWT (RFC 7519, RFC 7515 compact form)."""
    parts = token.reveal().split(".")
    if len(parts) != 3 or not all(parts):
        return False
    try:
        return all(
            isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
            for part in parts[:2]
        )
    except (ValueError, RecursionError):  # of base64, UTF-8 or JSON
        return False


def _unfit(num_uses: int) -> TokenUnfit:
    return TokenUnfit(f"the Vault token may be used {num_uses} times only")
