"""Masking live secrets wherever they turn up in a text [pure].

Duty: find every live value in a text, as it is and as encoders write it, and put ``***`` there.
Not its duty: guessing what looks like a secret; deciding when a value stops being live (its
owner calls ``forget``, some time after the last promise given for it has passed).
Rules:

* a value is found exact and whole: raw, JSON-escaped (also Python's ``repr``), percent-encoded
  (also with ``+`` for a space), base64 and base64url, also inside a longer base64 text, such
  as ``user:password`` of basic authentication. Escapes are undone before looking, up to three
  layers deep, so that it does not matter which characters an encoder chose to escape;
* a value is found without the white space around it too, as who reads a file strips it; one of
  several lines, and a long one in base64, also where its lines were broken or indented anew;
* inside a longer base64 text the first and the last letter of a value share bits with their
  neighbours and stay: at most four bits at either end;
* scoped tokens are masked too, by their form: nobody keeps them to be compared with;
* a value under ``SHORTEST`` characters is not masked: it would turn every text into stars;
* the work for a text depends on the text alone: one dictionary look-up a character, and a
  walk along one path where a window matches, be there ten values or ten thousand, and
  be they as alike as keys of one provider;
* one thread may learn and forget while others mask.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from broker.protocol.token_format import mask_tokens
from broker.protocol.windows import WINDOW, Windows, discount
from broker.secret import MASK, SecretValue

SHORTEST: Final = WINDOW
"""Characters of the shortest value that is masked."""
CUT: Final = "… (cut)"

_URL_SAFE: Final = str.maketrans("+/", "-_")
_LAYERS: Final = 3
"""Such as a URL, in JSON, in the JSON that the MCP SDK writes of a result."""

_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_BACKSLASH: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u[0-9a-fA-F]{4}|\\U00(?:10|0[0-9a-fA-F])[0-9a-fA-F]{4}"
    r"|(?:\\x[0-9a-fA-F]{2})+"
    r"""|\\["'\\/abfnrtv]"""
)
_LETTERS: Final = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


_BREAK: Final = re.compile(r"[\r\n]+[ \t|>]*")
"""A line's end and what indents the next: by ``textwrap``, in YAML, in an exception group."""
_BREAKS: Final = 12
"""Characters that a line's end may take once escaped and indented."""
BROKEN: Final = 57
"""Octets of a value that is longer in base64 than the usual line (76 letters)."""


class Redactor:
    """The live secrets of one process."""

    __slots__ = ("_learned", "_lines", "_reach", "_windows")

    def __init__(self) -> None:
        self._learned: dict[str, int] = {}
        self._windows = Windows()
        self._lines = Windows()
        """What is looked for in a text whose lines were joined."""
        self._reach = 0

    def __repr__(self) -> str:
        return f"Redactor({MASK})"

    def learn(self, value: SecretValue) -> None:
        """Mask ``value`` from now on; as often as it is learned it must be forgotten."""
        text = value.reveal()
        self._learned[text] = self._learned.get(text, 0) + 1
        if self._learned[text] == 1:
            for form in _forms(text):
                self._windows.add(form)
                self._reach = max(self._reach, _reach(form))
            for form in _joined_forms(text):
                self._lines.add(form)
                self._reach = max(self._reach, _reach(form) + _BREAKS * (len(form) // BROKEN + 1))

    def forget(self, value: SecretValue) -> None:
        """Undo one ``learn``; a value that was never learned is ignored."""
        text = value.reveal()
        if discount(self._learned, text) == 1:
            for form in _forms(text):
                self._windows.remove(form)
            for form in _joined_forms(text):
                self._lines.remove(form)

    def mask(self, text: str, *, limit: int | None = None) -> str:
        """Return ``text`` with every live value as ``***``.

        Args:
            text: anything about to leave the process.
            limit: look at this many characters at most. A longer text is cut so far below
                that no value can stand half on this side, and ends in ``… (cut)``.
        """
        text = mask_tokens(text, MASK)
        keep, tail = len(text), ""
        if limit is not None and len(text) > limit:
            keep, tail = max(0, limit - self._reach), CUT
            text = text[:limit]
        found = sorted(self._found(text)) if self._learned and len(text) >= SHORTEST else ()
        if not found:
            return text[:keep] + tail
        return "".join(_masked(text, found, keep)) + tail

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        for view in _views(text):
            for start, end in self._windows.find(view.text):
                yield view.starts[start], view.starts[end]
            if self._lines and ("\n" in view.text or "\r" in view.text):
                joined, places = _joined(view.text)
                for start, end in self._lines.find(joined):
                    yield view.starts[places[start]], view.starts[places[end - 1] + 1]


def _masked(text: str, found: Sequence[tuple[int, int]], keep: int) -> Iterator[str]:
    """The pieces of ``text`` up to ``keep``; a value that begins before is masked whole."""
    done = 0
    for start, end in found:
        if start >= keep:
            break
        # Values may overlap: then one mask stands for all of them.
        if start >= done:
            yield text[done:start]
            yield MASK
        done = max(done, end)
    yield text[done:keep]


class _View(NamedTuple):
    """A text with some layers of escapes undone."""

    text: str
    starts: Sequence[int]
    """Where in the original each character begins, and at last where it ends."""


def _views(text: str) -> Iterator[_View]:
    """The text itself and, where it has escapes, the text without them, layer by layer."""
    layer = [_View(text, range(len(text) + 1))]
    seen = {text}
    yield layer[0]
    for _ in range(_LAYERS):
        above, layer = layer, []
        for view in above:
            for sign, pattern, decode in _ESCAPES:
                below = _without(view, pattern, decode) if sign in view.text else view
                if below.text not in seen:
                    seen.add(below.text)
                    layer.append(below)
                    yield below


def _without(
    view: _View, pattern: re.Pattern[str], decode: Callable[[str], Iterator[tuple[str, int]]]
) -> _View:
    pieces: list[str] = []
    starts: list[int] = []
    done = 0
    for match in pattern.finditer(view.text):
        at = match.start()
        pieces.append(view.text[done:at])
        starts.extend(view.starts[done:at])
        for character, width in decode(match.group()):
            pieces.append(character)
            starts.append(view.starts[at])
            at += width
        done = match.end()
    pieces.append(view.text[done:])
    starts.extend(view.starts[done:])
    return _View("".join(pieces), starts)


def _joined(text: str) -> tuple[str, Sequence[int]]:
    """The text without its line ends, and where in it each character is from."""
    pieces: list[str] = []
    places: list[int] = []
    done = 0
    for match in _BREAK.finditer(text):
        pieces.append(text[done : match.start()])
        places.extend(range(done, match.start()))
        done = match.end()
    pieces.append(text[done:])
    places.extend(range(done, len(text)))
    return "".join(pieces), places


def _percent_decoded(escaped: str) -> Iterator[tuple[str, int]]:
    """Characters of a run of ``%XX``, each with the width it had in the run."""
    yield from _characters(bytes.fromhex(escaped.replace("%", "")), width=3)


def _unescaped(escaped: str) -> Iterator[tuple[str, int]]:
    """Characters of one backslash escape, or of a run of those by octet, with their widths."""
    sign = escaped[1]
    if sign == "x":
        yield from _characters(bytes.fromhex(escaped.replace("\\x", "")), width=4)
    elif sign in "uU":
        pair = escaped[1:].split("\\")
        units = b"".join(bytes.fromhex(unit[1:]) for unit in pair)
        encoding = "utf-32-be" if sign == "U" else "utf-16-be"
        yield units.decode(encoding, "surrogatepass"), len(escaped)
    else:
        yield _LETTERS.get(sign, sign), len(escaped)


def _characters(octets: bytes, *, width: int) -> Iterator[tuple[str, int]]:
    """UTF-8 characters, each with its octets times ``width``; a stray octet is Latin-1."""
    for character in octets.decode("utf-8", "surrogateescape"):
        stray = "\udc80" <= character <= "\udcff"
        size = 1 if stray else len(character.encode())
        yield (chr(ord(character) - 0xDC00) if stray else character), size * width


def _forms(text: str) -> Iterator[str]:
    """What to look for so that ``text`` is found in each encoding, without repetition."""
    found = {
        form
        for one in (text, text.strip())
        if len(one) >= SHORTEST
        for form in (one, one.replace(" ", "+"), *_base64_forms(one))
    }
    yield from sorted(found)


def _joined_forms(text: str) -> Iterator[str]:
    """What to look for in a text whose lines were joined."""
    text = text.strip()
    found = {_BREAK.sub("", text)} - {text}
    if len(text) > BROKEN:
        found |= _base64_forms(text)
    yield from sorted(form for form in found if len(form) >= SHORTEST)


def _base64_forms(text: str) -> set[str]:
    octets = text.encode("utf-8", "surrogatepass")
    standalone = b64encode(octets).decode()
    encoded = {standalone, standalone.rstrip("=")}
    for before in range(3):
        # Inside a longer text, `before` octets (modulo 3) stand before the value; six bits a
        # letter: only letters that no neighbour's bits are in can be known.
        letters = b64encode(bytes(before) + octets).decode()
        encoded.add(letters[-(-8 * before // 6) : 8 * (before + len(octets)) // 6])
    return encoded | {form.translate(_URL_SAFE) for form in encoded}


def _reach(form: str) -> int:
    """How many characters ``form`` takes at most once escaped in three layers."""
    # Letters and digits of ASCII are never escaped; other ASCII becomes `%5C%5C%5C%22` (JSON
    # twice, percent once), twelve characters at most; all else four times `%2525F0`.
    plain = sum(1 for letter in form if letter.isascii() and letter.isalnum())
    foreign = sum(1 for letter in form if not letter.isascii())
    return plain + 12 * (len(form) - plain - foreign) + 28 * foreign


_ESCAPES: Final = (("%", _PERCENT, _percent_decoded), ("\\", _BACKSLASH, _unescaped))
