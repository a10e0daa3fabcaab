"""Every metric of the broker: name, labels, recorder, and the text of a scrape.

Duty: count what happened, remember a few moments, render them for Prometheus.
Not its duty: rotations (``rotation``) and limits (``limits``), serving the text (``api``),
deciding what is alarming (``docs/metrics.md``).
Rules:

* a label value is a configured name, a word of a closed set, or ``other``: nothing that a
  caller, Vault or an upstream says can add a series;
* a recorder is a few dictionary look-ups and one addition: no locks, so all recorders
  and ``render`` belong to the event loop's thread;
* ``render`` yields small slices, so that its reader can let the loop run in between; each
  histogram stays within one slice, since its lines must agree with one another;
* no value of a secret, no version, no lease id ever gets here.

Source: Prometheus text format 0.0.4,
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from math import inf
from typing import Final, TypeVar

from broker import __version__
from broker.clock import Clock, SystemClock
from broker.telemetry import catalogue as c
from broker.telemetry.exposition import Family, Histogram, escape, sliced
from broker.telemetry.limits import LimitMetrics
from broker.telemetry.rotation import RotationMetrics
from broker.telemetry.tokens import TokenMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Key = TypeVar("Key", bound=Hashable)


class _Credential:
    """What is known of one configured credential."""

    __slots__ = (
        "expires",
        "handouts",
        "label",
        "obtained",
        "refreshes",
        "reports",
        "state",
        "succeeded",
    )

    def __init__(self, name: str) -> None:
        self.label = escape(name)
        self.state = ""
        self.expires: float | None = None
        self.obtained: float | None = None
        self.succeeded: float | None = None
        self.refreshes: dict[str, int] = {}
        self.reports: dict[str, int] = {}
        self.handouts: dict[tuple[str, str], int] = {}


class Metrics:
    """All numbers of one broker.

    Args:
        credentials: configured names; others count under ``other``.
        clients: configured names; others count under ``other``.
        clock: read once for the start, and at each scrape for age and life left.
    """

    def __init__(
        self,
        credentials: Iterable[str] = (),
        clients: Iterable[str] = (),
        *,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._started = self._clock.wall()
        self.rotation = RotationMetrics()
        self.limits = LimitMetrics()
        self.limited = self.limits.limited
        self.failure_limited = self.limits.failure_limited
        self.tokens = TokenMetrics()
        self._credentials: dict[str, _Credential] = {}
        self._clients: frozenset[str] = frozenset()
        self._states = dict.fromkeys(c.STATES, 0)
        self._handout_seconds = Histogram(c.HANDOUT_BUCKETS)
        self._vault_requests: dict[tuple[str, str], int] = {}
        self._vault_seconds: dict[str, Histogram] = {}
        self._token_expires: float | None = None
        self._generation = 0
        # Series that an alert counts on exist from the start, at zero.
        self._logins = {"ok": 0}
        self._audit = dict.fromkeys(c.AUDIT_RESULTS, 0)
        self.audit_sequence: Callable[[], int] | None = None
        """Asked at each scrape; set by ``app``."""
        self._logs_dropped = 0
        self._event_gaps = 0
        self.reconfigure(credentials, clients)

    def reconfigure(self, credentials: Iterable[str], clients: Iterable[str]) -> None:
        """Take the names of a new configuration: kept ones go on, others' series end."""
        kept = self._credentials
        names = dict.fromkeys((*credentials, c.OTHER))
        for name in kept.keys() - names.keys():
            state = kept.pop(name).state
            if state:
                self._states[state] -= 1
        for name in names:
            if name not in kept:
                kept[name] = _Credential(name)
        remaining = frozenset((*clients, c.OTHER))
        if gone := self._clients - remaining:
            for known in kept.values():
                for pair in [pair for pair in known.handouts if pair[0] in gone]:
                    del known.handouts[pair]
        self._clients = remaining
        self.limits.reconfigure(kept, remaining)

    # --- recorders ------------------------------------------------------------

    def credential(
        self,
        name: str,
        *,
        state: str,
        expires_wall: float | None,
        obtained_wall: float | None,
        last_success_wall: float | None,
    ) -> None:
        """Record how a credential stands; an unknown name is ignored.

        Args:
            name: the credential.
            state: a word of ``STATES``.
            expires_wall: effective expiry as Unix time; None when it never expires.
            obtained_wall: Unix time at which the held value came; None when none is held.
            last_success_wall: Unix time at which Vault last gave or confirmed it, if ever.
        """
        known = self._credentials.get(name)
        if known is None or state not in self._states:
            return
        if known.state != state:
            if known.state:
                self._states[known.state] -= 1
            self._states[state] += 1
            known.state = state
        known.obtained = obtained_wall
        known.succeeded = last_success_wall
        known.expires = None
        if obtained_wall is not None:
            known.expires = inf if expires_wall is None else expires_wall

    def refresh(self, name: str, result: str) -> None:
        """Count a refresh: ``renewed``, ``replaced``, ``unchanged``, ``changed``, or a code."""
        _count(self._known(name).refreshes, result if result in c.REFRESH_RESULTS else c.OTHER)

    def handout(self, name: str, client: str, result: str) -> None:
        """Count a hand-out: ``ok``, ``not_modified``, or an error's code. Hot path."""
        known = self._credentials.get(name) or self._credentials[c.OTHER]
        pair = (client, result)
        if pair in known.handouts:
            known.handouts[pair] += 1
            return
        # The first of its kind: only now are the words checked.
        pair = (
            client if client in self._clients else c.OTHER,
            result if result in c.HANDOUT_RESULTS else c.OTHER,
        )
        _count(known.handouts, pair)

    def handout_seconds(self, seconds: float) -> None:
        """Observe how long a hand-out took. Hot path."""
        self._handout_seconds.observe(seconds)

    def report(self, name: str, result: str) -> None:
        """Count a report: ``newer``, ``conflict``, or an error's code."""
        _count(self._known(name).reports, result if result in c.REPORT_RESULTS else c.OTHER)

    def vault_request(self, operation: str, status: str, seconds: float) -> None:
        """Count and time a request to Vault.

        Args:
            operation: the method of ``VaultPort``.
            status: ``ok`` or an error's code.
            seconds: from sending to answer or error.
        """
        operation = operation if operation in c.OPERATIONS else c.OTHER
        _count(self._vault_requests, (operation, status if status in c.STATUSES else c.OTHER))
        if operation not in self._vault_seconds:
            self._vault_seconds[operation] = Histogram(c.VAULT_BUCKETS)
        self._vault_seconds[operation].observe(seconds)

    def vault_token(self, *, expires_wall: float | None, generation: int) -> None:
        """Record the Vault token in use; ``expires_wall`` None when it never expires."""
        self._token_expires = inf if expires_wall is None else expires_wall
        self._generation = generation

    def login(self, result: str) -> None:
        """Count a login to Vault: ``ok`` or an error's code."""
        _count(self._logins, result if result in c.STATUSES else c.OTHER)

    def audit_record(self, result: str) -> None:
        """Count an audit record: ``written``, ``buffered``, ``refused`` or ``lost``."""
        _count(self._audit, result if result in c.AUDIT_RESULTS else c.OTHER)

    def logs_dropped(self, count: int = 1) -> None:
        """Count log lines that could not be written."""
        self._logs_dropped += count

    def event_gap(self) -> None:
        """Count a slow reader of events that missed some."""
        self._event_gaps += 1

    # --- the scrape -------------------------------------------------------------

    def render(self) -> Iterator[bytes]:
        """The text of one scrape, in slices of well under a millisecond each.

        A reader should let the event loop run between two slices; what is recorded in
        between may or may not be in the later ones.
        """
        return sliced(self._lines())

    def _lines(self) -> Iterator[str]:
        """Items for ``sliced``: each a line, a few lines, or empty."""
        wall = self._clock.wall()
        version, python = escape(__version__), platform.python_version()
        yield c.BUILD.head() + c.BUILD.line(1, f'version="{version}",python="{python}"')
        yield c.START.head() + c.START.line(self._started)
        yield c.CREDENTIALS.head()
        for state, count in tuple(self._states.items()):
            yield c.CREDENTIALS.line(count, f'state="{state}"')
        yield from self._credential_lines(wall)
        yield c.HANDOUT_SECONDS.head() + self._handout_seconds.lines(c.HANDOUT_SECONDS)
        yield c.VAULT_REQUESTS.head()
        for (operation, status), count in tuple(self._vault_requests.items()):
            yield c.VAULT_REQUESTS.line(count, f'operation="{operation}",status="{status}"')
        yield c.VAULT_SECONDS.head()
        for operation, seconds in tuple(self._vault_seconds.items()):
            yield seconds.lines(c.VAULT_SECONDS, f'operation="{operation}"')
        yield c.TOKEN_EXPIRY.head() + _optional(c.TOKEN_EXPIRY, self._token_expires)
        left = None if self._token_expires is None else max(0.0, self._token_expires - wall)
        yield c.TOKEN_TTL.head() + _optional(c.TOKEN_TTL, left)
        yield c.GENERATION.head() + c.GENERATION.line(self._generation)
        yield c.LOGINS.head() + _by_result(c.LOGINS, self._logins)
        yield c.AUDIT.head() + _by_result(c.AUDIT, self._audit)
        yield c.AUDIT_SEQUENCE.head() + _optional(
            c.AUDIT_SEQUENCE, None if self.audit_sequence is None else self.audit_sequence()
        )
        yield c.LOGS_DROPPED.head() + c.LOGS_DROPPED.line(self._logs_dropped)
        yield c.EVENT_GAPS.head() + c.EVENT_GAPS.line(self._event_gaps)
        yield from self.limits.lines()
        yield from self.tokens.lines()
        yield from self.rotation.lines(wall)

    def _credential_lines(self, wall: float) -> Iterator[str]:
        """Families by credential: one item for each, be it empty."""

        def state(known: _Credential) -> str:
            labels = f'credential="{known.label}",state="{known.state}"'
            return c.STATE.line(1, labels) if known.state else ""

        def expiry(known: _Credential) -> str:
            return _optional(c.EXPIRY, known.expires, known.label)

        def age(known: _Credential) -> str:
            since = known.obtained
            return _optional(c.AGE, None if since is None else max(0.0, wall - since), known.label)

        def success(known: _Credential) -> str:
            return _optional(c.SUCCESS, known.succeeded, known.label)

        def refreshes(known: _Credential) -> str:
            return _by_result(c.REFRESHES, known.refreshes, known.label)

        def handouts(known: _Credential) -> str:
            return "".join(
                c.HANDOUTS.line(
                    count,
                    f'credential="{known.label}",client="{escape(client)}",result="{result}"',
                )
                for (client, result), count in known.handouts.items()
            )

        def reports(known: _Credential) -> str:
            return _by_result(c.REPORTS, known.reports, known.label)

        families: tuple[tuple[Family, Callable[[_Credential], str]], ...] = (
            (c.STATE, state),
            (c.EXPIRY, expiry),
            (c.AGE, age),
            (c.SUCCESS, success),
            (c.REFRESHES, refreshes),
            (c.HANDOUTS, handouts),
            (c.REPORTS, reports),
        )
        for family, lines in families:
            yield family.head()
            # A look of its own for each: names may come and go between two slices.
            for known in tuple(self._credentials.values()):
                yield lines(known)

    def _known(self, name: str) -> _Credential:
        return self._credentials.get(name) or self._credentials[c.OTHER]


def _count(counts: dict[Key, int], key: Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _optional(family: Family, value: float | None, credential: str = "") -> str:
    if value is None:
        return ""
    return family.line(value, f'credential="{credential}"' if credential else "")


def _by_result(family: Family, counts: Mapping[str, int], credential: str = "") -> str:
    prefix = f'credential="{credential}",' if credential else ""
    return "".join(
        family.line(count, f'{prefix}result="{result}"') for result, count in counts.items()
    )
