"""The hot path: a hand-out answered inside the protocol class, in prepared bytes.

Duty: ``GET /v1/credentials/{name}`` of a configured credential, when it can be answered at
once.
Not its duty: anything else; it is left to the routes, which use the same service and answer
alike (``tests/property/test_api_doors.py``).
Rules: synchronous, no framework, no more than one join of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from broker.api.door import Asked, FastPath, Peer
from broker.api.problems import REQUEST_ID_FIELD, Problems
from broker.api.reading import Said, read
from broker.errors import RequestMalformed
from broker.handout.request import Request
from broker.handout.service import HandoutService
from broker.protocol.names import credential_path

_REQUEST_ID_LINE: Final = REQUEST_ID_FIELD + b": %b\r\n\r\n"


class FastHandout(FastPath):
    """Answers hand-outs.

    Args:
        service: the use case.
        problems: makes answers of errors.
        names: the configured credentials.
    """

    def __init__(
        self, service: HandoutService, problems: Problems, names: Iterable[str] = ()
    ) -> None:
        self._service = service
        self._problems = problems
        self._names: dict[bytes, str] = {}
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Take over the names of a new configuration."""
        self._names = {credential_path(name).encode("ascii"): name for name in names}

    def read(self, target: bytes, fields: Mapping[bytes, bytes]) -> tuple[str, Said] | None:
        """See ``FastPath.read``."""
        name = self._names.get(target)
        if name is None:
            return None
        try:
            return name, read(fields)
        except RequestMalformed:
            return None

    def answer(self, asked: Asked, peer: Peer, tail: bytes) -> bytes | None:
        """See ``FastPath.answer``."""
        name, said = cast("tuple[str, Said]", asked)
        request_id = self._problems.ids.next()
        service = self._service
        try:
            request = Request(request_id, peer.uid, said.tool, said.mcp_request_id, peer.address)
            principal = service.authenticate(
                said.bearer, peer.uid, peer.client, request, said.subject_token
            )
            answer = service.handout(principal, name, request, if_none_match=said.if_none_match)
        except Exception as error:
            return self._problems.raw(error, request_id, tail)
        if answer is None:
            return None
        line = _REQUEST_ID_LINE % request_id.encode("ascii")
        return b"".join((answer.head, tail, line, answer.body))
