"""How often a caller may have a credential.

Duty: find the rules that apply to caller × tool × credential; count; say how long to wait.
Not its duty: who may have it at all (``authorizer``); counting (``limit_windows``); guessing
of client tokens (``failed_authentications``).
Rules:

* each combination of what a rule counts by has a counter of its own. All rules that apply must
  allow, and are asked before any is counted, so that a refused request consumes nothing;
* the default applies where no rule does;
* the tool is the caller's claim, unless a scoped token proves it: a caller that invents names
  gets a new counter for each, up to ``PLACES`` of a rule; further ones share a single one, so
  that nobody pushes other counters out of memory, his own strict ones among them. A rule that
  shall hold whatever is claimed names no tools and counts ``per: [client, credential]``;
* counters live in this process: each pod counts for itself, and a restart begins anew;
* rates are the library's (``limits``): its notation, its keys, its strategy "moving window",
  which our clock and memory stand behind (``limit_storage``). Without rules it is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from broker.access.limit_windows import Windows
from broker.clock import Clock
from broker.errors import TooManyRequests
from broker.protocol.scopes import covers

if TYPE_CHECKING:
    from broker.access.limit_storage import Prepared

Dimension: TypeAlias = Literal["client", "tool", "credential"]
DIMENSIONS: Final[tuple[Dimension, ...]] = ("client", "tool", "credential")

REMEMBERED: Final = 4096
"""Combinations whose counter is found without looking at the rules again."""
PLACES: Final = 1000
"""Tools, by credential, that one rule tells apart of one client: a tenth of all counters."""
OTHERS: Final = "\n"
"""In place of further ones: no tool has this name, for it does not print."""


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One limit and what it applies to; an empty selection is everything."""

    name: str
    """As in the configuration, for the audit: ``limits.rules.searches``."""
    rate: str
    """In the library's words: ``60/minute``."""
    clients: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ()
    """Exact, or globs as in scoped tokens (``protocol.scopes``)."""
    credentials: frozenset[str] = frozenset()
    per: tuple[Dimension, ...] = DIMENSIONS
    """What has a counter of its own."""


class Counter:
    """Counts one caller's hand-outs of one credential for one tool. Hot path."""

    __slots__ = ("_only", "_rules", "_take", "_windows", "refused_by")

    def __init__(
        self,
        rules: tuple[Prepared, ...],
        windows: Windows,
        take: Callable[[Prepared], bool],
    ) -> None:
        self._rules = rules
        self._only = rules[0] if len(rules) == 1 else None
        self._windows = windows
        self._take = take
        self.refused_by = ""
        """Name of the rule that made the last refused one wait longest."""

    def hit(self) -> float:
        """Count one, if all rules allow it.

        Returns:
            0.0 when it is allowed and counted. Else the seconds until the next one is, to the
            last digit: at that moment it is allowed, just before it is not.
        """
        only = self._only
        if only is not None:
            # What the library's strategy comes to, without its three calls on the way.
            if self._windows.take(only.key, only.amount, only.seconds):
                return 0.0
            self.refused_by = only.namespace
            return self._windows.wait(only.key, only.amount, only.seconds)
        longest = 0.0
        for rule in self._rules:
            seconds = self._windows.ask(rule.key, rule.amount, rule.seconds)
            if seconds > longest:
                longest, self.refused_by = seconds, rule.namespace
        if longest:
            return longest
        for rule in self._rules:
            self._take(rule)
        return 0.0

    def refusal(self, seconds: float) -> TooManyRequests:
        """The error for what ``hit`` returned."""
        return TooManyRequests(reason=self.refused_by, retry_after=seconds)


class Limits:
    """The limits of one broker. All methods belong to the loop's thread.

    Args:
        clock: the only source of time.
        rules: see ``configure``.
        default: see ``configure``.
    """

    def __init__(
        self, clock: Clock, rules: Iterable[LimitRule] = (), default: LimitRule | None = None
    ) -> None:
        self.windows = Windows(clock)
        self.generation = 0
        """Changes with the rules: a ``Counter`` from before must not be used any more."""
        self._make: Callable[[str, str, str], Counter | None] | None = None
        self._known: dict[tuple[str, str, str], Counter | None] = {}
        self.configure(rules, default)

    def configure(self, rules: Iterable[LimitRule], default: LimitRule | None = None) -> None:
        """Take over new rules; what a rule that stays has counted goes on.

        Args:
            rules: all that apply must allow.
            default: applies to what no rule does.
        """
        rules = tuple(rules)
        self.generation += 1
        self._known.clear()
        self._make = None
        if rules or default is not None:
            self._make = _maker(self.windows, rules, default)

    def counter(self, caller: str, tool: str, credential: str) -> Counter | None:
        """Where the hand-outs of ``credential`` to ``caller`` for ``tool`` are counted.

        Args:
            caller: name of the client.
            tool: as claimed and checked (``Request.check``); empty when none is.
            credential: its name.

        Returns:
            None when no rule applies. Good until ``generation`` changes.
        """
        if self._make is None:
            return None
        place = (caller, tool, credential)
        try:
            return self._known[place]
        except KeyError:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]  # all at once would hold the loop
            counter = self._known[place] = self._make(caller, tool, credential)
            return counter


def _maker(
    windows: Windows, rules: tuple[LimitRule, ...], default: LimitRule | None
) -> Callable[[str, str, str], Counter | None]:
    """What makes counters by these rules; the first to need the library."""
    from broker.access.limit_storage import MovingWindowRateLimiter, Prepared, WindowStorage, named

    limiter = MovingWindowRateLimiter(WindowStorage(windows))
    selections = [(rule, named(rule.rate, rule.name)) for rule in rules]
    otherwise = [] if default is None else [(default, named(default.rate, default.name))]
    places: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def told_apart(rule: LimitRule, caller: str, tool: str, credential: str) -> str:
        """The tool's name, or what stands for it."""
        mine = places.setdefault((rule.name, caller), set())
        place = (tool, credential if "credential" in rule.per else "")
        if place not in mine:
            if len(mine) >= PLACES:
                return OTHERS
            mine.add(place)
        return tool

    def make(caller: str, tool: str, credential: str) -> Counter | None:
        applying = [
            (rule, item)
            for rule, item in selections
            if (not rule.clients or caller in rule.clients)
            and (not rule.credentials or credential in rule.credentials)
            and (not rule.tools or covers(rule.tools, tool))
        ] or otherwise
        if not applying:
            return None
        items = []
        for rule, item in applying:
            per = rule.per
            # Names of clients and credentials hold no slash, so no two places share a key.
            place = (
                caller if "client" in per else "",
                told_apart(rule, caller, tool, credential) if "tool" in per else "",
                credential if "credential" in per else "",
            )
            items.append(Prepared(item, place))
        return Counter(tuple(items), windows, limiter.hit)

    return make
