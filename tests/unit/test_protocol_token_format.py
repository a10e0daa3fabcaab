"""``protocol.token_format``: found by scanners, refused early when mistyped."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.token_format import (
    LONGEST,
    PATTERN,
    checksum,
    content,
    mask_tokens,
    opaque,
    signed,
    well_formed,
)

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CHANCE = st.binary(min_size=32, max_size=32)
CONTENT = st.binary(min_size=70, max_size=900)
TOKENS = CHANCE.map(opaque) | CONTENT.map(signed)


@given(CHANCE)
def test_an_opaque_token_has_one_length_and_all_its_chance(chance: bytes) -> None:
    """Prefix, 43 characters that stand for the 256 bits, six of checksum."""
    token = opaque(chance)
    assert re.fullmatch(rb"mbt_[0-9A-Za-z]{49}", token)
    number = 0
    for sign in token[4:-6].decode():
        number = number * 62 + BASE62.index(sign)
    assert number.to_bytes(32, "big") == chance
    assert well_formed(token)


@given(CONTENT)
def test_a_signed_token_carries_its_content(carried: bytes) -> None:
    """What was put in comes out."""
    assert well_formed(signed(carried))
    assert content(signed(carried)) == carried


@given(TOKENS, st.sampled_from(["{}", "Authorization: Bearer {}\n", "a,{},b", '{{"token":"{}"}}']))
def test_a_secret_scanner_finds_it(token: bytes, text: str) -> None:
    """One regular expression finds the whole of any token in any text, and the mask covers it."""
    shown = text.format(token.decode())
    assert re.findall(PATTERN, shown) == [token.decode()]
    assert mask_tokens(shown) == text.format("***")


@given(TOKENS, st.data())
def test_a_slip_is_noticed(token: bytes, data: st.DataObject) -> None:
    """One wrong character, one too few or two swapped: not well-formed."""
    at = data.draw(st.integers(4, len(token) - 2))
    other = data.draw(st.sampled_from(BASE62)).encode()
    changed = token[:at] + other + token[at + 1 :]
    assert well_formed(changed) == (changed == token)
    swapped = token[:at] + token[at + 1 : at + 2] + token[at : at + 1] + token[at + 2 :]
    assert well_formed(swapped) == (swapped == token)
    assert not well_formed(token[:at] + token[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"mbt_",
        b"mbs_",
        b"mbx_" + bytes(49),
        b"ghp_" + b"A" * 49,
        b"mbt_" + b"A" * 48,
        b"mbs_" + b"A" * LONGEST + checksum(b"mbs_" + b"A" * LONGEST),
    ],
)
def test_something_else_is_no_token(text: bytes) -> None:
    """Other prefixes, lengths and makers."""
    assert not well_formed(text)


def test_text_that_is_no_base64_carries_nothing() -> None:
    """A checksum that is right makes no content of what is none; nothing is skipped over."""
    for body in (b"A" * 93, b"AAAA!AAA", b"====", b"AA AA"):
        token = b"mbs_" + body
        assert content(token + checksum(token)) is None


@pytest.mark.parametrize("size", [70, 71, 72])
def test_a_token_has_one_spelling(size: int) -> None:
    """Others of the same content are none: scanners would miss them, memory keep each of them."""
    token = signed(bytes((251, 255, 254)) * 30 + bytes(size))
    head = token[:-6]
    twins = [head[:-1] + one.encode() for one in (*BASE62, "-", "_")]
    twins.append(head[:4] + head[4:].replace(b"-", b"+").replace(b"_", b"/"))
    for twin in twins:
        said = content(twin + checksum(twin))
        assert (said == content(token)) == (twin == head)


def test_a_text_without_tokens_stays_as_it_is() -> None:
    """Names that only look alike are not masked."""
    for text in ("mbt_short", "nothing", "xmbt_" + "A" * 49, ""):
        assert mask_tokens(text) == text
