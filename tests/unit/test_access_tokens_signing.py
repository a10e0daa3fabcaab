"""``access.tokens.signing``: what is signed is what is read, and nobody else can sign."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.principal import Grant
from broker.access.tokens.model import AUDIENCE_CHARACTERS, BYTES, GENERATIONS, Claims
from broker.access.tokens.signing import (
    CURRENT,
    Key,
    Keys,
    chance_for_id,
    decode,
    encode,
    end_of,
    key_of,
    new_id,
    new_keys,
)
from broker.errors import TokensUnavailable
from broker.protocol.token_format import LONGEST, content, signed, well_formed
from broker.secret import SecretValue

SECRET = "k" * 43
KEY = Key("k1", SecretValue(SECRET))
OTHER = Key("k1", SecretValue("o" * 43))

NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.isprintable)
NAMES = st.lists(NAME, unique=True, max_size=4).map(tuple)


@st.composite
def claims(draw: st.DrawFn) -> Claims:
    credentials = draw(NAMES)
    line = draw(st.lists(NAME, max_size=3).map(tuple))
    grant = Grant(
        draw(NAME),
        draw(NAME),
        draw(NAME),
        draw(st.sampled_from(["", "https://mcp.example"])),
        draw(NAMES),
        credentials,
        draw(st.integers(0, 2**42)) / 1000,
        draw(st.integers(0, 2**42)) / 1000,
        line[-1] if line else "",
    )
    first = draw(st.sampled_from([credentials, (*credentials, "more")]))
    return Claims(grant, line, first, draw(st.integers(0, 2**43)))


@given(claims())
def test_what_is_signed_is_what_is_read(said: Claims) -> None:
    """All claims come through, and only under the right key."""
    token = encode(said, KEY)
    name, raw = key_of(token)
    assert well_formed(token)
    assert name == "k1"
    assert decode(raw, KEY) == said
    assert decode(raw, OTHER) is None


@given(claims(), st.data())
def test_no_bit_can_be_changed(said: Claims, data: st.DataObject) -> None:
    """A token with another content, its checksum made anew, is refused before it is read."""
    raw = content(encode(said, KEY))
    assert raw is not None
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    changed = bytearray(raw)
    changed[at // 8] ^= 1 << at % 8
    name, found = key_of(signed(bytes(changed)))
    assert name != "k1" or decode(found, KEY) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x01", b"\x02" + bytes(60), b"\x01\xff" + b"\xff" * 60, bytes(80)],
    ids=["empty", "short", "version", "no text", "zeros"],
)
def test_another_content_names_no_key(raw: bytes) -> None:
    """Short, of another version, with a name that is no text."""
    assert key_of(signed(raw))[0] == ""


def test_the_widest_token_fits_into_a_header() -> None:
    """Whatever a wish may hold, below another of the same size, with the longest line."""
    names = ("s", "h:" + "/" * (AUDIENCE_CHARACTERS - 2), *(f'{n}"\\' * 6 for n in range(10, 62)))
    while len(json.dumps(names).encode()) < BYTES:
        names += ("é",)
    token_id = new_id(KEY, "c" * 63, 1e9, bytes(chance_for_id()))
    grant = Grant(token_id, "s", "c" * 63, names[1], names[2:], (), 1e9, 1e9)
    credentials = ("ü" * 1000,)
    wide = Claims(grant, (token_id,) * GENERATIONS, credentials, 10**13)
    assert len(encode(wide, KEY)) < LONGEST


def test_an_id_tells_its_owner_and_its_end() -> None:
    """To who has the key; for everybody else it is 32 characters."""
    keys = Keys(new_keys("k1", b"a" * 32))
    token_id = new_id(keys.current, "search-mcp", 1_800_000_000.5, b"b" * chance_for_id())
    assert len(token_id) == 32
    assert keys.owner(token_id, "search-mcp")
    assert not keys.owner(token_id, "other-mcp")
    assert not Keys(new_keys("k1", b"z" * 32)).owner(token_id, "search-mcp")
    assert end_of(token_id) == 1_800_000_001
    for other in ("", "x" * 31, "x" * 33, "!" * 32):
        assert end_of(other) is None
        assert not keys.owner(other, "search-mcp")


def test_keys_can_be_replaced() -> None:
    """The new one signs, the old one verifies as long as it stays in the document."""
    before = Keys(new_keys("k1", b"a" * 32))
    data = {**new_keys("k1", b"a" * 32), "k2": SecretValue(SECRET), CURRENT: SecretValue("k2")}
    after = Keys(data)
    assert after.keep(before)
    assert after.get("k1") is before.current
    assert after.current.name == "k2"
    gone = Keys({"k2": SecretValue(SECRET), CURRENT: SecretValue("k2")})
    assert not gone.keep(after)
    other = Keys(new_keys("k1", b"z" * 32))
    assert not other.keep(before)
    assert other.current is not before.current


@pytest.mark.parametrize(
    "data",
    [
        {},
        {CURRENT: "k1"},
        {"k1": SECRET},
        {CURRENT: "k2", "k1": SECRET},
        {CURRENT: "k1", "k1": "short"},
        {CURRENT: "K 1", "K 1": SECRET},
    ],
    ids=str,
)
def test_a_document_of_keys_that_will_not_do(data: dict[str, str]) -> None:
    """No current key, a missing or weak one: nothing is signed with less."""
    with pytest.raises(TokensUnavailable):
        Keys({name: SecretValue(text) for name, text in data.items()})


def test_a_key_does_not_print() -> None:
    """Neither its text nor what is derived from it."""
    shown = repr(KEY)
    assert SECRET not in shown
    assert KEY.sign(b"").hex() not in shown
    assert not KEY.same(replace_name(KEY))
    assert not KEY.same(None)


def replace_name(key: Key) -> Key:
    return Key(key.name, SecretValue("x" * 43))
