"""What an answer states, and that it is true to the end of its tick."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.credentials.model import CredentialKey, CredentialSpec, KvSource, State, Use
from broker.handout.answer import TICK, prepare, times, use_document
from broker.protocol.models import format_time, parse_time
from tests.simulators.clock import EPOCH, ManualClock
from tests.simulators.desk import CANARY, Desk, document, headers

SPEC = CredentialSpec(CredentialKey("web"), KvSource("secret", "web"), hold=30.0, margin=5.0)


def test_the_document_of_a_leased_value() -> None:
    """Every member, for a lease of 60 s."""
    clock = ManualClock(now=0.0)
    desk = Desk(clock)
    entry = desk.lease("v1", life=60.0)
    prepared = prepare(entry, desk.specs["db"], now=0.0, wall=clock.wall())
    assert prepared is not None
    assert json.loads(prepared.ok.body) == {
        "name": "db",
        "version": "v1",
        "source_version": None,
        "data": {"username": f"{CANARY}-u", "password": f"{CANARY}-p"},
        "use": None,
        "state": "fresh",
        "issued_at": format_time(EPOCH),
        "expires_at": format_time(EPOCH + 60),
        "expires_in": 59.0,  # true to the end of the tick of a second
        "use_until": format_time(EPOCH + 30),
    }
    assert headers(prepared.ok) == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "etag": '"v1"',
        "content-length": str(len(prepared.ok.body)),
    }


def test_a_value_without_an_end_says_null() -> None:
    """Neither expires_at nor expires_in; use_until is the hold alone."""
    clock = ManualClock()
    desk = Desk(clock)
    desk.kv("v1")
    got = document(desk.get())
    assert (got["expires_at"], got["expires_in"]) == (None, None)
    assert got["use_until"] == format_time(clock.wall() + 30)


def test_the_broker_vouches_for_a_polled_value_until_it_is_stale() -> None:
    """expires_at of a polled value is its last confirmation plus max_staleness."""
    clock = ManualClock()
    desk = Desk(clock)
    desk.kv("v1", staleness=3600.0)
    assert document(desk.get())["expires_at"] == format_time(clock.wall() + 3600)


def test_a_304_tells_the_new_times_in_headers() -> None:
    """No body and no content-length; what may have changed stands in Broker-* headers."""
    clock = ManualClock()
    desk = Desk(clock)
    desk.lease("v1", life=60.0)
    answer = desk.get("db", if_none_match='"v1"')
    assert (answer.status, answer.body) == (304, b"")
    assert headers(answer) == {
        "cache-control": "no-store",
        "etag": '"v1"',
        "broker-state": "fresh",
        "broker-issued-at": format_time(clock.wall()),
        "broker-expires-at": format_time(clock.wall() + 60),
        "broker-expires-in": "59.0",
        "broker-use-until": format_time(clock.wall() + 30),
    }


def test_a_304_without_an_end_leaves_the_expiry_out() -> None:
    """Absent is how a header says null."""
    desk = Desk(ManualClock())
    desk.kv("v1")
    told = headers(desk.get(if_none_match='"v1"'))
    assert {"broker-expires-at", "broker-expires-in"} & told.keys() == set()


def test_the_head_is_the_same_answer_as_http_bytes() -> None:
    """Status line and headers, each ended, the empty line left to the sender."""
    desk = Desk(ManualClock())
    desk.kv("v1")
    for answer, line in (
        (desk.get(), b"HTTP/1.1 200 OK"),
        (desk.get(if_none_match="*"), b"HTTP/1.1 304 Not Modified"),
        (desk.get().with_header(b"x", b"y"), b"HTTP/1.1 200 OK"),
    ):
        first, *rest = answer.head.removesuffix(b"\r\n").split(b"\r\n")
        assert first == line
        assert tuple(tuple(each.split(b": ", 1)) for each in rest) == answer.headers


@pytest.mark.parametrize(
    ("use", "wire"),
    [
        (
            Use(name="x-api-key", field="api_key", origins=("https://a.example",)),
            {
                "in": "header",
                "name": "x-api-key",
                "field": "api_key",
                "origins": ["https://a.example"],
            },
        ),
        (
            Use(field="token", prefix="Token "),
            {
                "in": "header",
                "name": "Authorization",
                "field": "token",
                "prefix": "Token ",
                "origins": [],
            },
        ),
        (
            Use(scheme="basic", username_field="u", password_field="p"),
            {
                "in": "header",
                "name": "Authorization",
                "scheme": "basic",
                "username_field": "u",
                "password_field": "p",
                "origins": [],
            },
        ),
    ],
)
def test_use_says_where_the_value_goes(use: Use, wire: dict[str, object]) -> None:
    """In OpenAPI's words; members that do not apply are left out."""
    assert use_document(use) == wire
    clock = ManualClock()
    desk = Desk(clock)
    prepared = prepare(desk.kv("v1"), replace(SPEC, use=use), now=clock.now(), wall=clock.wall())
    assert prepared is not None
    assert json.loads(prepared.ok.body)["use"] == wire


def test_answers_do_not_print_what_they_carry() -> None:
    """Neither an answer nor what prepares it shows a value in its repr."""
    clock = ManualClock()
    desk = Desk(clock)
    prepared = prepare(desk.kv("v1"), SPEC, now=clock.now(), wall=clock.wall())
    assert prepared is not None
    assert CANARY.encode() in prepared.ok.body
    assert CANARY not in repr(prepared)
    assert CANARY not in repr(prepared.ok.with_header(b"a", b"b"))


# --- times ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "use_until_in", "tick"),
    [
        (inf, 30.0, 1.0),
        (3600.0, 30.0, 1.0),
        (30.0, 25.0, 1.0),
        (10.0, 5.0, 0.5),
        (5.5, 0.5, 0.275),
        (5.1, 0.1, 0.1),
        (5.0, 5.0, 0.25),
        (2.0, 2.0, 0.1),
        (0.5, 0.5, 0.025),
    ],
)
def test_use_until_leaves_the_margin_until_the_margin_is_reached(
    expires_in: float, use_until_in: float, tick: float
) -> None:
    """Within the margin a value that lives is still handed out, to its expiry."""
    got = times(1000.0 + expires_in, now=1000.0, hold=30.0, margin=5.0)
    assert got.use_until - 1000.0 == pytest.approx(use_until_in)
    assert got.tick_ends - 1000.0 == pytest.approx(tick)


lives = st.floats(1e-3, 1e7) | st.just(inf)


@given(lives, st.floats(0.1, 600), st.floats(0, 600), st.floats(0, 1))
def test_no_answer_overstates_at_any_moment_of_its_tick(
    life: float, hold: float, margin: float, part: float
) -> None:
    """Counted from any instant of the tick, no stated end lies behind what is promised or lives."""
    now, wall = 5000.0, EPOCH
    expires_at = now + life
    ends = times(expires_at, now=now, hold=hold, margin=margin)
    sent = now + (ends.tick_ends - now) * part
    assert now < ends.tick_ends <= min(now + TICK, ends.use_until)
    assert ends.use_until <= min(expires_at, now + hold)
    # A caller who counts the stated span from his own sending, as models.py tells him to:
    assert min(expires_at, sent + (ends.use_until - now)) <= ends.promised + 1e-9
    assert ends.promised <= expires_at
    assert ends.use_until <= sent + hold

    clock = ManualClock(now=now, epoch=wall - now)
    desk = Desk(clock, hold=hold, margin=margin)
    entry = desk.lease("v1", life=life) if life < inf else desk.kv("v1")
    prepared = prepare(entry, desk.specs[entry.key.name], now=now, wall=wall)
    assume(prepared is not None)
    assert prepared is not None
    stated = json.loads(prepared.ok.body)
    assert parse_time(stated["use_until"]) <= wall + (ends.use_until - now)
    if life < inf:
        assert stated["expires_in"] >= 0
        assert sent + stated["expires_in"] <= expires_at + 1e-6
        assert parse_time(stated["expires_at"]) <= wall + life


# --- when an answer stops being one -----------------------------------------------------


def test_an_answer_holds_for_its_tick_and_its_entry() -> None:
    """Not after the tick, not for another entry, not once the wall clock moved."""
    clock = ManualClock()
    desk = Desk(clock)
    entry = desk.kv("v1")
    now, wall = clock.now(), clock.wall()
    prepared = prepare(entry, SPEC, now=now, wall=wall)
    assert prepared is not None
    assert prepared.holds(entry, now + 0.9, wall + 0.9)
    assert not prepared.holds(entry, now + 1.0, wall + 1.0)
    assert not prepared.holds(entry, now + 0.5, wall + 0.4)
    assert not prepared.holds(entry, now + 0.5, wall + 0.6)
    assert not prepared.holds(None, now, wall)
    assert not prepared.holds(desk.kv("v1", state=State.STALE), now, wall)


def test_what_ended_since_the_keeper_looked_is_not_prepared() -> None:
    """A token that ended, or a wall clock that moved towards a provider's date, counts now."""
    clock = ManualClock()
    desk = Desk(clock)
    leased, dated = desk.lease("v1", life=60.0), desk.kv("v1", own_expiry_in=4.0)
    desk.generation.ended = True
    assert prepare(leased, desk.specs["db"], now=clock.now(), wall=clock.wall()) is None
    clock.jump_wall(3.0)
    soon = prepare(dated, desk.specs["web"], now=clock.now(), wall=clock.wall())
    assert soon is not None
    assert json.loads(soon.ok.body)["expires_in"] <= 1.0
    clock.jump_wall(1.0)
    assert prepare(dated, desk.specs["web"], now=clock.now(), wall=clock.wall()) is None


def test_a_wall_clock_set_back_lengthens_nothing() -> None:
    """A provider's date does not move away because our wall clock did."""
    clock = ManualClock()
    desk = Desk(clock)
    entry = desk.kv("v1", own_expiry_in=4.0)
    clock.jump_wall(-1000.0)
    prepared = prepare(entry, desk.specs["web"], now=clock.now(), wall=clock.wall())
    assert prepared is not None
    assert json.loads(prepared.ok.body)["expires_in"] <= 4.0
