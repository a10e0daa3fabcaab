"""Redaction: live values are masked in every encoding; their number does not change the cost."""

from __future__ import annotations

import base64
import gc
import json
import random
import string
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest

from broker.protocol.redaction import CUT, SHORTEST, Redactor
from broker.protocol.token_format import opaque, signed
from broker.protocol.windows import CROWD, WINDOW, Windows
from broker.secret import SecretValue

PLAIN = "s3cr3tValue0123456789"
ODD = 'p"a/ss\\w+ö?r d&%41\n€😀='


def redactor(*values: str) -> Redactor:
    """A redactor that has learned ``values``."""
    made = Redactor()
    for value in values:
        made.learn(SecretValue(value))
    return made


def percent_all(text: str) -> str:
    """Every octet escaped, in lower case, as no library does but any may."""
    return "".join(f"%{octet:02x}" for octet in text.encode())


def basic(text: str, user: str) -> str:
    return base64.b64encode(f"{user}:{text}".encode()).decode()


ENCODERS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()), safe=""),
    "percent": lambda text: quote(text, safe=""),
    "percent, path": lambda text: quote(text, safe="/:@!$&'()*+,;="),
    "percent, form": quote_plus,
    "percent, every octet": percent_all,
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "query string": lambda text: urlencode({"key": text})[4:],
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "JSON, every character": lambda text: "".join(
        f"\\u{int.from_bytes(text.encode('utf-16-be')[i : i + 2]):04x}"
        for i in range(0, len(text.encode("utf-16-be")), 2)
    ),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text)))[7:-7],
    "percent in JSON in JSON": lambda text: json.dumps(json.dumps(quote(text, safe="/\\")))[3:-3],
    "base64url without padding": lambda text: (
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    ),
    "JSON, every character, upper case": lambda text: "".join(
        f"\\u{int.from_bytes(text.encode('utf-16-be')[i : i + 2]):04X}"
        for i in range(0, len(text.encode("utf-16-be")), 2)
    ),
    "percent in JSON": lambda text: json.dumps(quote(text, safe="/\\"))[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "repr of octets": lambda text: repr(text.encode())[2:-1],
}


@pytest.mark.parametrize("value", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
def test_a_value_is_masked_in_every_encoding(value: str, encoder: Callable[[str], str]) -> None:
    """A live value disappears whole, however it is written, and its surroundings stay."""
    text = f"GET /search?key={encoder(value)} answered 401"
    assert redactor(value).mask(text) == "GET /search?key=*** answered 401"


@pytest.mark.parametrize("user", ["", "a", "ab", "abc", "user@example.com"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_inside_a_longer_base64_text_is_masked(
    user: str, encode: Callable[[bytes], bytes]
) -> None:
    """Basic authentication hides the password at any of three alignments; all are known."""
    header = encode(f"{user}:{PLAIN}".encode()).decode()
    masked = redactor(PLAIN).mask(header)
    assert "***" in masked
    # What is left holds at most four bits at either end of the value.
    left, right = masked.split("***")
    known = base64.b64decode(left + "=" * (-len(left) % 4) if len(left) % 4 != 1 else left[:-1])
    assert PLAIN[:1].encode() not in known.removeprefix(f"{user}:".encode())
    assert len(right) <= 4


@pytest.mark.parametrize(
    "text", ["", "a", "nothing to see", "%", "\\", "%zz \\q \\u12 %4", "\\ud800"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    """What holds no live value is returned unchanged, broken escapes included."""
    assert redactor(PLAIN, ODD).mask(text) == text
    assert Redactor().mask(text) == text


def test_short_values_are_not_masked() -> None:
    """A value below the limit would turn every text into stars; at the limit it is masked."""
    short, enough = "abcde", "abcdef"
    assert len(short) == SHORTEST - 1
    assert redactor(short, "", "a").mask("abcde fghij a") == "abcde fghij a"
    assert redactor(enough).mask("xabcdefx") == "x***x"


def test_the_longest_value_wins_and_overlaps_are_one_mask() -> None:
    """Of values that begin alike the longest is masked; of overlapping ones nothing is left."""
    assert redactor("secret-1", "secret-1234").mask("<secret-1234>") == "<***>"
    assert redactor("secret-1234", "secret-1").mask("<secret-12>") == "<***2>"
    assert redactor("abcdefgh", "efghijkl").mask("<abcdefghijkl>") == "<***>"
    assert redactor("abcdefgh", "cdefgh").mask("<abcdefgh>") == "<***>"


def test_each_occurrence_is_masked() -> None:
    """Not only the first one."""
    assert redactor(PLAIN).mask(f"{PLAIN},{PLAIN} {PLAIN}") == "***,*** ***"


def test_a_forgotten_value_is_no_longer_masked() -> None:
    """forget() undoes one learn(): equal values of two credentials are told apart by counting."""
    subject = redactor(PLAIN, PLAIN, ODD)
    subject.forget(SecretValue(PLAIN))
    assert subject.mask(PLAIN) == "***"
    subject.forget(SecretValue(PLAIN))
    assert subject.mask(PLAIN) == PLAIN
    assert subject.mask(ENCODERS["base64"](PLAIN)) == ENCODERS["base64"](PLAIN)
    assert subject.mask(ODD) == "***"
    subject.forget(SecretValue(PLAIN))
    subject.forget(SecretValue("never learned"))
    subject.learn(SecretValue(PLAIN))
    assert subject.mask(PLAIN) == "***"


def test_the_encoded_form_of_one_value_may_be_another_value() -> None:
    """Forgetting one of two values that share a form leaves the other masked."""
    other = base64.b64encode(PLAIN.encode()).decode()
    subject = redactor(PLAIN, other)
    subject.forget(SecretValue(PLAIN))
    assert subject.mask(other) == "***"
    subject.learn(SecretValue(PLAIN))
    subject.forget(SecretValue(other))
    assert subject.mask(f"{PLAIN} {other}") == "*** ***"


def test_forgetting_leaves_nothing_behind() -> None:
    """After all values are forgotten the index is empty: it does not grow over the years."""
    rng = random.Random(3)
    values = ["sk-live-" + "".join(rng.choices(string.ascii_letters, k=24)) for _ in range(200)]
    windows = Windows()
    for value in values:
        windows.add(value)
    assert windows
    rng.shuffle(values)
    for value in values:
        windows.remove(value)
    assert not windows


def test_the_redactor_does_not_print_what_it_knows() -> None:
    """Its repr is a mask."""
    assert repr(redactor(PLAIN)) == "Redactor(***)"


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
def test_a_cut_never_leaves_half_a_value(encoder: Callable[[str], str]) -> None:
    """Wherever a value stands near the limit, no part of it is left on this side."""
    subject = redactor(ODD)
    written = encoder(ODD)
    for before in range(900, 1001, 5):
        masked = subject.mask("." * before + written + "." * 2000, limit=1000)
        assert masked.endswith(CUT)
        assert not masked.removesuffix(CUT).replace(".", "").replace("***", "")


def test_a_text_within_the_limit_is_not_cut() -> None:
    """A limit changes nothing for a text that keeps to it."""
    assert redactor(PLAIN).mask(f"<{PLAIN}>", limit=len(PLAIN) + 2) == "<***>"
    assert Redactor().mask("12345678", limit=8) == "12345678"
    assert Redactor().mask("123456789", limit=8) == "12345678" + CUT


def test_values_that_are_very_alike_are_told_apart() -> None:
    """Many long values with one beginning: each is found, near misses are not."""
    common = "-----BEGIN PRIVATE KEY-----" * 100
    values = [f"{common}{i:05}" for i in range(0, 40, 2)]
    subject = redactor(*values)
    assert subject.mask(f"<{values[7]}>") == "<***>"
    assert subject.mask(f"<{common}00015>") == f"<{common}00015>"
    for value in values:
        subject.forget(SecretValue(value))
    assert subject.mask(values[7]) == values[7]


def test_a_string_too_short_for_a_window_is_an_error() -> None:
    """The index refuses what it could never find."""
    with pytest.raises(ValueError, match=f"{WINDOW} characters"):
        Windows().add("x" * (WINDOW - 1))
    Windows().remove("x")


def steps(work: Callable[[], Any]) -> int:
    """How many bytecodes of Python ``work`` runs: a count, not a time."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def provider_keys(count: int) -> list[str]:
    """Keys as a provider makes them: one beginning, several lengths."""
    rng = random.Random(7)
    letters = string.ascii_letters + string.digits
    return [f"sk-live-{''.join(rng.choices(letters, k=20 + i % 30))}" for i in range(count)]


@cache
def crowd() -> Redactor:
    """Ten thousand live values, learnt once for all tests that only mask."""
    return redactor(*provider_keys(10_000))


def test_the_work_for_a_text_does_not_depend_on_the_number_of_values() -> None:
    """Ten values or ten thousand: for plain texts the same number of steps, to the last one."""
    few, many = redactor(*provider_keys(10)), crowd()
    text = 'INFO request {"path": "/v1/credentials/search-api", "status": 200} \\" %2F' * 5
    assert few.mask(text) == many.mask(text) == text
    assert steps(lambda: few.mask(text)) == steps(lambda: many.mask(text))


def test_near_misses_cost_a_path_not_a_crowd() -> None:
    """A text full of almost-keys walks one path each: a bound that the number does not move."""
    keys = provider_keys(10_000)
    few, many = redactor(*keys[:10]), crowd()
    text = "sk-live-" * 50
    plain = steps(lambda: few.mask("........" * 50))
    # At most WINDOW ends and CROWD remainders at each of the few levels of a path.
    bound = plain + 50 * (WINDOW + CROWD) * 3 * 12
    assert steps(lambda: few.mask(text)) <= bound
    assert steps(lambda: many.mask(text)) <= bound
    masked = text + keys[9_876] + keys[5]
    assert many.mask(masked) == text + "******"


def test_masking_holds_while_another_thread_learns_and_forgets() -> None:
    """A value that stays live is masked at every moment, whatever comes and goes beside it."""
    keys = provider_keys(60)
    subject = redactor(*keys[:3])
    leaks: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            if subject.mask(keys[0]) != "***":
                leaks.append("leak")

    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    reader.start()
    try:
        for _ in range(20):
            for key in keys:
                subject.learn(SecretValue(key))
            for key in keys:
                subject.forget(SecretValue(key))
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert leaks == []


@pytest.mark.parametrize("token", [opaque(bytes(range(32))), signed(bytes(range(120)))])
def test_scoped_tokens_are_masked_by_their_form(token: bytes) -> None:
    """Though nobody taught them: in a header, in JSON, in a URL, and before a text is cut."""
    redactor = Redactor()
    text = token.decode()
    for form in ("Broker-Subject-Token: {}", '{{"token": "{}"}}', "https://x.example/?t={}&a=b"):
        assert redactor.mask(form.format(text)) == form.format("***")
    assert text[:20] not in redactor.mask("a" * 80 + " " + text, limit=100)


PEM = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *(base64.b64encode(bytes(range(i, i + 48))).decode() for i in range(12)),
        "-----END PRIVATE KEY-----",
        "",
    ]
)


def in_a_group(text: str) -> str:
    group = ExceptionGroup("several", [ExceptionGroup("inner", [ValueError(text)])])
    return "".join(traceback.format_exception(group))


@pytest.mark.parametrize(
    "write",
    [
        str.strip,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: textwrap.indent(text, "    "),
        lambda text: textwrap.indent(text, "> "),
        lambda text: textwrap.indent(text, "| "),
        in_a_group,
        lambda text: json.dumps(textwrap.indent(text, "  ")),
        lambda text: repr(in_a_group(text)),
        lambda text: text.replace("\n", ""),
        lambda text: base64.encodebytes(text.encode()).decode(),
        lambda text: base64.encodebytes(b"a" + text.encode() + b"bc").decode(),
        lambda text: "\r\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), 64)),
    ],
)
def test_a_value_of_several_lines_is_found_however_its_lines_are_broken(
    write: Callable[[str], str],
) -> None:
    """Nothing of it is left, and the text around it stays."""
    subject = redactor(PEM)
    masked = subject.mask(f"before\n{write(PEM)}\nafter\n")
    assert "***" in masked
    assert masked.startswith("before\n")
    assert masked.endswith("after\n")
    for line in PEM.splitlines():
        assert not line or line not in masked
        assert base64.b64encode(line.encode()).decode()[4:20] not in masked
    subject.forget(SecretValue(PEM))
    assert subject.mask(PEM) == PEM


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    """Who reads it from a file strips it; then it is sent, encoded and logged without."""
    subject = redactor(f"  {PLAIN}\n")
    assert subject.mask(f"<{PLAIN}>") == "<***>"
    assert subject.mask(base64.b64encode(PLAIN.encode()).decode()) == "***"
    assert subject.mask(f"<  {PLAIN}\n>") == "<***>"


def test_words_of_one_line_are_not_found_across_two() -> None:
    """Only a value that has lines itself, or is long in base64, is looked for so."""
    subject = redactor(PLAIN, PEM)
    broken = f"{PLAIN[:8]}\n{PLAIN[8:]}"
    assert subject.mask(broken) == broken


def test_the_work_for_lines_does_not_depend_on_the_number_of_values() -> None:
    """Nor with values that are looked for across line ends."""
    keys = [f"{key}\n{key[::-1]}" for key in provider_keys(1_000)]
    few, many = redactor(*keys[:10]), redactor(*keys)
    text = 'Traceback:\n    File "a.py", line 1\n  | ValueError: %2F \\" no\n' * 5
    assert few.mask(text) == many.mask(text) == text
    assert steps(lambda: few.mask(text)) == steps(lambda: many.mask(text))
    assert many.mask(f"<{keys[7]}>".replace("\n", "\n  | ")) == "<***>"
