"""One version of a credential, kept for a piece of work.

Duty: show the value; remember that the upstream refused it.
Not its duty: reporting (``aio``, ``sync``).
"""

from __future__ import annotations

from broker.client.credential import UNAUTHORIZED, Credential
from broker.client.placement import is_listed


class Pinned:
    """What ``use`` gives: one version, whatever is rotated meanwhile.

    ``key.value`` and ``key["field"]`` are the secret as text.
    """

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.refusal: int | None = None
        """HTTP status with which the upstream refused, when it did."""
        self.detail = ""

    @property
    def value(self) -> str:
        """See ``Credential.value``."""
        return self.credential.value

    @property
    def version(self) -> str:
        """See ``Credential.version``."""
        return self.credential.version

    def __getitem__(self, field: str) -> str:
        return self.credential[field]

    def refused(self, status: int = UNAUTHORIZED, detail: str = "") -> None:
        """Say that the upstream refused this version; told to the broker on the way out.

        For upstreams without HTTP too: a database's "password authentication failed" is a 401.

        Args:
            status: 401; the broker counts others only if its configuration says so.
            detail: a few words for the operator; never the key.
        """
        self.refusal, self.detail = status, detail

    def saw(self, error: BaseException) -> None:
        """Look for a refusal in what ends the work: an ``HTTPStatusError``, also within a group.

        That is a 401, or what else the hand-out counts as one (``report_statuses``).
        """
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                self.saw(inner)
            return
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status not in self.credential.report_statuses:
            return
        use, url = self.credential.use, getattr(response, "url", None)
        # A refusal of somebody else's server says nothing about this key.
        if use is None or not use.origins or url is None or is_listed(use, str(url)):
            self.refused(status)

    def __repr__(self) -> str:
        return f"<Pinned {self.credential!r}>"
