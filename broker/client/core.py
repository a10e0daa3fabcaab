"""What the client does, without doing it: requests to make, answers to understand.

Duty: the cache, the conversation with the broker as generators of ``steps``.
Not its duty: what refusals mean (``refusals``), sockets (``link``), tasks and threads (``aio``,
``sync``).
Rules:

* no I/O here but the token file; a conversation yields ``Call`` and ``Pause`` and is sent
  a ``Reply`` or ``Lost``, so that the async and the sync client are the same program;
* a value is given out from the cache only before its deadline, and only to the tool and the
  subject it was fetched for: the broker decides and records for each;
* an unreachable broker is asked again for a while, since it may start after the caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil, inf
from typing import Final, TypeAlias, TypeVar
from urllib.parse import quote

from broker.client.credential import Credential, Moment, prolonged, read_handout
from broker.client.endpoint import ClientToken, Endpoint
from broker.client.refusals import is_unknown, refusal
from broker.client.steps import ANSWER_WITHIN, Call, Pause, Reply, Steps
from broker.client.tool import Work
from broker.clock import Clock
from broker.errors import (
    BrokerUnreachable,
)
from broker.protocol import names
from broker.protocol.models import ReportRequest

Result = TypeVar("Result")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between attempts to reach the broker: doubled from the first to the longest."""
RETRY_FOR: Final = 2.0
"""Seconds to go on trying once the broker has been met: it may be restarting."""
LONGEST_REQUEST_ID: Final = 128
"""Characters that the broker takes of an MCP request's id; agents choose longer ones."""
SUBJECT_VALUES: Final = 1024
"""Values held for subjects at most: their number is not bounded by a configuration."""

Place: TypeAlias = tuple[str, str, str]
"""Of a value in the cache: credential, tool, digest of the subject's token."""


class Core:
    """State and decisions of one client.

    Args:
        endpoint: finds the broker; called once, at the first request.
        clock: time.
        start_wait: seconds to wait for a broker that was never met.
        learn: told of each credential that arrives, for redaction.
    """

    def __init__(
        self,
        endpoint: Callable[[], Endpoint],
        *,
        clock: Clock,
        start_wait: float = 30.0,
        learn: Callable[[Credential], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self._find = endpoint
        self._start_wait = start_wait
        self._learn = learn
        self._found: tuple[Endpoint, ClientToken] | None = None
        self._met = False
        self._held: dict[Place, Credential] = {}

    @property
    def endpoint(self) -> Endpoint:
        """Where the broker is. Raises ``SettingsError``."""
        return self._connection()[0]

    def _connection(self) -> tuple[Endpoint, ClientToken]:
        if self._found is None:
            endpoint = self._find()
            self._found = endpoint, ClientToken(endpoint)
        return self._found

    # --- the cache ------------------------------------------------------------------

    def cached(self, name: str, work: Work, lasting: float = 0.0) -> Credential | None:
        """The credential, if it may be used for ``lasting`` more seconds. Hot path."""
        held = self._held.get((name, work.tool, work.whose))
        if held is not None and self.clock.now() + lasting < held.deadline:
            return held
        return None

    def _hold(self, place: Place, credential: Credential) -> None:
        self._held.pop(place, None)  # the newest goes to the end
        self._held[place] = credential
        if place[2] and len(self._held) > SUBJECT_VALUES:
            now = self.clock.now()
            of_subjects = [one for one in self._held if one[2]]
            dead = [one for one in of_subjects if self._held[one].deadline <= now]
            for one in dead or of_subjects[: len(of_subjects) // 2]:
                del self._held[one]

    def forget_subjects(self) -> None:
        """Drop what is held for subjects: the token of one was revoked."""
        self._held = {place: held for place, held in self._held.items() if not place[2]}

    # --- conversations --------------------------------------------------------------

    def fetch(self, name: str, work: Work, wait: float = 0.0) -> Steps[Credential]:
        """Ask for a hand-out; a version that is held is only confirmed (``If-None-Match``).

        Args:
            name: the credential.
            work: the tool that asks.
            wait: seconds to wait for a first value.

        Raises:
            CredentialUnknown, CredentialUnavailable, CallerUnauthenticated, CallerForbidden,
            BrokerAnswerInvalid, SettingsError: no value.
            BrokerUnreachable, TooManyRequests: no answer, or asked too often, and nothing held
                that may be used.
        """
        place = (name, work.tool, work.whose)
        held = self._held.get(place)
        headers: dict[str, str] = {}
        if held is not None:
            headers["If-None-Match"] = f'"{held.version}"'
        if wait > 0 and held is None:
            headers["Prefer"] = f"wait={ceil(wait)}"
        path = names.credential_path(name)
        try:
            reply, sent = yield from self._ask(
                "GET", path, work, headers, within=ANSWER_WITHIN + wait
            )
        except BrokerUnreachable:
            usable = self.cached(name, work)  # if not for as long as was wished
            if usable is None:
                raise
            return usable
        if reply.status == 304 and held is not None:
            credential = prolonged(held, reply.headers, sent=sent)
        elif reply.status == 200:
            credential = read_handout(reply.document(), name=name, sent=sent)
            self._learn(credential)
        elif reply.status == 429 and (usable := self.cached(name, work)) is not None:
            return usable  # nothing was said against it
        else:
            self._held.pop(place, None)
            raise refusal(reply, name, self.clock.wall())
        newest = self._held.get(place)
        if newest is None or newest.asked_at <= credential.asked_at:
            self._hold(place, credential)
        return credential

    def report(
        self, credential: Credential, work: Work, status: int, detail: str
    ) -> Steps[Credential | None]:
        """Say that the upstream refused ``credential``; return the newer version, if any.

        Raises:
            Like ``fetch``.
        """
        current = self.cached(credential.name, work)
        if current is not None and current.version != credential.version:
            return current  # somebody else met the refusal first
        said: ReportRequest = {"version": credential.version, "status": status}
        if detail:
            said["detail"] = detail
        reply, _ = yield from self._ask(
            "POST",
            names.reports_path(credential.name),
            work,
            {"Content-Type": names.JSON},
            body=json.dumps(said).encode(),
        )
        if reply.status == 409:
            return None
        if reply.status != 200:
            raise refusal(reply, credential.name, self.clock.wall())
        self._distrust(credential)
        newest = yield from self.fetch(credential.name, work)
        return newest if newest.version != credential.version else None

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        work: Work,
        within: float,
    ) -> Steps[Reply]:
        """Ask anything else, once more after a lost answer; whatever the broker says comes back.

        Raises:
            BrokerUnreachable, CallerUnauthenticated, SettingsError: no answer.
        """
        reply, _ = yield from self._ask(
            method, path, work, headers, body=body, within=within, patience=2 * FIRST_PAUSE
        )
        return reply

    def stream(self, path: str) -> Call:
        """The request that opens a stream.

        Raises:
            BrokerUnreachable, CallerUnauthenticated, SettingsError: there is nothing to show.
        """
        return Call("GET", path, tuple(self._claims(Work())))

    def reread(self) -> bool:
        """Read the client token again, after a 401 to a stream. Raises like ``stream``."""
        return self._connection()[1].reread()

    def _distrust(self, refused: Credential) -> None:
        """Let other tools that hold this version ask before they use it again."""
        for place, held in list(self._held.items()):
            if held.name == refused.name and held.version == refused.version:
                self._held[place] = replace(held, deadline=-inf)

    def _ask(
        self,
        method: str,
        path: str,
        work: Work,
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        within: float = ANSWER_WITHIN,
        patience: float | None = None,
    ) -> Steps[tuple[Reply, Moment]]:
        """Get an answer: with a fresher token after a 401, and from a broker that starts late."""
        if patience is None:
            patience = RETRY_FOR if self._met else self._start_wait
        until, pause = self.clock.now() + patience, FIRST_PAUSE
        reread = False
        while True:
            sent = Moment(self.clock.now(), self.clock.wall())
            try:
                call = Call(method, path, (*headers.items(), *self._claims(work)), body, within)
            except BrokerUnreachable as error:  # the token file is not there yet
                trouble = error
            else:
                outcome = yield call
                if isinstance(outcome, Reply):
                    self._met = True
                    if reread or not is_unknown(outcome) or not self._connection()[1].reread():
                        return outcome, sent
                    reread = True
                    continue
                why = outcome.why if outcome is not None else "nothing came"
                trouble = BrokerUnreachable(f"No answer from the broker: {why}.")
            if self.clock.now() + pause > until:
                raise trouble
            yield Pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _claims(self, work: Work) -> list[tuple[str, str]]:
        headers = []
        token = self._connection()[1].get()
        if token is not None:
            headers.append(("Authorization", f"Bearer {token.reveal()}"))
        # Quoted, since MCP does not keep line ends out of a tool's name.
        if work.tool:
            headers.append((names.TOOL, quote(work.tool, safe="/:@ ")))
        if work.request_id:
            told = quote(work.request_id, safe="/:@")[:LONGEST_REQUEST_ID]
            headers.append((names.MCP_REQUEST_ID, told))
        if work.subject is not None:
            headers.append((names.SUBJECT_TOKEN, work.subject.token.reveal()))
        return headers
