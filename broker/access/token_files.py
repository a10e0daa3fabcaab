"""Client tokens as files: how a client gets its proof.

Duty: write ``<directory>/<client>/client-token`` for each client, and tell ``Callers`` its digest.
Not its duty: taking proof (``caller``); the client, which reads the file again after a 401.
Rules:

* the token lives with the pod: a broker that starts again keeps the token it finds, when the
  file can only be its own (its uid, mode 0440, one link, the right form), so that a restart
  of its container locks nobody out; anything else there is replaced;
* 256 random bits as base64url; the text is in the file and nowhere else, only a digest stays;
* a file is complete when it appears: written aside in the same directory, then renamed;
* no symbolic link is followed: a client may be able to write to its directory.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from broker.access.caller import Callers, ClientSpec
from broker.errors import SettingsError
from broker.protocol.names import TOKEN_FILE

BYTES: Final = 32
FORM: Final = re.compile(rb"[A-Za-z0-9_-]{43}\n?")
MODE: Final = 0o440
DIRECTORY_MODE: Final = 0o750


class TokenFiles:
    """Provides and replaces the files.

    Args:
        directory: one directory for each client is below it (``/run/broker``).
        callers: learn the digests.
        own_uid: the broker's effective uid, which owns every file it wrote.
        random_bytes: where tokens come from.
    """

    def __init__(
        self,
        directory: Path,
        callers: Callers,
        *,
        own_uid: int,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._directory = directory
        self._callers = callers
        self._own_uid = own_uid
        self._random_bytes = random_bytes

    def provide(self, spec: ClientSpec) -> None:
        """See that the client has a token: the one that is there, or a new one.

        A client that is proved by its uid alone gets none.

        Raises:
            SettingsError: the file cannot be written.
        """
        if spec.proof == "uid":
            return
        with self._opened(spec) as directory:
            token = self._read(directory, spec) or self._write(directory, spec)
        self._callers.accept(spec.name, sha256(token).digest())

    def replace(self, spec: ClientSpec, *, overlap: float) -> None:
        """Write a new token; the old one is taken for ``overlap`` seconds more.

        Raises:
            SettingsError: the file cannot be written; the old token stays good.
        """
        with self._opened(spec) as directory:
            token = self._write(directory, spec)
        self._callers.accept(spec.name, sha256(token).digest(), overlap=overlap)

    @contextmanager
    def _opened(self, spec: ClientSpec) -> Iterator[int]:
        """The client's directory as a descriptor; made when it is missing."""
        path = self._directory / spec.name
        try:
            made = not path.exists()
            path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if made and spec.group is not None:
                    os.fchown(directory, -1, spec.group)
                yield directory
            finally:
                os.close(directory)
        except OSError as error:
            raise SettingsError(
                f"the token file below {path} cannot be written: {error.strerror}",
                key=f"clients.{spec.name}",
                remedy="Mount a writable volume there, and let the broker be in the group.",
            ) from error

    def _read(self, directory: int, spec: ClientSpec) -> bytes | None:
        """The token that is there, when the file can only be ours."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(TOKEN_FILE, flags, dir_fd=directory)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            ours = (
                stat.S_ISREG(found.st_mode)
                and stat.S_IMODE(found.st_mode) == MODE
                and found.st_uid == self._own_uid
                and found.st_nlink == 1
                and spec.group in {None, found.st_gid}
            )
            text = file.read(64) if ours else b""
        return text.strip() if FORM.fullmatch(text) else None

    def _write(self, directory: int, spec: ClientSpec) -> bytes:
        token = urlsafe_b64encode(self._random_bytes(BYTES)).rstrip(b"=")
        aside = f".{TOKEN_FILE}.{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(aside, flags, 0o400, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if spec.group is not None:
                    os.fchown(descriptor, -1, spec.group)
                os.fchmod(descriptor, MODE)
                file.write(token + b"\n")
            os.rename(aside, TOKEN_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(aside, dir_fd=directory)
            raise
        return token
