"""A table of lives: what happens at which second, and what calls of the session come of it.

Times follow from ``session_story``: every jitter is 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.scenarios.session_story import Story
from tests.simulators.service_account import service_account_jwt
from tests.simulators.vault_server import Role

pytestmark = pytest.mark.looptime

Step = Callable[[Story], object]


@dataclass(frozen=True)
class Scenario:
    """What happens at which second, and what calls come of it."""

    name: str
    role: Role
    steps: tuple[tuple[float, Step], ...] = ()
    until: float = 1000.0
    calls: Mapping[str, list[float]] = field(default_factory=dict)
    generation: int = 1
    gap: float = 0.0
    """Seconds without a usable token after the first login, as told by ``on_change``."""


HOUR = 3600.0
BACKOFF = [1.0, 3.0, 7.0, 15.0, 31.0]
"""Seconds after the first failure at which the next attempts come."""


def outage(operation: str | None = None) -> Step:
    return lambda s: s.vault.outage(operation)


def seal(s: Story) -> None:
    s.vault.seal()


def step_down(s: Story) -> None:
    s.vault.step_down()


def garble(s: Story) -> None:
    s.vault.garble()


def heal(s: Story) -> None:
    s.vault.heal()


def after(start: float, *delays: float) -> list[float]:
    return [start, *(start + delay for delay in delays)]


SCENARIOS = [
    Scenario(
        "renewable for ever: one renewal a life",
        Role(ttl=600),
        until=1500,
        calls={"login_kubernetes": [0], "renew_self": [370, 740, 1110, 1480], "revoke_self": []},
    ),
    Scenario(
        "periodic: renewed for its period, never replaced",
        Role(ttl=60, period=600),
        until=1500,
        calls={"login_kubernetes": [0], "renew_self": [370, 740, 1110, 1480]},
    ),
    Scenario(
        "maximum: the renewal at 1480 is cut to 320 s; login at a third; the old one revoked",
        Role(ttl=600, max_ttl=1800),
        until=1700,
        calls={
            "login_kubernetes": [0, 1570],
            "renew_self": [370, 740, 1110, 1480],
            "revoke_self": [1600],
        },
        generation=2,
    ),
    Scenario(
        "maximum below two lives: the first renewal is cut",
        Role(ttl=600, max_ttl=700),
        until=600,
        calls={"login_kubernetes": [0, 470], "renew_self": [370], "revoke_self": [500]},
        generation=2,
    ),
    Scenario(
        "not renewable: a login at two thirds",
        Role(ttl=600, renewable=False),
        until=800,
        calls={"login_kubernetes": [0, 370, 740], "renew_self": [], "revoke_self": [400, 770]},
        generation=3,
    ),
    Scenario(
        "batch: neither renewed nor revoked",
        Role(ttl=600, kind="batch"),
        until=800,
        calls={"login_kubernetes": [0, 370, 740], "renew_self": [], "revoke_self": []},
        generation=3,
    ),
    Scenario(
        "two seconds to live: a renewal each 1.233 s",
        Role(ttl=2),
        until=5,
        calls={"login_kubernetes": [0], "renew_self": [1.233, 2.467, 3.7, 4.933]},
    ),
    Scenario(
        "two seconds, three at most: replaced in time, old ones left to expire",
        Role(ttl=2, max_ttl=3),
        until=6,
        calls={"login_kubernetes": [0, 2.233, 4.467], "renew_self": [1.233, 3.467, 5.7]},
        generation=3,
    ),
    *(
        Scenario(
            f"{name} while renewing: tried again with growing waits until it passes",
            Role(ttl=600),
            ((350, step), (390, heal)),
            until=800,
            calls={"login_kubernetes": [0], "renew_self": [*after(370, *BACKOFF), 771]},
        )
        for name, step in {
            "outage": outage(),
            "seal": seal,
            "standby": step_down,
            "garbage": garble,
        }.items()
    ),
    *(
        Scenario(
            f"{name} at the first login",
            Role(ttl=600),
            ((0, step), (20, heal)),
            until=300,
            calls={"login_kubernetes": after(0, *BACKOFF), "lookup_self": [31]},
        )
        for name, step in {
            "outage": outage(),
            "seal": seal,
            "standby": step_down,
            "garbage": garble,
        }.items()
    ),
    Scenario(
        "403 at the login heals by itself",
        Role(ttl=600, audience="vault"),
        (
            (0, lambda s: s.write(service_account_jwt(audience="other"))),
            (5, lambda s: s.write(service_account_jwt())),
        ),
        until=300,
        calls={"login_kubernetes": after(0, 1, 3, 7)},
    ),
    Scenario(
        "an outage longer than the token: it ends, and the next login comes within a minute",
        Role(ttl=600),
        ((350, outage()), (880, heal)),
        until=1000,
        calls={
            "lookup_self": [0],
            "login_kubernetes": [
                *(0, 532.083, 552.835, 567.247, 577.255, 584.205, 589.031),
                *(592.383, 594.71, 596.71, 598.71),
                *(600.71 + 30 * n for n in range(11)),
            ],
        },
        generation=2,
        gap=300.71,
    ),
    Scenario(
        "only renewal fails: in the last sixth a login is tried in turn",
        Role(ttl=600),
        ((350, outage("renew_self")),),
        until=600,
        generation=2,
        calls={
            "login_kubernetes": [0, 532.083],
            "renew_self": [*after(370, *BACKOFF), 431, 459.167, 482.639, 502.199, 518.499],
        },
    ),
    Scenario(
        "Retry-After is honoured",
        Role(ttl=600),
        ((350, lambda s: s.vault.throttle(25)), (390, heal)),
        until=600,
        calls={"renew_self": [370, 395]},
    ),
    Scenario(
        "a Retry-After beyond the token's end is honoured all the same",
        Role(ttl=60),
        ((30, lambda s: s.vault.throttle(100)), (40, heal)),
        until=150,
        calls={"renew_self": [37], "login_kubernetes": [0, 137]},
        generation=2,
        gap=77,
    ),
    Scenario(
        "a Retry-After of a year is not believed",
        Role(ttl=HOUR),
        ((0, lambda s: s.vault.throttle(365 * 24 * HOUR)), (1, heal)),
        until=400,
        calls={"login_kubernetes": [0, 300]},
    ),
    Scenario(
        "the policy forbids renewal: a login takes its place",
        Role(ttl=600),
        ((0, lambda s: s.vault.server.deny("auth/token/renew-self")),),
        until=500,
        calls={"login_kubernetes": [0, 370], "renew_self": [370], "revoke_self": [400]},
        generation=2,
    ),
    Scenario(
        "the policy forbids renewal, and the login fails a while: no further renewal",
        Role(ttl=600),
        (
            (0, lambda s: s.vault.server.deny("auth/token/renew-self")),
            (300, outage("login_kubernetes")),
            (375, heal),
        ),
        until=500,
        calls={"login_kubernetes": [0, *after(370, 1, 3, 7)], "renew_self": [370]},
        generation=2,
    ),
    Scenario(
        "revoked behind the broker's back, found by the renewal",
        Role(ttl=600),
        ((100, lambda s: s.vault.server.revoke(s.vault.server.tokens[0])),),
        until=500,
        calls={
            "login_kubernetes": [0, 370],
            "renew_self": [370],
            "lookup_self": [0, 370],
            "revoke_self": [],
        },
        generation=2,
    ),
    Scenario(
        "a lost answer to the login: the next one brings another token",
        Role(ttl=600),
        ((0, lambda s: s.vault.lose_answers("login_kubernetes")),),
        until=300,
        calls={"login_kubernetes": [0, 1]},
    ),
    Scenario(
        "hangs while renewing: each attempt ends by its deadline",
        Role(ttl=600),
        ((350, lambda s: s.vault.hang("renew_self")), (392, lambda s: s.vault.resume())),
        until=600,
        calls={"renew_self": [370, 381, 393]},
    ),
    Scenario(
        "the machine sleeps for an hour: the token is gone, a login within one slice",
        Role(ttl=600),
        ((100, lambda s: s.clock.suspend(HOUR)),),
        until=200 + HOUR,
        calls={"login_kubernetes": [0, 105 + HOUR], "renew_self": []},
        generation=2,
        gap=3105,  # asleep for most of it
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
async def test_scenario(scenario: Scenario, tmp_path: Path) -> None:
    """Each call of the session comes when the plan says, and the token never has a gap."""
    story = Story(tmp_path, scenario.role)
    story.write(service_account_jwt())
    steps = list(scenario.steps)
    while steps and steps[0][0] == 0:
        steps.pop(0)[1](story)
    async with story.running():
        for at, step in steps:
            await story.clock.sleep_until(at)
            step(story)
        await story.clock.sleep_until(scenario.until)
        assert {name: story.vault.times(name) for name in scenario.calls} == scenario.calls
        assert story.current.number == scenario.generation
        assert story.gap == pytest.approx(scenario.gap, abs=0.01)
        assert await story.session.ready(story.clock.now()) is story.current
