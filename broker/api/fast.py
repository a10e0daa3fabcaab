"""The hot path: a hand-out answered inside the protocol class, in prepared bytes.

Duty: ``GET /v1/credentials/{name}`` of a configured credential, when it can be answered at
once.
Not its duty: anything else; it is left to the routes, which use the same service and answer
alike (``tests/property/test_api_doors.py``).
Rules: synchronous, no framework, no more than one join of bytes; an answer is sent once its
record is written, with those of all requests of the same turn of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from broker.api.door import Asked, FastPath, Peer, Send
from broker.api.problems import REQUEST_ID_FIELD, Problems
from broker.api.reading import Said, read
from broker.clock import Clock
from broker.errors import AuditUnavailable, RequestMalformed
from broker.handout.passes import Pass
from broker.handout.request import Request
from broker.handout.service import HandoutService
from broker.protocol.names import credential_path

_REQUEST_ID_LINE: Final = REQUEST_ID_FIELD + b": %b\r\n\r\n"


class Asking:
    """A hand-out that is asked for, perhaps again and again."""

    __slots__ = ("held", "name", "said")

    def __init__(self, name: str, said: Said) -> None:
        self.name = name
        self.said = said
        self.held: Pass | None = None
        """What was decided when it was last asked for."""


class FastHandout(FastPath):
    """Answers hand-outs.

    Args:
        service: the use case.
        problems: makes answers of errors.
        names: the configured credentials.
        clock: measures.
        fresh: whether scoped tokens can be verified without waiting; else the routes do it.
    """

    def __init__(
        self,
        service: HandoutService,
        problems: Problems,
        names: Iterable[str] = (),
        *,
        clock: Clock,
        fresh: Callable[[], bool] = lambda: True,
    ) -> None:
        self._fresh = fresh
        self._service = service
        self._clock = clock
        self._problems = problems
        self._names: dict[bytes, str] = {}
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Take over the names of a new configuration."""
        self._names = {credential_path(name).encode("ascii"): name for name in names}

    def read(self, target: bytes, fields: Mapping[bytes, bytes]) -> Asking | None:
        """See ``FastPath.read``."""
        name = self._names.get(target)
        if name is None or self._service.durable:
            return None
        try:
            return Asking(name, read(fields))
        except RequestMalformed:
            return None

    def answer(self, asked: Asked, peer: Peer, tail: bytes, send: Send) -> bool:
        """See ``FastPath.answer``."""
        asking = cast("Asking", asked)
        problems, service = self._problems, self._service
        request_id = problems.ids.next()
        now, wall = self._clock.now(), self._clock.wall()
        try:
            held = asking.held
            if held is None or not service.stands(held, now, wall):
                if asking.said.subject_token is not None and not self._fresh():
                    return False
                held = asking.held = self._admit(asking, peer, request_id)
            answer = service.ready(held, request_id, now, wall)
            if answer is None:
                return False
            line = _REQUEST_ID_LINE % request_id.encode("ascii")
            raw = b"".join((answer.head, tail, line, answer.body))

            def settle(refusal: AuditUnavailable | None) -> None:
                # Sent first: on this connection the next answer must not be taken for this one.
                send(raw if refusal is None else problems.raw(refusal, request_id, tail))
                service.settled(held, now, refusal)

            service.stage(held, request_id, wall, settle)
        except Exception as error:
            self.commit()
            send(problems.raw(error, request_id, tail))
        return True

    def _admit(self, asking: Asking, peer: Peer, request_id: str) -> Pass:
        said = asking.said
        request = Request(request_id, peer.uid, said.tool, said.mcp_request_id, peer.address)
        principal = self._service.authenticate(
            said.bearer, peer.uid, peer.client, request, said.subject_token
        )
        return self._service.admit(
            principal, asking.name, request, if_none_match=said.if_none_match
        )

    def commit(self) -> None:
        """See ``FastPath.commit``."""
        self._service.commit()
